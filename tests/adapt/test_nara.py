"""An adapter whose update depends on the share of masks: what it computes, and who tells it the share."""

import copy
import math
from dataclasses import replace

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file
from test_foreign import change
from test_trainer import BATCHING, MASK, examples, losses, trainer

from topeng import load
from topeng.adapt import methods
from topeng.adapt.export import export
from topeng.adapt.export_card import read_card
from topeng.adapt.foreign import remove_adapter
from topeng.adapt.loading import load_adapter
from topeng.adapt.nara import Core, NaraConfig, config_of, read_options
from topeng.adapt.settings import AdapterOptions
from topeng.diffusion import response_nll
from topeng.errors import AdapterError, ExportError, RecipeError
from topeng.generate import Settings, generate_ids
from topeng.generate.answer import prompt_canvas
from topeng.generate.decode import denoise
from topeng.models import FAMILIES, find_device, load_model
from topeng.models.a2d import A2DLlamaConfig
from topeng.models.dream import DreamConfig
from topeng.recipe import parse
from topeng.text.tokens import Example

OPTIONS = AdapterOptions(rank=4, alpha=8)
DEVICE = find_device()
IDS = torch.randint(6, 400, (3, 12), generator=torch.Generator().manual_seed(0)).to(DEVICE)
SHARES = torch.tensor([0.0, 0.3, 1.0], device=DEVICE)


@pytest.fixture
def adapted(golden):
    return methods.add_adapter(load_model(golden), "nara", OPTIONS, seed=0)


@torch.no_grad()
def logits(model, noise_level=SHARES, ids=IDS):
    return model(input_ids=ids, noise_level=noise_level).logits


def core_of(adapted, name="default"):
    return adapted.base_model.lora_core[name]


def moved(adapted):
    """With the last layer of its network away from zero, as training leaves it: else every share is the same."""
    change(adapted)
    torch.manual_seed(3)
    torch.nn.init.normal_(core_of(adapted).weight_3, std=0.5)
    return adapted


def saved(adapted, folder):
    methods.save_adapter(adapted, "nara", folder, folder / "none")
    return folder


def test_it_starts_as_the_base_and_as_a_lora_of_the_same_seed(golden, adapted):
    base = load_model(golden)
    assert torch.equal(logits(adapted), logits(base))
    lora = methods.add_adapter(load_model(golden), "lora", OPTIONS, seed=0)
    for one in (adapted, lora):
        for layer in methods.adapter_layers(one):
            torch.manual_seed(1)
            torch.nn.init.normal_(layer.lora_B["default"].weight)
    assert torch.equal(logits(adapted), logits(lora))
    assert not torch.equal(logits(adapted), logits(base))


