"""Other families than LLaDA, against what their reference implementations answered (../shared/golden)."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from topeng.adapt import methods
from topeng.adapt.loading import load_adapter
from topeng.adapt.merge import BaseWeights
from topeng.adapt.settings import LoraOptions
from topeng.errors import ModelError
from topeng.generate import Settings, generate_ids
from topeng.generate.canvas import pad_left
from topeng.models import load_config, load_model
from topeng.models.attention import attend, attention_of, block_causal, noisy_and_clean

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"
OPTIONS = LoraOptions(rank=2, alpha=4)
A2D = ["a2d-llama-tiny", "a2d-qwen3-tiny"]
MIXTURES = ["llada-moe-tiny", "llada2-tiny"]
FAMILIES = [*A2D, "dream-tiny", *MIXTURES]

pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden checkpoints are not in a clone")


def golden(name):
    model = load_model(GOLDEN / name, device="cpu")
    if name in MIXTURES:  # which, without a tokenizer, do not say
        model.config.mask_token_id = 500
        model.config.eos_token_id = model.generation_config.eos_token_id = 501
    return model, load_file(GOLDEN / name / "golden.safetensors")


@pytest.mark.parametrize("name", A2D)
def test_a2d_gives_the_reference_s_logits(name):
    model, known = golden(name)
    with torch.no_grad():
        assert torch.allclose(model(input_ids=known["input_ids"]).logits, known["logits"], atol=1e-4)
        mask = known["attention_mask"]
        masked = model(input_ids=known["input_ids"], attention_mask=mask, position_ids=known["position_ids"]).logits
    assert torch.allclose(masked[mask.bool()], known["logits_masked"][mask.bool()], atol=1e-4)


def test_dream_s_logits_are_moved_to_the_position_that_they_are_of():
    model, known = golden("dream-tiny")
    with torch.no_grad():
        found = model(input_ids=known["input_ids"]).logits
        where = torch.zeros_like(known["input_ids"], dtype=torch.bool)
        where[:, 3:7] = True
        some = model(input_ids=known["input_ids"], head_positions=where).logits
        loss = model(input_ids=known["input_ids"], head_positions=where, targets=known["input_ids"][where])
    assert torch.allclose(found[:, 1:], known["logits"][:, :-1], atol=1e-4)
    assert torch.allclose(some, found[where], atol=1e-5)
    nll = torch.nn.functional.cross_entropy(found[where], known["input_ids"][where], reduction="none")
    assert torch.allclose(loss.token_nll, nll, atol=1e-5)


@pytest.mark.parametrize("name", A2D)
def test_a2d_writes_what_the_reference_sampler_does(name):
    """Greedy, in blocks, with guidance, and where a position predicts the next token."""
    known = load_file(GOLDEN / name / "golden.safetensors")
    runs = json.loads((GOLDEN / name / "golden.json").read_text())["runs"]
    whole = [(place, run) for place, run in enumerate(runs) if run["kind"] == "mdlm"]
    assert len(whole) == 4
    for place, run in whole:
        model = load_model(GOLDEN / name, device="cpu")
        model.predicts_next = run.get("right_shift_logits", False)
        settings = Settings(
            max_new_tokens=run["max_new_tokens"],
            block_length=run["block_size"],
            steps=run["steps"],
            cfg_scale=run.get("cfg_scale", 0.0),
        )
        found = generate_ids(model, known["prompt_ids"], None, settings)
        assert torch.equal(found, known[f"generated_{place}"]), run


@pytest.mark.parametrize("name", A2D)
def test_a2d_writes_block_by_block_what_the_reference_sampler_does(name):
    """Under attention that looks back from blocks, and where a position predicts the next token.

    Rows in which the reference committed the mask itself, as Topeng never does, are left out; and one where the mask's
    probability, which the reference counts in confidences, changed their order.
    """
    known = load_file(GOLDEN / name / "golden.safetensors")
    runs = json.loads((GOLDEN / name / "golden.json").read_text())["runs"]
    blocks = [(place, run) for place, run in enumerate(runs) if run["kind"] == "bd3lm"]
    assert len(blocks) == 3
    for place, run in blocks:
        model = load_model(GOLDEN / name, device="cpu")
        attend(model, run["block_size"], run.get("right_shift_logits", False))
        settings = Settings(max_new_tokens=run["max_new_tokens"], block_length=run["block_size"], steps=run["steps"])
        found, wanted = generate_ids(model, known["prompt_ids"], None, settings), known[f"generated_{place}"]
        whole = (wanted != model.config.mask_token_id).all(dim=1)
        whole[2] &= (name, place) != ("a2d-llama-tiny", 6)
        assert whole.sum() >= 2 and torch.equal(found[whole], wanted[whole]), run


@pytest.mark.parametrize("name", A2D)
def test_one_pass_over_noisy_and_clean_gives_the_reference_s_logits(name):
    model, known = golden(name)
    ids, masked = known["bd_clean_ids"], known["bd_masked"]
    attention = noisy_and_clean(torch.ones_like(masked), 4)
    assert torch.equal(attention[0, 0], known["bd_mask"])
    noisy = ids.masked_fill(masked, model.config.mask_token_id)
    with torch.no_grad():
        logits = model(
            input_ids=torch.cat([noisy, ids], dim=1),
            attention_mask=attention,
            position_ids=torch.arange(24).repeat(2).expand(2, -1),
        ).logits[:, :24]
    assert torch.allclose(logits, known["bd_logits"], atol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_checkpoint_is_written_back_as_it_was(name, tmp_path):
    model = load_model(GOLDEN / name, device="cpu")
    model.save_pretrained(tmp_path)
    before, after = (load_file(folder / "model.safetensors") for folder in (GOLDEN / name, tmp_path))
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    known, written = (json.loads((folder / "config.json").read_text()) for folder in (GOLDEN / name, tmp_path))
    assert {name for name in known if written.get(name) != known[name]} <= {"dtype", "transformers_version"}
    assert type(load_model(tmp_path, device="cpu")) is type(model)


def changed(name, tmp_path, **options):
    """The options of a golden checkpoint, some of them changed."""
    shutil.copytree(GOLDEN / name, tmp_path / "changed", dirs_exist_ok=True)
    known = json.loads((GOLDEN / name / "config.json").read_text())
    (tmp_path / "changed" / "config.json").write_text(json.dumps(known | options))
    return tmp_path / "changed"


def test_the_architecture_tells_a_family_and_others_are_refused(tmp_path):
    """On the Hub LLaDA-MoE calls itself `llada` too."""
    assert load_config(changed("llada-moe-tiny", tmp_path, model_type="llada")).model_type == "lladamoe"
    with pytest.raises(ModelError, match="only supports LLaDAModelLM"):
        load_config(changed("llada-moe-tiny", tmp_path, model_type="llada", architectures=["LLaDA3ModelLM"]))


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [("llada-moe-tiny", "moe_router_score_function", "sigmoid"), ("llada2-tiny", "use_bias", True)],
)
def test_an_option_that_the_network_does_not_have_is_refused(name, option, value, tmp_path):
    with pytest.raises(ModelError, match=f"config.json has {option} = {value!r}, but Topeng's network"):
        load_config(changed(name, tmp_path, **{option: value}))


def test_llada_moe_gives_the_reference_s_logits():
    model, known = golden("llada-moe-tiny")
    with torch.no_grad():
        assert torch.allclose(model(input_ids=known["input_ids"]).logits, known["logits"], atol=1e-4)


def test_llada2_looks_back_from_blocks_and_gives_the_reference_s_logits():
    """Of 32, where config.json does not say; the reference was asked with blocks of 8."""
    model, known = golden("llada2-tiny")
    assert attention_of(model.config) == {"attention_block": 32, "predicts_next": False}
    attend(model, 8)
    places = torch.arange(24)[None]
    attention = block_causal(torch.ones(1, 24, dtype=torch.bool), places, places, 8)
    assert torch.equal(attention[0, 0], known["block_mask"].bool())
    with torch.no_grad():
        assert torch.allclose(model(input_ids=known["input_ids"]).logits, known["logits"], atol=1e-4)


@pytest.mark.parametrize("name", MIXTURES)
def test_a_mixture_of_experts_is_not_exported_a_weight_at_a_time(name):
    with pytest.raises(ModelError, match="cannot be exported a weight at a time"):
        BaseWeights(GOLDEN / name)


@pytest.mark.parametrize("method", ["lora", "lora+", "pissa"])
@pytest.mark.parametrize("name", FAMILIES)
def test_an_adapter_learns(name, method, tmp_path):
    """And is one for the plain base once it is saved."""
    model, known = golden(name)
    ids = known["input_ids"]
    masked = torch.zeros_like(ids, dtype=torch.bool)
    masked[:, 8::2] = True
    inputs = {"input_ids": ids.masked_fill(masked, model.config.mask_token_id), "head_positions": masked}
    adapted = methods.add_adapter(model, method, OPTIONS, seed=0)
    adapted.save_pretrained(str(tmp_path / "initial"))
    optimizer = methods.create_optimizer(adapted, method, OPTIONS, 0.01, 0.0)
    losses = []
    for _ in range(8):
        loss = adapted(**inputs, targets=ids[masked]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
    methods.save_adapter(adapted, method, tmp_path / "adapter", tmp_path / "initial")
    again = load_adapter(golden(name)[0], tmp_path / "adapter")
    with torch.no_grad():
        assert torch.allclose(again(**inputs).logits, adapted(**inputs).logits, atol=2e-4)


POLICIES = {"top_k": {}, "threshold": {"threshold": 0.02}, "random": {"temperature": 1.0, "seed": 3}}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_row_s_answer_is_its_own_whatever_the_cache_and_the_batch(name, policy):
    """Refreshed in each step, a cache gives the answers without one; rows of a ragged batch are as when alone."""
    model, _ = golden(name)
    model.generation_config.eos_token_id = model.config.eos_token_id
    if name == "llada2-tiny":
        attend(model, 4)
    generator = torch.Generator().manual_seed(0)
    prompts = [torch.randint(3, 300, (length,), generator=generator).tolist() for length in (5, 11)]
    ids, mask = pad_left(prompts, model.config.eos_token_id)
    answers = {}
    for cache in ("none", "prefix", "dual"):
        settings = Settings(
            max_new_tokens=8, block_length=4, policy=policy, cache=cache, refresh_interval=1, **POLICIES[policy]
        )
        together = generate_ids(model, ids, mask, settings, row_ids=[7, 8])
        answers[cache] = together
        for row, prompt in enumerate(prompts):
            alone = generate_ids(model, torch.tensor([prompt]), None, settings, row_ids=[7 + row])
            assert torch.equal(alone[0], together[row, -len(alone[0]) :]), (cache, row)
        assert torch.equal(together[:, : ids.shape[1]], ids)
        assert not (together[:, ids.shape[1] :] == model.config.mask_token_id).any()
    assert torch.equal(answers["none"], answers["prefix"]) and torch.equal(answers["none"], answers["dual"])
