"""iLLaDA and SDAR, held to transformers' causal networks under masks that are made here: there are no golden ones."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from bytes_tokenizer import bytes_tokenizer
from tiny_families import ILLADA, SDAR, causal_network, write_checkpoint
from topeng.errors import ModelError
from topeng.generate import Settings, generate_ids
from topeng.generate.canvas import pad_left
from topeng.models import LLaDAConfig, LLaDAModelLM, load_config, load_model
from topeng.models.attention import attention_of
from topeng.text.chat import check_tokens, encode_prompt, special_tokens
from topeng.text.formats import SDAR as SDAR_CHAT
from topeng.text.formats import SEED

IDS = torch.randint(6, 490, (2, 18), generator=torch.Generator().manual_seed(1))
MESSAGES = [
    {"role": "user", "content": "Apa kabar?"},
    {"role": "assistant", "content": "Baik."},
    {"role": "user", "content": "Siapa?"},
]


@pytest.fixture(scope="module")
def illada(tmp_path_factory):
    return write_checkpoint(ILLADA, tmp_path_factory.mktemp("families") / "illada")


@pytest.fixture(scope="module")
def sdar(tmp_path_factory):
    return write_checkpoint(SDAR, tmp_path_factory.mktemp("families") / "sdar")


def additive(seen):
    """[1, 1, T, T] of what is seen, as transformers adds it to the scores."""
    return torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[None, None]


def looks_back(length, block):
    blocks = torch.arange(length) // block
    return blocks[None, :] <= blocks[:, None]


@torch.no_grad()
def test_illada_is_llama_that_looks_both_ways(illada):
    model, network = load_model(illada, device="cpu"), causal_network(ILLADA)
    everywhere = torch.ones(18, 18, dtype=torch.bool)
    expected = network(input_ids=IDS, attention_mask=additive(everywhere)).logits
    torch.testing.assert_close(model(input_ids=IDS).logits, expected, atol=1e-5, rtol=0)
    assert (network(input_ids=IDS).logits - expected).abs().max() > 0.1
    visible = torch.ones_like(IDS)
    visible[0, :4] = 0
    places = (visible.cumsum(dim=1) - 1).clamp(min=0)
    padded = model(input_ids=IDS, attention_mask=visible, position_ids=places).logits[0, 4:]
    torch.testing.assert_close(padded, model(input_ids=IDS[:1, 4:]).logits[0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_sdar_is_qwen3_that_looks_back_from_blocks(sdar, tmp_path):
    network = causal_network(SDAR)
    for block in (4, 6):
        folder = write_checkpoint(SDAR | {"block_size": block}, tmp_path / str(block))
        model = load_model(folder, device="cpu")
        assert attention_of(model.config) == {"attention_block": block, "predicts_next": False}
        expected = network(input_ids=IDS, attention_mask=additive(looks_back(18, block))).logits
        torch.testing.assert_close(model(input_ids=IDS).logits, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("options", [ILLADA, SDAR], ids=["illada", "sdar"])
def test_a_checkpoint_is_written_back_as_it_was(options, tmp_path):
    folder = write_checkpoint(options, tmp_path / "given")
    load_model(folder, device="cpu").save_pretrained(tmp_path / "written")
    before, after = (load_file(tmp_path / kind / "model.safetensors") for kind in ("given", "written"))
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    written = json.loads((tmp_path / "written" / "config.json").read_text())
    assert {name: written.get(name) for name in options} == options
    assert {"is_causal", "attention_block", "predicts_next"}.isdisjoint(written)


def test_the_block_size_is_four_and_the_mask_is_known_where_config_json_does_not_say(tmp_path):
    plain = {name: value for name, value in SDAR.items() if name not in ("block_size", "mask_token_id")}
    for given, mask in ((ILLADA, 5), (plain, None), (plain | {"vocab_size": 151936}, 151669)):
        (tmp_path / "config.json").write_text(json.dumps(given))
        config = load_config(tmp_path)
        assert config.mask_token_id == mask  # one beyond the vocabulary is none
    assert config.attention_block == 4


def test_illada_in_llada_s_layout_has_its_mask(golden, tmp_path):
    """Grouped queries under a tied head are iLLaDA's, and a LLaDA's mask token is a word of it."""
    options = json.loads((golden / "config.json").read_text())
    options = {name: value for name, value in options.items() if name != "mask_token_id"}
    changed = options | {"n_kv_heads": 2, "weight_tying": True}
    torch.manual_seed(0)
    LLaDAModelLM(LLaDAConfig(**changed)).save_pretrained(tmp_path)
    names = load_file(tmp_path / "model.safetensors")
    assert names["model.transformer.blocks.0.k_proj.weight"].shape == (32, 64)
    assert "model.transformer.ff_out.weight" not in names
    assert load_model(tmp_path, device="cpu").config.mask_token_id == 5
    assert LLaDAConfig(**options).mask_token_id == 126336


def test_a_layer_norm_that_the_network_does_not_have_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(ILLADA | {"layer_norm_eps": 1e-5}))
    with pytest.raises(ModelError, match=r"config\.json has layer_norm_eps = 1e-05, but Topeng's network for ILLaDA"):
        load_config(tmp_path)


def tokenizer_of(form):
    """Its special tokens come after bytes, and none is declared as the mask, as iLLaDA's is not."""
    return bytes_tokenizer([form.mask, form.start_header, form.eot], eos_token=form.eos)