@torch.no_grad()
def test_a_layer_adds_b_c_a(adapted):
    moved(adapted)
    layer, core = methods.adapter_layers(adapted)[0], core_of(adapted)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    x = torch.randn(3, 5, layer.in_features, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    core.before_pass(adapted.get_base_model(), (), {"noise_level": SHARES})
    found = layer(x)
    for row, share in enumerate(SHARES.tolist()):
        angles = share * core.frequencies
        inner = torch.cat([angles.sin(), angles.cos()])
        for linear, bias in ((core.weight_1, core.bias_1), (core.weight_2, core.bias_2)):
            inner = torch.nn.functional.silu(linear @ inner + bias)
        c = torch.eye(4, device=DEVICE) + 0.1 * (core.weight_3 @ inner + core.bias_3).reshape(4, 4)
        weight = layer.get_base_layer().weight + 2 * b @ c @ a
        torch.testing.assert_close(found[row], x[row] @ weight.T, atol=1e-4, rtol=1e-4)


def test_rows_of_other_shares_do_not_change_a_row(adapted):
    together = logits(moved(adapted))
    for row in range(3):
        alone = logits(adapted, SHARES[row : row + 1], IDS[row : row + 1])[0]
        torch.testing.assert_close(together[row], alone, atol=1e-5 * float(together.abs().max()), rtol=0)
    assert (logits(adapted, SHARES.flip(0)) - together).abs().max() > 0.01


def test_without_a_share_all_that_is_looked_at_is_the_answer(adapted):
    moved(adapted)
    ids, attended = IDS.clone(), torch.ones_like(IDS)
    ids[0, 3:6], ids[1, :12], attended[2, :4] = MASK, MASK, 0
    ids[2, :6] = MASK  # of which four are padding
    with torch.no_grad():
        found = adapted(input_ids=ids, attention_mask=attended).logits
        given = adapted(
            input_ids=ids, attention_mask=attended, noise_level=torch.tensor([0.25, 1, 0.25]).to(DEVICE)
        ).logits
    assert torch.equal(found, given)


def test_what_a_share_asks_for_is_learnt_where_a_lora_cannot(golden):
    """The same text, of which two shares want different tokens: one update for both is at log 2 at best."""
    last = {}
    for method in ("lora", "nara"):
        adapted = methods.add_adapter(load_model(golden), method, OPTIONS, seed=0)
        optimizer = methods.create_optimizer(adapted, method, OPTIONS, 1e-2, 0.0)
        ids, head = torch.full((2, 4), 7, device=DEVICE), torch.zeros(2, 4, dtype=torch.bool, device=DEVICE)
        head[:, 2] = True
        for _ in range(60):
            given = {"targets": torch.tensor([8, 9]), "weights": torch.full((2,), 0.5)}
            given["noise_level"] = torch.tensor([0.2, 0.9])
            given = {name: value.to(DEVICE) for name, value in given.items()}
            loss = adapted(input_ids=ids, head_positions=head, **given).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        last[method] = loss.item()
    assert last["lora"] > 0.99 * math.log(2) and last["nara"] < 0.1


def test_training_lowers_the_loss_with_the_share_of_each_response(golden, tmp_path):
    seen = []
    one = trainer(golden, tmp_path, "nara", replace(BATCHING, noise="stratified"), rows=4, steps=24)

    def look(_, __, given):
        if "weights" in given:
            seen.append((given["head_positions"].sum(dim=1), given["noise_level"]))

    one.model.get_base_model().register_forward_pre_hook(look, with_kwargs=True)
    one.train()
    assert np.mean(losses(one)[-4:]) < 0.9 * np.mean(losses(one)[:4])
    lengths = torch.tensor([e.response_length for e in examples(4)], device=DEVICE)
    for masks, share in seen:
        assert share.dtype == torch.float32 and (share > 0).all() and (share <= 1).all()
        assert torch.isin((masks / share).round().long(), lengths).all()
    assert core_of(one.model).weight_3.abs().max() > 0


def test_the_gradient_is_the_same_where_layers_are_computed_again(golden, tmp_path):
    grads = []
    for again in (False, True):
        one = methods.add_adapter(load_model(golden), "nara", OPTIONS, seed=0)
        moved(one).train()
        if again:
            one.gradient_checkpointing_enable({"use_reentrant": False})
        one(input_ids=IDS, noise_level=SHARES, head_positions=IDS > 0, targets=IDS.flatten()).loss.backward()
        grads.append([core_of(one).weight_1.grad, core_of(one).weight_3.grad])
    for left, right in zip(*grads, strict=True):
        assert left.abs().max() > 0
        torch.testing.assert_close(left, right)


def test_autocast_leaves_the_network_in_fp32(golden):
    adapted = moved(methods.add_adapter(load_model(golden, torch.bfloat16), "nara", OPTIONS, seed=0))
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16), methods.autocast_inputs(adapted, True):
        half = logits(adapted)
    assert core_of(adapted).difference.dtype == torch.float32
    full = logits(moved(methods.add_adapter(load_model(golden, torch.float32), "nara", OPTIONS, seed=0)))
    assert 0 < (half.float() - full).abs().mean() < 0.03 * full.abs().mean()


def test_a_saved_one_has_the_same_logits_at_each_share(golden, adapted, tmp_path):
    trained = logits(moved(adapted))
    folder = saved(adapted, tmp_path / "nara")
    assert not any("default" in name for name in load_file(folder / methods.WEIGHTS))  # else of that name alone
    loaded = load_adapter(load_model(golden), folder)
    assert torch.equal(logits(loaded), trained)
    assert not any(weight.requires_grad for weight in loaded.parameters())
    config = config_of(folder, read_options(folder))
    assert isinstance(config, NaraConfig) and tuple(config.core_hidden) == (256, 512)
    with pytest.raises((ValueError, KeyError)):  # plain peft would drop the network without a word
        peft.PeftModel.from_pretrained(load_model(golden), folder)


