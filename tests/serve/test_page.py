"""The page in a real browser."""

import time
from dataclasses import replace

import pytest

from serve.conftest import serving
from topeng.generate import Settings
from topeng.generate.decode import Decoder
from topeng.serve.app import Limits, Server

BUSY = "document.querySelector('#send').disabled"
CANVASES = "[...document.querySelectorAll('.canvas')].map(one => one.textContent)"
MASKED = "document.querySelectorAll('.canvas .masked').length"
ERROR = "document.querySelector('#error').textContent"


def until(page, script, seconds=120):
    end = time.monotonic() + seconds
    while not page.run(script):
        assert time.monotonic() < end, (script, page.complaints())
        time.sleep(0.05)


def put(page, **values):
    for name, value in values.items():
        page.run(f"document.querySelector('#{name}').value = {value!r}")


def ask(page, text="Di mana kucing itu tidur?"):
    page.run("document.querySelector('#question').focus()")
    page.write(text)
    page.key("Enter")


LOOKS = [(1280, "light", "en"), (390, "dark", "id")]


@pytest.mark.parametrize(("width", "scheme", "language"), LOOKS)
def test_a_conversation_side_by_side(page, url, width, scheme, language):
    page.open(f"{url}/?lang={language}", width, 844, prefers_color_scheme=scheme)
    assert page.run("document.documentElement.lang") == language
    page.run("document.querySelector('#settings').open = true")
    page.run("document.querySelectorAll('[name=model]').forEach(box => { box.checked = box.value !== 'two'; })")
    put(page, length="24", steps="6", fixed="2:kucing", block="8")
    for turn in (1, 2):
        ask(page)
        until(page, f"!{BUSY} && document.querySelectorAll('.player').length === {2 * turn}")
    assert page.run("[...document.querySelectorAll('.answer h2')].map(one => one.textContent)") == ["base", "one"] * 2
    assert page.run("document.querySelectorAll('.token.given').length") > 0
    assert len(set(page.run(CANVASES))) == 4  # each has a history and an adapter of its own
    assert page.run("document.documentElement.scrollWidth") == width
    sizes = "[...document.querySelectorAll('button, input, select')].filter(one => one.checkVisibility())"
    assert min(map(min, page.run(f"{sizes}.map(one => [one.offsetWidth, one.offsetHeight])"))) >= 24
    assert page.lapses() == page.complaints() == []
    assert all(asked.startswith(url) for asked in page.requests())


@pytest.fixture
def slow(monkeypatch):
    """Steps that a browser can follow, whatever the machine and the model."""
    step = Decoder.step

    def slowly(decoder):
        time.sleep(0.03)
        return step(decoder)

    monkeypatch.setattr(Decoder, "step", slowly)


def test_tokens_appear_where_they_are_committed_and_the_slider_goes_back(page, url, slow):
    page.open(url)
    put(page, length="120", block="120")
    ask(page)
    until(page, f"{MASKED} > 0")
    page.run("document.querySelector('#pause').click()")
    page.settle()
    left = page.run(MASKED)
    time.sleep(0.3)
    assert page.run(MASKED) == left > 0  # held
    page.run("document.querySelector('#pause').click()")
    until(page, f"!{BUSY}")
    assert page.run(MASKED) == 0 and page.run("document.querySelectorAll('.canvas .new').length") == 0
    page.run("document.querySelector('.player input').focus()")
    page.key("Home")
    tokens = page.run("document.querySelectorAll('.canvas .token').length")
    assert page.run(MASKED) == tokens
    page.key("ArrowRight")
    assert page.run(MASKED) == tokens - 1
    assert page.run("document.querySelector('.player input').ariaValueText").startswith("step 1 of")
    page.key("End")
    heard = page.run("document.querySelector('.heard').textContent")
    assert heard and page.complaints() == []
    assert "".join(heard.split()) == "".join(page.run(CANVASES)[0].replace("∎", "").split())


def test_a_place_is_chosen_by_clicking(page, url):
    page.open(url)
    page.run("document.querySelector('#places').closest('details').open = true")
    page.run("document.querySelector('#places button:nth-child(6)').click()")
    page.write("kucing, ya")
    put(page, length="32", steps="4", block="32")
    ask(page)
    until(page, f"!{BUSY}")
    assert "kucing, ya" in page.run(CANVASES)[0]
    page.run("document.querySelector('.canvas .token:nth-child(3)').click()")
    assert page.run("document.querySelector('#fixed').value") == "5:kucing, ya, 2:"
    assert page.run("document.activeElement.id") == "fixed"


def test_what_goes_wrong_is_said(page, models, slow):
    limits = Limits(batch_tokens=1, longest_queue=0)
    endless = replace(models, settings=Settings(max_new_tokens=160, min_new_tokens=160))
    with serving(Server(endless, limits)) as url:
        page.open(url)
        put(page, preset="", length="160", block="32", fixed="0:")
        ask(page)
        until(page, f"{ERROR}.includes('position:word')")
        put(page, fixed="")
        page.run("document.querySelectorAll('[name=model]').forEach(box => { box.checked = true; })")
        ask(page)  # three at once, of which one runs and none may wait
        until(page, f"{ERROR}.includes('The queue is full')")
        until(page, f"{MASKED} > 0 && {BUSY}")
        page.run("document.querySelector('#stop').click()")
        until(page, f"!{BUSY}")
        spent = "[...document.querySelectorAll('.spent')].map(one => one.textContent)"
        assert set(page.run(spent)) == {"stopped"} and page.run("document.querySelectorAll('.player').length") == 0
    ask(page)
    until(page, f"{ERROR}.includes('does not answer')")


def test_a_key_is_asked_for_where_there_is_one(page, models):
    with serving(Server(models, keys=["rahasia"])) as url:
        page.open(url)
        ask(page)
        until(page, f"{ERROR}.includes('API key')")
        put(page, key="rahasia", length="8", block="8")
        ask(page)
        until(page, "document.querySelectorAll('.player').length === 1")
        assert page.run(ERROR) == ""