@pytest.mark.parametrize(
    ("form", "mask", "options"),
    [(SEED, "<[MASK]>", ILLADA), (SDAR_CHAT, "<|MASK|>", SDAR)],
    ids=["illada", "sdar"],
)
def test_the_tokenizer_tells_the_mask_and_the_chat_format(form, mask, options, tmp_path):
    made = tokenizer_of(form)
    ids = {"eos_token_id": made.eos_token_id, "mask_token_id": None}
    (tmp_path / "config.json").write_text(json.dumps(options | ids))
    made.save_pretrained(tmp_path)
    config, special = load_config(tmp_path), special_tokens(made)
    assert special.form == form and form.mask == mask
    assert config.mask_token_id == made.convert_tokens_to_ids(form.mask) != options.get("mask_token_id", 5)
    assert check_tokens("it", config, made) == special
    rendered = made.apply_chat_template(
        MESSAGES, chat_template=form.template, add_generation_prompt=True, tokenize=False
    )
    assert made.decode(encode_prompt(made, MESSAGES)) == rendered


def test_each_message_of_illada_is_a_sequence_of_its_own():
    text = tokenizer_of(SEED).decode(encode_prompt(tokenizer_of(SEED), MESSAGES))
    begin, end = "<[begin▁of▁sentence]>", "<[end▁of▁sentence]>"
    assert text == (
        f"{begin}user\nApa kabar?{end}{begin}assistant\nBaik.{end}{begin}user\nSiapa?{end}{begin}assistant\n"
    )


@torch.no_grad()
def block_by_block(network, prompt, new, block, mask):
    """SDAR's greedy sampler with a whole pass for each token: blocks are counted from the row's first token."""
    ids = torch.tensor([prompt + [mask] * new])
    length = ids.shape[1]
    for start in range(0, length, block):
        places = slice(start, min(start + block, length))
        while (ids[0, places] == mask).any():
            logits = network(input_ids=ids, attention_mask=additive(looks_back(length, block))).logits[0, places]
            logits[:, mask] = -torch.inf  # the official sampler may commit the mask itself; Topeng does not
            confidence, tokens = logits.softmax(dim=-1).max(dim=-1)
            best = int(confidence.masked_fill(ids[0, places] != mask, -1).argmax())
            ids[0, start + best] = tokens[best]
    return ids[0]


def test_sdar_writes_block_by_block_and_computes_no_finished_block_again(sdar):
    model, network = load_model(sdar, device="cpu"), causal_network(SDAR)
    prompts = [IDS[0, :7].tolist(), IDS[1, :12].tolist()]
    seen = []
    model.register_forward_pre_hook(lambda _, __, given: seen.append(given["input_ids"].shape[1]), with_kwargs=True)
    found = generate_ids(model, *pad_left(prompts, 501), Settings(max_new_tokens=16, block_length=4))
    for row, prompt in zip(found, prompts, strict=True):
        assert torch.equal(row[-len(prompt) - 16 :], block_by_block(network, prompt, 16, 4, 500))
    assert seen[0] > 8 and max(seen[1:]) == 8  # the prompts; then a block, with the finished one before it once
    shutil.copytree(sdar, sdar.parent / "whole", dirs_exist_ok=True)
    (sdar.parent / "whole" / "config.json").write_text(json.dumps(SDAR | {"block_size": None}))
    whole = generate_ids(
        load_model(sdar.parent / "whole", device="cpu"), *pad_left(prompts, 501), Settings(16, block_length=4)
    )
    assert not torch.equal(whole, found)