def test_on_a_base_in_half_precision_it_is_near(golden, adapted, tmp_path):
    trained = logits(moved(adapted))
    half = load_adapter(load_model(golden, torch.bfloat16), saved(adapted, tmp_path / "nara"))
    found = logits(half)
    assert found.dtype == torch.bfloat16 and core_of(half).weight_3.dtype == torch.float32
    assert 0 < (found.float() - trained).abs().mean() < 0.03 * trained.abs().mean()


@pytest.mark.parametrize("config", [A2DLlamaConfig, DreamConfig])
def test_other_families_take_it(config):
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    made = config(vocab_size=60, num_key_value_heads=2, mask_token_id=5, **shape)
    base = FAMILIES[config.model_type](made).eval().to(DEVICE)
    before = logits(base, ids=IDS % 60)
    adapted = methods.add_adapter(base, "nara", OPTIONS, seed=0)
    assert torch.equal(logits(adapted, ids=IDS % 60), before)
    one, other = (logits(moved(adapted), torch.full((3,), share, device=DEVICE), IDS % 60) for share in (0.2, 0.8))
    assert (one - other).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["llada-moe-tiny", "llada2-tiny", "dream-tiny", "a2d-llama-tiny", "a2d-qwen3-tiny"])
def test_every_family_s_rows_have_their_own_share(shared, name):
    base = load_model(shared / "golden" / name)
    before = logits(base, ids=IDS % 60)
    adapted = methods.add_adapter(base, "nara", OPTIONS, seed=0)
    assert torch.equal(logits(adapted, ids=IDS % 60), before)
    together = logits(moved(adapted), ids=IDS % 60)
    for row in range(3):
        alone = logits(adapted, SHARES[row : row + 1], IDS[row : row + 1] % 60)[0]
        torch.testing.assert_close(together[row], alone, atol=1e-4, rtol=1e-4)


def shares_seen(model):
    """The shares that the model is told from now on, a list for each pass."""
    seen = []

    def look(_, __, given):
        seen.append([round(share, 6) for share in given["noise_level"].tolist()])

    model.register_forward_pre_hook(look, with_kwargs=True)
    return seen


def test_the_likelihood_tells_the_share_of_each_response(shared_model):
    model = copy.deepcopy(shared_model)
    seen, widths = shares_seen(model), []
    model.register_forward_pre_hook(lambda _, __, given: widths.append(given["head_positions"]), with_kwargs=True)
    rows = [Example(0, list(range(10, 20)), 6), Example(1, list(range(10, 19)), 2)]
    response_nll(model, rows, draws=8, seed=0)
    for shares, heads in zip(seen, widths, strict=True):
        for share, head in zip(shares, heads, strict=True):
            assert any(share == pytest.approx(int(head.sum()) / length, abs=1e-5) for length in (4, 7))
    assert len({share for shares in seen for share in shares}) > 5


def test_the_harness_tells_that_all_of_an_answer_is_masked(shared_model):
    pytest.importorskip("lm_eval")
    from topeng.evaluate.harness_model import wholly_masked

    model = copy.deepcopy(shared_model)
    seen = shares_seen(model)
    list(wholly_masked(model, [((9, 10), (11,)), ((9,), (12, 13))], 64))
    assert seen == [[1.0, 1.0]]


@pytest.mark.parametrize("cache", ["none", "prefix", "dual"])
def test_decoding_tells_the_share_of_masks_on_the_canvas(model, cache):
    """Whatever part of the canvas a pass is of: 8 masks of 8, then one fewer with each step, in blocks of 4."""
    seen = shares_seen(model)
    settings = Settings(max_new_tokens=8, block_length=4, steps=8, cache=cache)
    generate_ids(model, torch.tensor([[9, 10, 11]]), None, settings)
    assert seen == [[masks / 8] for masks in range(8, 0, -1)]


def test_decoding_tells_each_row_its_own_share_and_guidance_the_same(model):
    seen = shares_seen(model)
    settings = Settings(max_new_tokens=4, block_length=4, steps=4, cfg_scale=1.0)
    canvas = prompt_canvas(model, [[9, 10], [9]], settings)
    canvas.tokens[1, -1], canvas.masked[1, -1] = 12, False
    next(denoise(model, canvas, settings))
    assert seen == [[1.0, 1.0, 0.75, 0.75]]


