"""What tests share: the folder `shared/` beside the project where it is there, and a tiny model of our own."""

from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
GOLDEN = ROOT / "tests" / "golden" / "llada-tiny"
TEXTS = ["Ibu kota Indonesia adalah Jakarta.", "What is the capital of Indonesia?", "Kucing itu tidur di kursi kayu."]


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
    from topeng.adapt.tiny import new_tokenizer

    return new_tokenizer(TEXTS * 20, vocab_size=400)


@pytest.fixture
def model():
    return random_model()


@pytest.fixture(scope="session")
def shared_model():
    """For tests that change nothing about it."""
    return random_model()


def random_model():
    """Random weights large enough that predictions differ."""
    from topeng.adapt.tiny import new_model, tiny_config
    from topeng.recipe import TinyOptions

    tiny = TinyOptions(vocab_size=400, hidden_size=32, intermediate_size=64, layers=2, heads=4)
    model = new_model(tiny_config(tiny, context=256), seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)
    return model.eval()
