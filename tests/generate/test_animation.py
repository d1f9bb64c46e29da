"""The page on which masks fall, in a browser."""

from types import SimpleNamespace

import pytest

from browser import browser
from topeng.generate.animation import write_animation

WORDS = ["Nama", " saya", " Topeng", ".\n"]


@pytest.fixture
def url(tmp_path):
    known = {"forward_passes": 3, "tokens_per_forward_pass": 4 / 3, "seconds": 0.5}
    film = {"token_ids": [0, 1, 2, 3], "committed_at": [2, 1, 3, 0], "confidence": [0.3, 0.9, 0.4, 1.0]}
    records = [{"prompt": prompt, **known, **film} for prompt in ("Siapa <b>namamu</b>?", "Kata" * 40)]
    tokenizer = SimpleNamespace(decode=lambda ids: WORDS[ids[0]])
    write_animation(tmp_path / "page.html", records, tokenizer, "Answers")
    return (tmp_path / "page.html").as_uri()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_browser_shows_it(tmp_path, url, width, scheme):
    with browser(tmp_path / "profile") as page:
        page.open(f"{url}#pass=1", width, prefers_color_scheme=scheme)
        assert page.run("document.documentElement.scrollWidth") == width
        assert page.run("document.querySelector('.prompt').textContent") == "Siapa <b>namamu</b>?"
        assert page.lapses() == page.complaints() == []


def test_keys_let_masks_fall(tmp_path, url):
    masked = "[...document.querySelector('.answer').querySelectorAll('.masked')].map(one => one.textContent)"
    with browser(tmp_path / "profile") as page:
        page.open(f"{url}#pass=0")
        assert page.run(masked) == ["Nama", " saya", " Topeng"]  # what was given was never masked
        page.key("ArrowRight")
        assert page.run(masked) == ["Nama", " Topeng"]
        page.key("ArrowLeft")
        assert len(page.run(masked)) == 3
        page.run("document.querySelector('input').focus()")
        page.key("End")
        assert page.run(masked) == [] and page.complaints() == []