def test_behind_a_window_masks_do_not_count(model):
    """The last token is given, and may be looked at: with it 4 masks of 5, then fewer of 7 and of 8."""
    seen = shares_seen(model)
    settings = Settings(max_new_tokens=8, block_length=2, steps=8, window=2)
    canvas = prompt_canvas(model, [[9, 10, 11]], settings)
    canvas.tokens[0, -1], canvas.masked[0, -1] = 12, False
    for _ in denoise(model, canvas, settings):
        pass
    shares = [4 / 5, 3 / 5, 4 / 7, 3 / 7, 3 / 8, 2 / 8, 1 / 8]
    assert seen == [[pytest.approx(share, abs=1e-5)] for share in shares]


def test_a_cached_pass_of_an_adapter_needs_the_share(adapted):
    past = adapted(input_ids=IDS, use_cache=True).past_key_values
    adapted(input_ids=IDS[:, :1], past_key_values=past, noise_level=SHARES)
    with pytest.raises(AdapterError, match="Give it as noise_level"):
        adapted(input_ids=IDS[:, :1], past_key_values=past)


def test_decoding_is_what_the_adapter_says_at_each_share(checkpoint, tmp_path):
    """Its first step is that of a model whose share is held at 1."""
    model, _ = load(checkpoint)
    folder = saved(moved(methods.add_adapter(model, "nara", OPTIONS, seed=0)), tmp_path / "nara")
    loaded, _ = load(checkpoint, folder)
    settings = Settings(max_new_tokens=4, block_length=4, steps=4)
    canvas = prompt_canvas(loaded, [[9, 10]], settings)
    given = {"input_ids": canvas.tokens.to(DEVICE), "noise_level": torch.ones(1, device=DEVICE)}
    expected = loaded(**given).logits[0, 2:].softmax(-1)
    first = next(denoise(loaded, canvas, settings))
    place = int(first.committed_at[0].argmax())
    assert first.confidence[0, place] == pytest.approx(float(expected[place - 2].max()), abs=1e-5)


@pytest.mark.parametrize("objective", ["block", "autoregressive"])
def test_an_objective_whose_rows_have_no_one_share_is_refused(objective):
    parse({"adapter": {"methods": ["nara"]}})
    parse({"adapter": {"methods": ["lora"]}, "train": {"objectives": [objective]}})
    with pytest.raises(RecipeError, match=f"train.objectives has '{objective}', but nara depends on the share"):
        parse({"adapter": {"methods": ["lora", "nara"]}, "train": {"objectives": ["masked", objective]}})


def test_what_is_removed_leaves_the_base(golden, adapted, tmp_path):
    base = load_model(golden)
    before = logits(base)
    folder = saved(moved(adapted), tmp_path / "nara")
    load_adapter(base, folder)
    remove_adapter(base)
    assert torch.equal(logits(base), before)
    assert not base._forward_pre_hooks


def test_what_would_add_it_to_the_base_is_refused(checkpoint, tmp_path):
    model, _ = load(checkpoint)
    adapted = moved(methods.add_adapter(model, "nara", OPTIONS, seed=0))
    folder = saved(adapted, tmp_path / "nara")
    for form in ("merged", "gguf"):
        with pytest.raises(ExportError, match=f"--format {form} cannot have the adapter in .*Keep it as an adapter"):
            export(folder, tmp_path / form, form, base=checkpoint)
        assert not (tmp_path / form).exists()
    with pytest.raises(ExportError, match="NARA, which can only be written under native names"):
        export(folder, tmp_path / "official", "adapter", base=checkpoint, names="official")
    with pytest.raises(AdapterError, match="no single one can be added"):
        adapted.merge_and_unload(safe_merge=True)
    with pytest.raises(AdapterError, match="no single one can be added"):
        adapted.merge_adapter()


def test_as_an_adapter_it_is_exported_whole(checkpoint, tmp_path):
    model, _ = load(checkpoint)
    adapted = moved(methods.add_adapter(model, "nara", OPTIONS, seed=0))
    export(saved(adapted, tmp_path / "nara"), tmp_path / "out", "adapter", base=checkpoint)
    assert read_card(tmp_path / "out" / "README.md")[0]["library_name"] == "topeng"
    loaded, _ = load(checkpoint, tmp_path / "out")
    assert torch.equal(logits(loaded), logits(adapted))


def test_the_network_of_the_paper_s_rank_has_the_paper_s_size():
    """0.0084 % of LLaDA-8B's 8.016 B parameters, which reviews of the paper give as 0.008 %."""
    core = Core(NaraConfig(r=32))
    assert sum(weight.numel() for weight in core.parameters()) == 673_536
