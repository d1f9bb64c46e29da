"""What tests share: the folder `shared/` beside the project where it is there, and a tiny model of our own.

Tests run on the CPU, also where there is a GPU; with TOPENG_TEST_DEVICE=cuda those of models, training, caches and
decoding run on the GPU, which is then what `find_device()` finds.
"""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any
from weakref import WeakKeyDictionary

import hypothesis
import jinja2
import pytest

import browser

if os.environ.get("TOPENG_TEST_DEVICE", "cpu") == "cpu":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # torch looks when it is first asked, and so do the tests' own processes

gc.disable()  # a fifth of what the imports take, and then the same garbage again and again: see below

hypothesis.settings.register_profile("topeng", deadline=None, derandomize=True)  # the first call compiles
hypothesis.settings.register_profile("fast", hypothesis.settings.get_profile("topeng"), max_examples=30)
hypothesis.settings.load_profile("topeng")

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
GOLDEN = ROOT / "tests" / "golden" / "llada-tiny"
LONGEST = ["test_pipeline.py", "test_trainer.py", "test_callbacks.py", "test_site.py", "test_workers.py"]
"""Files that take longest: begun first, so that no worker of xdist is at one of them when the others are done.

On a new machine the first that draws a plane compiles umap's parts, for 20 s: of these the last finds them compiled.
"""
FROZEN: dict[str, Any] = {"modules": 0, "file": None}
TEXTS = ["Ibu kota Indonesia adalah Jakarta.", "What is the capital of Indonesia?", "Kucing itu tidur di kursi kayu."]


def pytest_configure(config: pytest.Config) -> None:
    """`make test` has fewer examples of a property than `make test-all`."""
    if config.option.markexpr == "not slow":
        hypothesis.settings.load_profile("fast")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


def pytest_collection_finish() -> None:
    freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Once a file, and where a test imported much; one that is about memory may have turned it on."""
    gc.disable()
    if item.path != FROZEN["file"] or len(sys.modules) > FROZEN["modules"] + 50:
        FROZEN["file"] = item.path
        freeze()


def freeze() -> None:
    """What imports made is here to stay: a training collects garbage twice, and no longer looks through it."""
    gc.collect()
    gc.freeze()
    FROZEN["modules"] = len(sys.modules)


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> Iterator[None]:
    """peft writes a card beside each adapter: compiling its template takes longer than the rest of saving."""
    compiled: WeakKeyDictionary[jinja2.Environment, dict[str, CodeType]] = WeakKeyDictionary()
    compile_it = jinja2.Environment.compile

    def compile_once(self, source, *named, **options):
        if named or options or not isinstance(source, str):
            return compile_it(self, source, *named, **options)
        of_this = compiled.setdefault(self, {})
        if source not in of_this:
            of_this[source] = compile_it(self, source)
        return of_this[source]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jinja2.Environment, "compile", compile_once)
        yield


@pytest.fixture
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip("needs the folder shared/ beside the project")
    return SHARED


@pytest.fixture(scope="session")
def golden() -> Path:
    return GOLDEN


@pytest.fixture(scope="session")
def tokenizer():
    from tokenizers import pre_tokenizers

    from topeng.adapt.tiny import new_tokenizer

    made = new_tokenizer(TEXTS * 20, vocab_size=400)
    made.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # as LLaDA-8B's
    return made


@pytest.fixture
def model():
    return random_model()


@pytest.fixture(scope="session")
def shared_model():
    """For tests that change nothing about it."""
    return random_model()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory, tokenizer) -> Path:
    """The tiny model in a folder, with its tokenizer."""
    folder = tmp_path_factory.mktemp("checkpoint")
    random_model().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def adapters(tmp_path_factory, shared_model) -> Path:
    """Adapters `one` and `two` of that checkpoint, `other` of a wider one, and `deeper` of one of more layers."""
    import copy

    import peft
    import torch

    from topeng.adapt.base_settings import TinyOptions
    from topeng.adapt.tiny import new_model, tiny_config

    folder = tmp_path_factory.mktemp("adapters")
    wider = new_model(tiny_config(TinyOptions(hidden_size=96), context=64), seed=0)
    shape = TinyOptions(vocab_size=400, hidden_size=64, layers=3)
    deeper = new_model(tiny_config(shape, context=64), seed=0)
    bases = {"one": shared_model, "two": shared_model, "other": wider, "deeper": deeper}
    for seed, (name, model) in enumerate(bases.items()):
        config = peft.LoraConfig(r=2, lora_alpha=64, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
        torch.manual_seed(seed)
        peft.get_peft_model(copy.deepcopy(model), config).save_pretrained(str(folder / name))
    return folder


@pytest.fixture(scope="session")
def encoder(tmp_path_factory) -> Path:
    """A BERT of random weights, uncased, whose tokenizer config does not say so."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("encoder")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "kucing", "itu", "tidur", "di", "kursi", "kayu", "."]
    (folder / "vocab.txt").write_text("\n".join(words))
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=20, max_position_embeddings=16, **shape)).save_pretrained(folder)
    BertTokenizer(vocab=str(folder / "vocab.txt"), do_lower_case=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def chromium(tmp_path_factory) -> Iterator[browser.Browser]:
    """Started once: a start takes longer than a test in it."""
    with browser.started(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture
def page(chromium) -> Iterator[browser.Page]:
    """A tab of its own in that browser."""
    with chromium.tab() as tab:
        yield tab


def random_model():
    """Random weights large enough that predictions differ, on the device that is tested on."""
    import torch

    from topeng.adapt.base_settings import TinyOptions
    from topeng.adapt.tiny import new_model, tiny_config
    from topeng.models import find_device

    tiny = TinyOptions(vocab_size=400, hidden_size=64, layers=2)
    config = tiny_config(tiny, context=256)
    config.tie_word_embeddings = False  # as LLaDA-8B's
    model = new_model(config, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)
    return model.eval().to(find_device())
