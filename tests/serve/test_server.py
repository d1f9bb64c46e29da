"""What an operator needs: keys, limits, cancellation, a stop in the midst of work."""

import asyncio
import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import httpx
import pytest
import torch

from serve.conftest import serving
from topeng.cli import main
from topeng.errors import GenerationError
from topeng.serve import command
from topeng.serve.app import Limits, Server
from topeng.serve.asking import decoding, of_chat
from topeng.serve.command import Address, is_emulated
from topeng.serve.schema import ChatAsk

WHOLE = {"min_new_tokens": 16}  # no end token cuts it short
ASK = {"model": "base", "messages": [{"role": "user", "content": "Apa?"}], "max_tokens": 16, "topeng": WHOLE}
CHAT = "/v1/chat/completions"
LONG = ASK | {"max_tokens": 200, "topeng": {"block_length": 8, "stop_at_end": False}}


def figures(url, **headers):
    lines = httpx.get(f"{url}/metrics", headers=headers).text.splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


def test_keys_guard_what_costs_and_nothing_else(models):
    with serving(Server(models, keys=["satu", "dua"])) as url:
        for given, status in (("", 401), ("Bearer tiga", 401), ("Bearer satu", 200), ("Bearer dua", 200)):
            headers = {"Authorization": given} if given else {}
            assert httpx.get(f"{url}/v1/models", headers=headers).status_code == status
            assert httpx.get(f"{url}/metrics", headers=headers).status_code == status
        refused = httpx.post(url + CHAT, json=ASK)
        assert refused.status_code == 401 and refused.json()["error"]["code"] == "invalid_api_key"
        assert all(httpx.get(url + path).status_code == 200 for path in ("/health", "/ready", "/"))


def test_another_host_without_a_key_is_refused():
    for host in ("127.0.0.1", "::1", "localhost"):
        Address(host).check()
    for host in ("0.0.0.0", "::", "example.org"):
        with pytest.raises(GenerationError, match="accepts requests from other machines"):
            Address(host).check()
        Address(host, keys=["k"]).check()
        Address(host, insecure=True).check()


def test_an_address_in_use_is_told_before_the_model_is_loaded(capsys, monkeypatch):
    def unloaded(*_, **__):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(command, "load", unloaded)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "kecil", "--port", str(port)]) == 1
    assert f"cannot listen at 127.0.0.1, port {port} (Address already in use). Choose" in capsys.readouterr().err
    assert main(["serve", "kecil", "--port", "70000"]) == 1
    assert "port 70000 (" in capsys.readouterr().err


def test_the_checkpoint_says_how_it_wants_to_be_asked(checkpoint, tmp_path, monkeypatch):
    shutil.copytree(checkpoint, tmp_path / "own")
    own = {"max_new_tokens": 24, "block_length": 8, "turns": 0}
    (tmp_path / "own" / "generation_config.json").write_text(json.dumps(own | {"eos_token_id": 1}))
    started = []

    def create(server):
        started.append(server)
        raise GenerationError("enough")

    monkeypatch.setattr(command, "create_app", create)
    for flags in ([], ["--max_new_tokens", "16", "--turns", "1"]):
        assert main(["serve", str(tmp_path / "own"), "--device", "cpu", "--port", "0", *flags]) == 1
    single, told = (server.models for server in started)
    assert (single.settings.max_new_tokens, single.settings.block_length, single.turns) == (24, 8, 0)
    assert (told.settings.max_new_tokens, told.turns) == (16, 1)
    turns = [ASK["messages"][0], {"role": "assistant", "content": "Ya."}, *ASK["messages"]]
    ask = {"model": "base", "messages": turns, "topeng": {"preset": "quality"}}
    lengths = [of_chat(models, ChatAsk(**ask)).prompt_tokens for models in (single, told)]
    assert lengths[0] == of_chat(told, ChatAsk(**ask | ASK)).prompt_tokens < lengths[1]
    how = decoding(single, ChatAsk(**ask), None)
    assert (how.max_new_tokens, how.block_length, how.policy) == (24, 8, "entropy_bound")


