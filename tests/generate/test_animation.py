"""The page on which masks fall."""

import re

import pytest

from topeng.generate.animation import write_animation
from topeng.generate.settings import Settings
from topeng.pages import LOOK

WORDS = ["Nama", " saya", " Topeng", ".\n"]
SOURCE = {"model": "runs/demo/base", "adapter": "runs/demo/adapters/lora", "preset": "reference"}
HOSTILE = "<img src=x onerror=\"document.title='run'\">"


def write(tmp_path, source=SOURCE, language="en", **changes) -> str:
    known = {"forward_passes": 3, "tokens_per_forward_pass": 4 / 3, "seconds": 1.25, "ended": True}
    film = {"pieces": WORDS, "committed_at": [2, 1, 3, 0], "confidence": [0.3, 0.9, 0.4, 1.0]}
    prompts = (f"Siapa {HOSTILE}?", "Kata" * 40)
    records = [{"prompt": prompt, **known, **film, **changes} for prompt in prompts]
    write_animation(tmp_path / "page.html", records, source, Settings(max_new_tokens=64), language)
    return (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.fixture
def url(tmp_path):
    write(tmp_path)
    return (tmp_path / "page.html").as_uri()


def told(page: str) -> list[tuple[str, str]]:
    return re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page)


def test_it_names_model_adapter_and_settings(tmp_path):
    page = write(tmp_path)
    assert told(page) == [("Model", "demo/base"), ("Adapter", "adapters/lora"), ("Preset", "reference")]
    for setting in ("max_new_tokens = 64", "policy = top_k", "stop_at_end = false", "steps = null"):
        assert f"<li>{setting}</li>" in page
    assert told(write(tmp_path, SOURCE | {"adapter": None}))[1] == ("Adapter", "none: the model itself")
    shown = told(write(tmp_path, SOURCE | {"model": "GSAI-ML/LLaDA-8B", "system": "Be kind.", "template": "Ya {2}"}))
    assert shown[0] == ("Model", "GSAI-ML/LLaDA-8B")
    assert shown[3:] == [("System message", "Be kind."), ("Answer template", "Ya {2}")]


def test_each_answer_tells_its_own_figures(tmp_path):
    assert "Tokens: 4. Passes: 3. Tokens per pass: 1.3. Seconds: 1.25.</p>" in write(tmp_path)
    assert "Seconds: 1.25. It was cut at its longest length.</p>" in write(tmp_path, ended=False)
    empty = write(tmp_path, pieces=[], committed_at=[], confidence=[])
    assert "(empty: the model ended its answer at once)" in empty


def test_it_has_one_language(tmp_path):
    english, indonesian = write(tmp_path), write(tmp_path, language="id")
    assert (
        '<html lang="id">' in indonesian and "Token: 4. Langkah: 3. Token per langkah: 1,3. Detik: 1,25." in indonesian
    )

    def visible(page: str) -> set[str]:
        texts = re.sub(r"(?s)<(style|script)>.*?</\1>|<ul class=\"settings\">.*?</ul>", "", page)
        words = re.sub(r"<[^>]*>", " ", texts) + " ".join(re.findall(r'(?:aria-label|title|data-\w+)="([^"]*)"', texts))
        return {word for word in re.findall(r"[a-z]{4,}", words.lower()) if not word.startswith("kata")}

    # What the records, the source and the attributes hold; no word of one language stands on the page of the other.
    theirs = {"siapa", "nama", "saya", "topeng", "document", "title", "onerror", "demo", "base", "adapters", "lora"}
    assert visible(english) & visible(indonesian) <= theirs | {"reference", "model", "token", "step", "last"}


def test_it_runs_its_own_script_alone_and_loads_nothing(tmp_path):
    page = write(tmp_path, SOURCE | {"model": HOSTILE, "system": HOSTILE})
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    assert LOOK.read_text(encoding="utf-8") in page  # of report and map too
    assert "<img" not in page and not re.search(r"@import|url\(|https?:|src=\"", page)


LOOKS = [(1280, "light", "en"), (390, "dark", "en"), (390, "light", "id"), (1280, "dark", "id")]


@pytest.mark.parametrize(("width", "scheme", "language"), LOOKS)
def test_a_browser_shows_it(tmp_path, width, scheme, language, page):
    write(tmp_path, SOURCE | {"system": "Kata" * 40}, language)
    page.open(f"{(tmp_path / 'page.html').as_uri()}#pass=1", width, prefers_color_scheme=scheme)
    assert page.run("document.documentElement.scrollWidth") == width
    assert page.run("document.querySelector('.prompt').textContent") == f"Siapa {HOSTILE}?"
    sizes = "[...document.querySelectorAll('button, input')].map(one => [one.offsetWidth, one.offsetHeight])"
    assert min(map(min, page.run(sizes))) >= 24  # WCAG 2.2, 2.5.8
    assert page.lapses() == page.complaints() == []


def test_keys_let_masks_fall(tmp_path, url, page):
    masked = "[...document.querySelector('.answer').querySelectorAll('.masked')].map(one => one.textContent)"
    page.open(f"{url}#pass=0")
    assert page.run(masked) == ["Nama", "saya", "Topeng"]  # what was given was never masked
    page.key("ArrowRight")
    assert page.run(masked) == ["Nama", "Topeng"]
    assert page.run("document.querySelector('input').ariaValueText") == "pass 1 of 3"
    page.key("ArrowLeft")
    assert len(page.run(masked)) == 3
    page.run("document.querySelector('input').focus()")
    page.key("End")
    assert page.run(masked) == [] and page.complaints() == []
    page.run("document.querySelector('button').click()")
    assert page.run("document.querySelector('button').ariaLabel") == "Pause"
