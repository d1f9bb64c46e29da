"""docs/guides/extend.md: its family and its objective are added as it says, one file each."""

import json
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

from topeng import models
from topeng.diffusion import OBJECTIVES, Step, sft_loss
from topeng.diffusion.forward import training_noise
from topeng.models.attention import attention_of
from topeng.text.batches import collate
from topeng.text.tokens import Example

GUIDE = Path(__file__).resolve().parents[1] / "docs" / "guides" / "extend.md"
FILES = re.findall(r"^```python\n(from .*?)^```$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def file_with(name: str) -> ModuleType:
    """The file of the guide that defines a class, as a module."""
    (text,) = [text for text in FILES if f"class {name}(" in text]
    module = ModuleType(f"topeng.guide_{name.lower()}")
    exec(compile(text, str(GUIDE), "exec"), module.__dict__)
    return module


@pytest.fixture(scope="module")
def family():
    return file_with("Fast_dLLM_QwenForCausalLM").Fast_dLLM_QwenForCausalLM


def test_a_family_is_a_file(family, monkeypatch, tmp_path):
    monkeypatch.setattr(models, "MODELS", [*models.MODELS, family])
    monkeypatch.setitem(models.FAMILIES, "FastdLLMV2", family)
    shape = {"vocab_size": 90, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    assert family.config_class(**shape).attention_block == 32
    config = family.config_class(
        **shape,
        num_attention_heads=4,
        num_key_value_heads=2,
        mask_token_id=3,
        eos_token_id=1,
        max_position_embeddings=64,
        bd_size=4,
    )
    torch.manual_seed(0)
    family(config).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["architectures"] == ["Fast_dLLM_QwenForCausalLM"] and written["bd_size"] == 4
    assert "attention_block" not in written and "predicts_next" not in written
    loaded = models.load_model(tmp_path, device="cpu")
    assert type(loaded) is family and attention_of(loaded.config) == {"attention_block": 4, "predicts_next": True}
    ids = torch.arange(10, 22)[None]
    other = ids.clone()
    other[0, 6] = 50
    with torch.no_grad():
        moved = (loaded(input_ids=ids).logits - loaded(input_ids=other).logits).abs().amax(dim=-1)[0] > 1e-6
    assert moved.nonzero().squeeze(1).tolist() == list(range(5, 12))


def test_an_objective_is_a_file(model, monkeypatch):
    """Its loss is that of LLaDA with every p taken for one."""
    unweighted = file_with("Unweighted").Unweighted
    monkeypatch.setitem(OBJECTIVES, "unweighted", lambda block_length: unweighted())
    rows = [Example(row, list(range(10, 20 + row)), 4) for row in range(3)]
    batch, step = collate(rows, 1), Step("stratified", 0, 0, torch.arange(3), 3)
    inputs = OBJECTIVES["unweighted"](8).training_pass(batch, step, model.config)
    masked, p = training_noise("stratified", batch["response_mask"], 0, 0, batch["row_ids"], torch.arange(3), 3)
    with torch.no_grad():
        found = model(**inputs).loss
        logits = model(input_ids=inputs["input_ids"], attention_mask=batch["attention_mask"]).logits
    expected = sft_loss(logits, batch["input_ids"], masked, torch.ones_like(p), batch["response_length"])
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, sft_loss(logits, batch["input_ids"], masked, p, batch["response_length"]))