def test_a_processor_that_is_slow_in_bfloat16_is_told(monkeypatch):
    cpu, bf16 = torch.device("cpu"), torch.bfloat16
    for known, expected in (({"avx2": True, "avx512_bf16": False}, True), ({"amx_bf16": True}, False), ({}, False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda known=known: known, raising=False)
        assert is_emulated(bf16, cpu) is expected
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    assert not is_emulated(torch.float32, cpu) and not is_emulated(bf16, torch.device("cuda"))


def test_bodies_have_a_limit_announced_or_not(url):
    large = json.dumps(ASK | {"user": "x" * 30_000}).encode()
    headers = {"Content-Type": "application/json"}
    assert httpx.post(url + CHAT, content=large, headers=headers).status_code == 413
    chunks = (large[start : start + 1000] for start in range(0, len(large), 1000))
    assert httpx.post(url + CHAT, content=chunks, headers=headers).status_code == 413


def test_other_sites_may_ask_only_where_they_are_named(models, url):
    origin = {"Origin": "https://example.org"}
    assert "access-control-allow-origin" not in httpx.get(f"{url}/v1/models", headers=origin).headers
    with serving(Server(models, origins=["https://example.org"])) as open_url:
        answer = httpx.get(f"{open_url}/v1/models", headers=origin)
        assert answer.headers["access-control-allow-origin"] == "https://example.org"


def test_a_full_queue_says_when_to_come_again(models, monkeypatch):
    server = Server(models, Limits(batch_tokens=1, longest_queue=1))  # one row at a time
    may_step, step = threading.Event(), server.engine.decoder.step
    monkeypatch.setattr(server.engine.decoder, "step", lambda: may_step.wait(60) and step())
    with serving(server) as url, ThreadPoolExecutor() as pool, httpx.Client(base_url=url, timeout=60) as client:
        first = pool.submit(httpx.post, url + CHAT, json=ASK, timeout=60)
        until(lambda: server.engine.running)
        second = pool.submit(httpx.post, url + CHAT, json=ASK, timeout=60)
        until(lambda: server.engine.waiting)
        full = client.post(CHAT, json=ASK)
        assert full.status_code == 429 and full.json()["error"]["code"] == "queue_full"
        assert int(full.headers["Retry-After"]) >= 1
        may_step.set()
        assert first.result().status_code == second.result().status_code == 200
        assert client.post(CHAT, json=ASK).status_code == 200  # those that left made room


def test_an_answer_that_takes_too_long_is_given_up(models):
    with serving(Server(models, Limits(seconds=0.05))) as url:
        answer = httpx.post(url + CHAT, json=LONG, timeout=60)
        assert answer.status_code == 504 and "no answer within" in answer.json()["error"]["message"]
        with httpx.stream("POST", url + CHAT, json=LONG | {"stream": True}) as stream:
            events = [line for line in stream.iter_lines() if line]
        assert json.loads(events[-1].removeprefix("data: "))["error"]["code"] == "timeout"
        until(lambda: figures(url)["topeng_rows_running"] == 0)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_stops_its_rows(models, stream):
    with serving(Server(models)) as url:

        async def leave() -> None:
            async with httpx.AsyncClient() as client:
                asking = asyncio.create_task(client.post(url + CHAT, json=LONG | {"stream": stream}, timeout=60))
                while figures(url)["topeng_rows_running"] == 0:
                    await asyncio.sleep(0.01)
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)

        asyncio.run(leave())
        until(lambda: figures(url)["topeng_rows_running"] == 0)
        assert figures(url)["topeng_forward_passes_total"] < 200


def test_an_answer_leaves_nothing_behind(models, monkeypatch):
    """Rows hold keys and values; what is in a cycle would stay until Python looks for them."""
    server, seen = Server(models), weakref.WeakSet()
    submit = server.engine.submit
    monkeypatch.setattr(server.engine, "submit", lambda job: (seen.update(job.rows), submit(job)))
    gc.disable()
    try:
        with serving(server) as url:
            asked = ASK | {"topeng": WHOLE | {"cache": "prefix"}}
            for body in (asked, asked | {"stream": True}, asked | {"stop": ["a"]}, LONG | {"temperature": 9}):
                httpx.post(url + CHAT, json=body, timeout=60)
            with httpx.stream("POST", url + CHAT, json=LONG | {"stream": True}) as stream:
                next(stream.iter_lines())
                assert len(seen) >= 1
            # Of a client that left, the exceptions that end its stream keep the row, but not what was computed of it.
            until(lambda: len(seen) <= 1 and not any(row.views for row in list(seen)))
    finally:
        gc.enable()


