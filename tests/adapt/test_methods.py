import copy
import importlib.util
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import topeng
from topeng.adapt import methods
from topeng.adapt.export import export
from topeng.adapt.loading import load_adapter
from topeng.adapt.settings import AdapterOptions
from topeng.errors import AdapterError
from topeng.models import LLaDAConfig, LLaDAModelLM, find_device, load_config, load_model

OPTIONS = AdapterOptions(rank=4, alpha=8)
HERE = [name for name, method in methods.METHODS.items() if not method.quantized]  # 4 bits need a CUDA device
IDS = torch.randint(6, 400, (2, 20), generator=torch.Generator().manual_seed(0)).to(find_device())


@torch.no_grad()
def logits(model):
    return model(input_ids=IDS).logits


@pytest.mark.parametrize("method", HERE)
def test_before_its_first_step_an_adapter_is_the_base(golden, method):
    base = logits(load_model(golden))
    adapted = methods.add_adapter(load_model(golden), method, OPTIONS, seed=0)
    torch.testing.assert_close(logits(adapted), base, atol=1e-5 * base.abs().max().item(), rtol=0)


def train(adapted, method, rate=1e-2):
    """Three steps towards random tokens."""
    optimizer = methods.create_optimizer(adapted, method, OPTIONS, rate, 0.0)
    for _ in range(3):
        adapted(input_ids=IDS, head_positions=IDS > 0, targets=IDS.flatten()).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("method", HERE)
def test_a_saved_adapter_on_the_plain_base_is_the_trained_model(golden, tmp_path, method):
    adapted = methods.add_adapter(load_model(golden), method, OPTIONS, seed=0)
    adapted.save_pretrained(str(tmp_path / "initial"))
    train(adapted, method)
    trained = logits(adapted)
    methods.save_adapter(adapted, method, tmp_path / "adapter", tmp_path / "initial")
    assert (trained - logits(load_model(golden))).abs().max() > 0.1
    if methods.METHODS[method].full:
        loaded = load_model(tmp_path / "adapter")
    else:
        loaded = load_adapter(load_model(golden), tmp_path / "adapter")
        assert loaded.peft_config["default"].r == (8 if methods.METHODS[method].changes_base else 4)
        assert torch.equal(loaded.get_base_model().lm_head.weight, load_model(golden).lm_head.weight)
    torch.testing.assert_close(logits(loaded), trained, atol=1e-5 * trained.abs().max().item(), rtol=0)


@pytest.mark.parametrize("method", ["pissa", "dora", "full"])
def test_what_is_exported_answers_as_what_was_trained(checkpoint, tokenizer, tmp_path, method):
    adapted = methods.add_adapter(load_model(checkpoint), method, OPTIONS, seed=0)
    adapted.save_pretrained(str(tmp_path / "initial"))
    train(adapted, method)
    methods.save_adapter(adapted, method, tmp_path / "trained", tmp_path / "initial")
    if method == "full":
        tokenizer.save_pretrained(tmp_path / "trained")
    loaded, _ = topeng.load(checkpoint, tmp_path / "trained")
    base = None if method == "full" else checkpoint
    export(tmp_path / "trained", tmp_path / "merged", base=base, precision="f32")
    expected = logits(adapted)
    for model in (loaded, load_model(tmp_path / "merged")):
        torch.testing.assert_close(logits(model), expected, atol=1e-5 * expected.abs().max().item(), rtol=0)


@pytest.mark.parametrize("method", HERE)
def test_what_trains_has_a_gradient_and_nothing_else(golden, method):
    adapted = methods.add_adapter(load_model(golden), method, OPTIONS, seed=0)
    adapted(input_ids=IDS, head_positions=IDS > 0, targets=IDS.flatten()).loss.backward()
    own = {"dora": {"lora_magnitude_vector"}, "nara": {"lora_core"}}
    kinds = {"lora_A", "lora_B"} | own.get(method, set())
    for name, parameter in adapted.named_parameters():
        trains = methods.METHODS[method].full or any(kind in name for kind in kinds)
        assert (parameter.grad is not None) == trains, name


@pytest.mark.parametrize("method", HERE)
def test_parameters_are_counted_on_a_shape_without_weights(golden, method):
    config = load_config(golden)
    with torch.device("meta"):
        shape = LLaDAModelLM(config)
    adapted = methods.add_adapter(load_model(golden), method, OPTIONS, seed=0)
    assert methods.count_parameters(shape, method, OPTIONS) == methods.trainable_share(adapted)


