"""Code that lies in a checkpoint's folder never runs, and nobody is asked whether it may."""

import json
import shutil

import pytest

import topeng
from topeng.corpus.embed import load_encoder
from topeng.errors import ModelError
from topeng.evaluate.bertscore import bertscore

CODE = """
from pathlib import Path
(Path(__file__).parent / "ran").touch()
Path("{trace}").touch()
class Trap: pass
"""
AUTO_MAP = dict.fromkeys(("AutoConfig", "AutoModel", "AutoModelForCausalLM"), "trap.Trap")


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """Puts code into a copy of a folder, and names it in its files; afterwards nothing of it has run."""
    trace, asked = tmp_path / "trace", []
    monkeypatch.setattr("builtins.input", lambda *text: asked.append(text) or "y")

    def copy(folder, **added):
        trapped = shutil.copytree(folder, tmp_path / "trapped")
        (trapped / "trap.py").write_text(CODE.format(trace=trace))
        for name, values in added.items():
            file = trapped / f"{name}.json"
            file.write_text(json.dumps(json.loads(file.read_text()) | values))
        return trapped

    yield copy
    assert not trace.exists() and not asked


def test_a_checkpoint_with_code_is_loaded_without_it(checkpoint, trap):
    model, _ = topeng.load(trap(checkpoint, config={"auto_map": AUTO_MAP}), device="cpu")
    assert type(model).__module__ == "topeng.models.llada"


def test_a_checkpoint_of_an_unknown_kind_is_refused(checkpoint, trap):
    with pytest.raises(ModelError, match="model_type = 'trap'"):
        topeng.load(trap(checkpoint, config={"auto_map": AUTO_MAP, "model_type": "trap"}), device="cpu")


TOKENIZER = {"auto_map": {"AutoTokenizer": [None, "trap.Trap"]}}


def test_a_tokenizer_with_code_is_loaded_without_it(checkpoint, tokenizer, trap):
    _, loaded = topeng.load(trap(checkpoint, tokenizer_config=TOKENIZER), device="cpu")
    assert loaded("Kucing itu.").input_ids == tokenizer("Kucing itu.").input_ids


def test_a_tokenizer_of_an_unknown_kind_is_refused(checkpoint, trap):
    folder = trap(checkpoint, tokenizer_config=TOKENIZER | {"tokenizer_class": "Trap"})
    with pytest.raises(ModelError, match="asks for code of its own, which Topeng never runs"):
        topeng.load(folder, device="cpu")


def test_an_encoder_with_code_is_loaded_without_it(encoder, trap):
    folder = trap(encoder, tokenizer_config=TOKENIZER, config={"auto_map": AUTO_MAP})
    assert bertscore(["kucing"], ["kucing"], str(folder)) == pytest.approx(1)
    assert load_encoder(str(folder), None, 16, "float32").encode(["kucing"]).shape == (1, 32)


def test_an_encoder_of_an_unknown_kind_is_refused(encoder, trap):
    folder = trap(encoder, config={"auto_map": AUTO_MAP, "model_type": "trap"})
    with pytest.raises(ModelError, match=r"cannot load evaluate\.bertscore_model"):
        bertscore(["kucing"], ["kucing"], str(folder))
    with pytest.raises(ModelError, match=r"cannot load corpus\.embedder"):
        load_encoder(str(folder), None, 16, "float32")


def test_an_embedder_with_a_module_of_its_own_is_refused(encoder, trap):
    folder = trap(encoder)
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "trap.Trap"}]))
    with pytest.raises(ModelError, match=r"cannot load corpus\.embedder"):
        load_encoder(str(folder), None, 16, "float32")