def test_figures_for_prometheus(url):
    before = figures(url)
    httpx.post(url + CHAT, json=ASK)
    now = figures(url)

    def grown(name):
        return now[name] - before.get(name, 0)

    assert grown('topeng_requests_total{path="/v1/chat/completions",status="200"}') == 1
    assert grown("topeng_completion_tokens_total") == 16 and grown("topeng_forward_passes_total") >= 16
    assert grown("topeng_request_seconds_count") == 1 and now['topeng_request_seconds{quantile="0.95"}'] > 0


def test_the_canvas_after_each_step(url):
    with httpx.stream(
        "POST", f"{url}/v1/denoise", json=ASK | {"topeng": WHOLE | {"fixed_words": "2:kucing"}}
    ) as stream:
        *events, last = [line.removeprefix("data: ") for line in stream.iter_lines() if line]
    start, *steps, done = map(json.loads, events)
    assert last == "[DONE]" and start == {
        "type": "start",
        "model": "base",
        "length": 16,
        "prompt_tokens": start["prompt_tokens"],
    }
    assert [step["step"] for step in steps] == list(range(1, len(steps) + 1))
    for before, now in pairwise(steps):
        committed = [place for place in range(16) if before["masked"][place] and not now["masked"][place]]
        assert committed and all(now["committed_at"][place] == now["step"] for place in committed)
        kept = [place for place in range(16) if not before["masked"][place]]
        assert all(now["committed_at"][place] == before["committed_at"][place] for place in kept)
    assert not any(steps[-1]["masked"]) and "kucing" in done["text"] and done["finish_reason"] == "length"


def test_the_document_describes_what_is_there(url):
    document = httpx.get(f"{url}/openapi.json").json()
    assert {"/v1/chat/completions", "/v1/completions", "/v1/denoise", "/v1/models", "/ready"} <= set(document["paths"])
    statuses = document["paths"][CHAT]["post"]["responses"]
    assert {"200", "400", "401", "404", "413", "429", "503", "504"} <= set(statuses) and "422" not in statuses
    assert (
        httpx.get(f"{url}/docs").status_code == httpx.get(f"{url}/redoc").status_code == 404
    )  # they load from elsewhere


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'"text"', b'{"model": "base", "messages": NaN}', b"null"])
def test_what_is_no_request_is_refused_in_openais_shape(url, body):
    answer = httpx.post(url + CHAT, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400 and set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_half_of_a_surrogate_pair_is_no_text(url):
    body = json.dumps(ASK | {"messages": [{"role": "user", "content": "\ud83d"}]}).encode()
    answer = httpx.post(url + CHAT, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400 and "an unpaired surrogate" in answer.json()["error"]["message"]


@pytest.mark.slow
def test_a_stop_in_the_midst_of_work_loses_no_answer(checkpoint, adapters):
    command = [sys.executable, "-m", "topeng", "serve", str(checkpoint), "--adapters", f"one={adapters / 'one'}"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(
        [*command, "--port", str(port)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            until(lambda: _ready(url), 120)
            with ThreadPoolExecutor(4) as pool:
                asked = [pool.submit(httpx.post, url + CHAT, json=LONG, timeout=60) for _ in range(4)]
                until(lambda: figures(url)["topeng_rows_running"] > 0)
                os.kill(process.pid, signal.SIGTERM)
                answers = [one.result() for one in asked]
            assert [answer.status_code for answer in answers] == [200] * 4
            assert {answer.json()["usage"]["completion_tokens"] for answer in answers} == {200}
            assert process.wait(30) == 0
            with pytest.raises(httpx.ConnectError):
                httpx.get(f"{url}/health")
            rest = process.stdout.read()
            assert "Requests in progress were answered" in rest and "Apa?" not in rest
        finally:
            process.kill()


def _ready(url):
    try:
        return httpx.get(f"{url}/ready").status_code == 200
    except httpx.ConnectError:
        return False