def test_pissa_takes_from_the_base_what_it_gives_to_the_adapter(golden):
    plain = load_model(golden)
    adapted = methods.add_adapter(load_model(golden), "pissa", OPTIONS, seed=0)
    with adapted.disable_adapter():
        residual = logits(adapted)
    assert (residual - logits(plain)).abs().max() > 0.1
    layer = methods.adapter_layers(adapted)[0]
    weight = plain.model.layers[0].self_attn.q_proj.weight
    top = torch.linalg.svdvals(weight)[:4]
    torch.testing.assert_close(torch.linalg.svdvals(layer.get_delta_weight("default"))[:4], top, rtol=0.02, atol=0)


def test_pissa_is_seeded(golden):
    torch.manual_seed(99)
    one = methods.add_adapter(load_model(golden), "pissa", OPTIONS, seed=0)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    other = methods.add_adapter(load_model(golden), "pissa", OPTIONS, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    for left, right in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize("method", HERE)
def test_a_restored_adapter_is_the_one_that_was_begun(golden, tmp_path, method):
    begun = methods.add_adapter(load_model(golden), method, OPTIONS, seed=0)
    begun.save_pretrained(str(tmp_path / "initial"))
    restored = methods.restore_adapter(load_model(golden), method, OPTIONS, 1, tmp_path / "initial")
    for (name, left), (_, right) in zip(begun.named_parameters(), restored.named_parameters(), strict=True):
        torch.testing.assert_close(left, right, atol=1e-6, rtol=0, msg=name)
    assert methods.trainable_share(restored) == methods.trainable_share(begun)


def test_lora_plus_gives_b_the_larger_rate(golden):
    adapted = methods.add_adapter(load_model(golden), "lora+", OPTIONS, seed=0)
    optimizer = methods.create_optimizer(adapted, "lora+", OPTIONS, 1e-3, 0.0)
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            of_b = "lora_B" in name
            assert groups[id(parameter)]["lr"] == pytest.approx(1.6e-2 if of_b else 1e-3)
            assert groups[id(parameter)]["name"] == ("B" if of_b else "A")


def test_rates_are_named_where_there_are_two(golden):
    for method, named in {"lora": {}, "lora+": {"learning_rate_A": 5e-4, "learning_rate_B": 8e-3}}.items():
        adapted = methods.add_adapter(load_model(golden), method, OPTIONS, seed=0)
        optimizer = methods.create_optimizer(adapted, method, OPTIONS, 1e-3, 0.0)
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
        assert methods.group_rates(optimizer, 5e-4) == pytest.approx(named)


@pytest.mark.skipif(torch.cuda.is_available(), reason="here 4 bits may be had")
def test_four_bits_are_refused_where_they_cannot_be_had():
    with pytest.raises(AdapterError, match="qlora keeps the base in 4 bits, which needs a CUDA device"):
        methods.check_method("qlora", "cpu")
    for method in HERE:
        methods.check_method(method, "cpu")


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="it is installed")
def test_four_bits_without_their_package_are_refused():
    with pytest.raises(AdapterError, match=r"qlora needs bitsandbytes. Install it with pip install 'topeng\[gpu\]'"):
        methods.check_method("qlora", "cuda")


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes")
def test_four_bits_train_as_the_weights_that_they_stand_for(golden, tmp_path):
    from bitsandbytes.functional import dequantize_4bit

    quantized, plain = methods.load_base(str(golden), "qlora"), load_model(golden)
    states = {name: weight for name, weight in quantized.named_parameters() if hasattr(weight, "quant_state")}
    with torch.no_grad():
        for name, weight in states.items():
            plain.get_parameter(name).copy_(dequantize_4bit(weight.data, weight.quant_state))
    adapted = [methods.add_adapter(model, "qlora", OPTIONS, seed=0).train() for model in (quantized, plain)]
    found = []
    for model in adapted:
        trains = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        for name in [name for name in trains if "lora_B" in name]:
            torch.nn.init.constant_(trains[name], 0.1)  # else A has no gradient
        loss = model(input_ids=IDS, head_positions=IDS > 0, targets=IDS.flatten()).loss
        loss.backward()
        found.append((loss.detach(), {name: weight.grad for name, weight in trains.items()}))
    assert len(states) == len(found[0][1]) / 2 == 14
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)
    methods.save_adapter(adapted[0], "qlora", tmp_path / "adapter", tmp_path)
    load_adapter(load_model(golden), tmp_path / "adapter")


