"""Finished corpora that tests share and change nothing of."""

from dataclasses import replace
from pathlib import Path

import pytest
from small_corpus import OPTIONS, make

from topeng.corpus.schema import INGESTED


@pytest.fixture(scope="session")
def clean(tmp_path_factory) -> Path:
    return make(OPTIONS, tmp_path_factory.mktemp("clean"))


@pytest.fixture(scope="session")
def paper(clean, tmp_path_factory) -> Path:
    """Drawn from the same rows by the profile `paper`."""
    return make(replace(OPTIONS, profile="paper"), tmp_path_factory.mktemp("paper"), given=clean, kept=[INGESTED])
