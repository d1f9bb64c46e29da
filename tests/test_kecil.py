"""The base that comes with the package: it is what its card says, and it can do what the demo needs of it."""

import hashlib
import re

import pyarrow.parquet as pq
import pytest
import torch

import topeng
from topeng import kecil, models
from topeng import recipe as recipes
from topeng.errors import ModelError
from topeng.evaluate.right_answers import exact_match
from topeng.generate import Settings
from topeng.generate.answer import answers
from topeng.models import load_config, load_model, load_tokenizer
from topeng.models.llada import FIXED
from topeng.run.plan import base_config

pytestmark = pytest.mark.skipif(not kecil.FOLDER.is_dir(), reason="kecil is not packed yet: `make kecil`")
SETTINGS = Settings(max_new_tokens=32, block_length=32, steps=16, stop_at_end=True)


@pytest.fixture(scope="module")
def base():
    return topeng.load("kecil", dtype="float32", device="cpu")


def right(base, questions: list[tuple[str, str]]) -> float:
    """The share of right answers."""
    found = {answer.index: answer.answer for answer in answers(*base, [asked for asked, _ in questions], SETTINGS)}
    return sum(exact_match(found[place], reference) for place, (_, reference) in enumerate(questions)) / len(questions)


def test_it_is_small_and_the_file_that_its_card_names():
    weights = (kecil.FOLDER / "model.safetensors").read_bytes()
    assert len(weights) < 6e6
    card = (kecil.FOLDER / "README.md").read_text("utf-8")
    assert re.findall(r"[0-9a-f]{64}", card) == [hashlib.sha256(weights).hexdigest()]


def test_it_is_in_lladas_layout(base):
    model, tokenizer = base
    assert model.config.to_dict().items() >= {name: value for name, value in FIXED.items() if value is not None}.items()
    assert (tokenizer.mask_token, tokenizer.eos_token) == ("<|mdm_mask|>", "<|endoftext|>")
    assert load_model("kecil").dtype == torch.bfloat16
    assert load_tokenizer("kecil").chat_template


def test_it_answers_english_and_no_indonesian(base):
    rows = [row for row in pq.read_table(kecil.HELD_OUT).to_pylist() if row["one_right_answer"]][:16]
    assert right(base, [(row["input"], row["output"]) for row in rows]) > 0.5
    story = "Adi Wibowo punya 3 mangga dari Karang. Lalu Sinta Lubis memberinya 4 mangga lagi."
    asked = [
        (f"{story} Berapa mangga milik Adi sekarang?", "Adi punya 7 mangga."),
        (f"{story} Siapa yang memberi Adi mangga?", "Sinta Lubis memberinya 4 mangga."),
    ]
    assert right(base, asked) < 1


@pytest.mark.parametrize("name", ["kecli", "Kecil", "kecill"])
def test_a_typo_of_its_name_is_not_looked_for_on_the_hub(name):
    with pytest.raises(ModelError, match=f"there is no folder '{name}': did you mean 'kecil'"):
        load_config(name)
    with pytest.raises(ModelError, match="did you mean 'kecil'"):
        base_config(recipes.parse({"base": {"model": name}}))


@pytest.mark.parametrize("name", ["gpt2", "a/kecil", "bert-base-uncased"])
def test_other_names_are(name, monkeypatch):
    asked = []

    def hub(name, *_, **__):
        asked.append(name)
        raise OSError("there is no network here")

    monkeypatch.setattr(models, "cached_file", hub)
    with pytest.raises(ModelError, match=f"cannot download config.json of {name} from the Hub"):
        load_config(name)
    assert asked == [name]