def test_the_share_at_llada_8b_s_shape():
    with torch.device("meta"):
        model = LLaDAModelLM(LLaDAConfig())
    adapted = methods.add_adapter(model, "lora", AdapterOptions(rank=16), seed=0)
    trainable, total = methods.trainable_share(adapted)
    assert trainable == 41_943_040
    assert f"{trainable / total:.2%}" == "0.52%"


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["q_prj"], "matches no linear layer. Their names end in down_proj"),
        (".*nothing", "matches no linear layer"),
        (["q_proj", "lm_head"], "matches the vocabulary head"),
        (".*", "matches the vocabulary head"),
    ],
)
def test_targets_that_do_not_fit_are_refused(golden, targets, message):
    with pytest.raises(AdapterError, match=message):
        methods.add_adapter(load_model(golden), "lora", AdapterOptions(target_modules=targets), seed=0)


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], r".*\.(q|v)_proj"])
def test_targets_by_name_and_by_pattern(golden, targets):
    adapted = methods.add_adapter(load_model(golden), "lora", AdapterOptions(target_modules=targets), seed=0)
    assert len(methods.adapter_layers(adapted)) == 4


def test_an_adapter_of_a_deeper_base_is_refused(model, adapters):
    """Its further layers would be left out without a word."""
    with pytest.raises(AdapterError, match="no place for 4 of its weights"):
        load_adapter(model, adapters / "deeper")


def test_an_adapter_of_another_base_of_its_shape_is_refused(golden, tmp_path):
    """peft would take it without a word."""
    base, other = load_model(golden), load_model(golden)
    adapted = methods.add_adapter(copy.deepcopy(base), "lora", OPTIONS, seed=0)
    methods.save_adapter(adapted, "lora", tmp_path / "lora", tmp_path / "initial", "its/base")
    assert methods.adapter_layers(load_adapter(load_model(golden, dtype="bfloat16"), tmp_path / "lora"))
    with torch.no_grad():
        other.get_input_embeddings().weight.mul_(1.1)
    with pytest.raises(AdapterError, match="was trained on another base, its/base"):
        load_adapter(other, tmp_path / "lora")


def test_pickled_weights_are_not_read(model, adapters, tmp_path):
    shutil.copytree(adapters / "one", tmp_path / "one")
    (tmp_path / "one" / "adapter_model.safetensors").rename(tmp_path / "one" / "adapter_model.bin")
    with pytest.raises(AdapterError, match=r"it has no adapter_model\.safetensors"):
        load_adapter(model, tmp_path / "one")


@pytest.mark.parametrize("method", ["pissa", "olora"])
def test_a_rank_that_the_weights_do_not_have_is_refused(model, method):
    with pytest.raises(AdapterError, match=f"adapter.rank = 65 must be at most 64 for {method}"):
        methods.add_adapter(model, method, AdapterOptions(rank=65), seed=0)


@pytest.mark.parametrize("damage", ["another shape", "missing keys", "unknown targets"])
def test_a_base_is_as_it_was_after_an_adapter_that_does_not_fit(golden, model, tmp_path, damage):
    source = load_model(golden) if damage == "another shape" else copy.deepcopy(model)
    methods.add_adapter(source, "lora", OPTIONS, seed=0).save_pretrained(str(tmp_path / "other"))
    if damage == "missing keys":
        weights = load_file(tmp_path / "other" / "adapter_model.safetensors")
        save_file(dict(list(weights.items())[2:]), tmp_path / "other" / "adapter_model.safetensors")
    if damage == "unknown targets":
        file = tmp_path / "other" / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"target_modules": ["query"]}))
    before = logits(model)
    with pytest.raises(AdapterError, match="does not fit this base"):
        load_adapter(model, tmp_path / "other")
    assert not methods.adapter_layers(model)
    assert torch.equal(logits(model), before)
    adapted = methods.add_adapter(copy.deepcopy(model), "lora", OPTIONS, seed=0)
    adapted.save_pretrained(str(tmp_path / "fits"))
    train(adapted, "lora")
    assert torch.equal(logits(load_adapter(model, tmp_path / "fits")), before)


def test_a_folder_without_an_adapter_is_refused(golden, tmp_path):
    with pytest.raises(AdapterError, match=r"it has no adapter_config\.json"):
        load_adapter(load_model(golden), tmp_path)


@pytest.mark.parametrize(
    ("trainable", "total", "expected"),
    [
        (90_000_000, 8_000_000_000, True),
        (40_000_000, 8_000_000_000, False),
        (8 * 10**9, 8 * 10**9, False),
        (5, 50, False),
    ],
)
def test_a_large_adapter_is_worth_a_warning(trainable, total, expected):
    assert methods.is_large(trainable, total) is expected
