import pytest
import torch

from topeng.adapt import methods
from topeng.errors import AdapterError
from topeng.models import LLaDAConfig, LLaDAModelLM, load_model
from topeng.recipe import AdapterOptions

OPTIONS = AdapterOptions(rank=4, alpha=8)
IDS = torch.randint(6, 500, (2, 20), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def logits(model):
    return model(input_ids=IDS).logits


def disturb(adapted):
    """Stands for training: every trainable weight moves."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("method", methods.METHODS)
def test_before_its_first_step_an_adapter_is_the_base(golden, method):
    base = logits(load_model(golden))
    adapted = methods.add_adapter(load_model(golden), method, OPTIONS, seed=0)
    torch.testing.assert_close(logits(adapted), base, atol=1e-5 * base.abs().max().item(), rtol=0)


@pytest.mark.parametrize("method", methods.METHODS)
def test_a_saved_adapter_on_the_plain_base_is_the_trained_model(golden, tmp_path, method):
    adapted = methods.add_adapter(load_model(golden), method, OPTIONS, seed=0)
    adapted.save_pretrained(str(tmp_path / "initial"))
    disturb(adapted)
    trained = logits(adapted)
    methods.save_adapter(adapted, method, tmp_path / "adapter", tmp_path / "initial")
    assert (trained - logits(load_model(golden))).abs().max() > 0.01
    loaded = methods.load_adapter(load_model(golden), tmp_path / "adapter")
    torch.testing.assert_close(logits(loaded), trained, atol=1e-5 * trained.abs().max().item(), rtol=0)
    rank = loaded.peft_config["default"].r
    assert rank == (8 if method == "pissa" else 4)


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


@pytest.mark.parametrize("method", methods.METHODS)
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
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            assert rates[id(parameter)] == pytest.approx(1.6e-2 if "lora_B" in name else 1e-3)


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
        (["q_prj"], "matches no linear layer; their names end in down_proj"),
        (".*nothing", "matches no linear layer"),
        (["q_proj", "lm_head"], "catches the vocabulary head"),
        (".*", "catches the vocabulary head"),
    ],
)
def test_targets_that_do_not_fit_are_refused(golden, targets, message):
    with pytest.raises(AdapterError, match=message):
        methods.add_adapter(load_model(golden), "lora", AdapterOptions(target_modules=targets), seed=0)


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], r".*\.(q|v)_proj"])
def test_targets_by_name_and_by_pattern(golden, targets):
    adapted = methods.add_adapter(load_model(golden), "lora", AdapterOptions(target_modules=targets), seed=0)
    assert len(methods.adapter_layers(adapted)) == 4


def test_an_adapter_of_another_base_is_refused(golden, model, tmp_path):
    methods.add_adapter(load_model(golden), "lora", OPTIONS, seed=0).save_pretrained(str(tmp_path))
    with pytest.raises(AdapterError, match="does not fit this base"):
        methods.load_adapter(model, tmp_path)


def test_a_folder_without_an_adapter_is_refused(golden, tmp_path):
    with pytest.raises(AdapterError, match=r"it has no adapter_config\.json"):
        methods.load_adapter(load_model(golden), tmp_path)
