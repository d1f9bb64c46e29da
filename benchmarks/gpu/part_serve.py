"""`topeng serve` on LLaDA-8B's shape: tokens per second of one client and of 16, the wait for a first block.

The server is a process of its own, started as a user starts it, on the checkpoint that `train` has left.
"""

import asyncio
import json
import math
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from bench import Bench
from ledger import Record
from part_train import weights
from rows import ROOT, finished_corpus

CLIENTS = 16
BLOCK = 32
TOKENS = 2 * BLOCK
"""Of an answer. No end token may come before them, so that at random weights too all answers are of one length."""
QUESTION = "Ceritakan tentang seekor kucing yang tinggal di sebuah rumah di tepi laut."

Seen = tuple[int, float]
"""Of an answer its tokens, and the seconds until its first block was whole."""
Ask = Callable[[httpx.AsyncClient, dict[str, Any]], Awaitable[Seen]]


def serve(bench: Bench) -> None:
    """Whole answers, as a program asks for them, by preset; then answers whose every step is told, as the page asks."""
    corpus, _ = finished_corpus(bench.scratch / "rows")
    base, _ = weights(bench, corpus)
    bench.free_memory()
    began = time.perf_counter()
    with server(bench, base) as url:
        bench.record("start", {"seconds_until_ready": time.perf_counter() - began})
        bench.attempt("first answer", lambda: measured(url, whole, 1, "reference"))
        for preset in ("reference", "fast"):
            one_and_many(bench, url, preset, whole)
        one_and_many(bench, url, "reference", followed)


def one_and_many(bench: Bench, url: str, preset: str, ask: Ask) -> None:
    """One client alone, then many at once, and how many times more tokens per second they get together."""
    name = f"{preset}, {ask.__name__}"
    alone = bench.attempt(f"{name}, 1 client", lambda: measured(url, ask, 1, preset))
    together = bench.attempt(f"{name}, {CLIENTS} clients", lambda: measured(url, ask, CLIENTS, preset))
    if alone and together:
        ratio = together["tokens_per_second"] / alone["tokens_per_second"]
        bench.record(f"{name}, {CLIENTS} clients over one", {"times_the_tokens_per_second": ratio})


@contextmanager
def server(bench: Bench, base: Path) -> Iterator[str]:
    """Its address, once it takes requests; it is asked to stop in the end.

    Raises:
        RuntimeError: it ended, or the part's time was over, before it was ready.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "topeng", "serve", str(base), "--port", str(port), "--device", bench.device]
    log = bench.scratch / "serve.log"
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    with log.open("w") as stream:  # in the part's process group: whoever ends that ends it too
        process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, stdout=stream, stderr=stream)
    try:
        until_ready(process, f"http://127.0.0.1:{port}", log, bench)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until_ready(process: subprocess.Popen, url: str, log: Path, bench: Bench) -> None:
    while bench.seconds_left > 0:
        if process.poll() is not None:
            lines = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            raise RuntimeError(f"the server ended with {process.returncode}: {lines[-1]}")
        try:
            if httpx.get(f"{url}/ready", timeout=5, trust_env=False).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise RuntimeError("the server was not ready in the part's time")


def measured(url: str, ask: Ask, clients: int, preset: str) -> Record:
    """An answer to each of some clients that ask at the same time.

    Raises:
        RuntimeError: one was refused, or is not as long as was asked for.
    """
    began = time.perf_counter()
    seen = asyncio.run(all_clients(url, ask, clients, preset))
    seconds = time.perf_counter() - began
    other = [tokens for tokens, _ in seen if tokens != TOKENS]
    if other:
        raise RuntimeError(f"{len(other)} of {clients} answers have not {TOKENS} tokens, the first has {other[0]}")
    first = [block for _, block in seen]
    figures = {"tokens_per_second": TOKENS * clients / seconds}
    if ask is followed:
        figures |= {"seconds_to_a_first_block": statistics.median(first), "the_longest": max(first)}
    return figures


async def all_clients(url: str, ask: Ask, clients: int, preset: str) -> list[Seen]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits, trust_env=False) as client:
        return await asyncio.gather(*(ask(client, body(place, preset)) for place in range(clients)))


def body(place: int, preset: str) -> dict[str, Any]:
    """A question of a client's own."""
    return {
        "model": "base",
        "messages": [{"role": "user", "content": f"{place}. {QUESTION}"}],
        "max_tokens": TOKENS,
        "seed": place,
        "topeng": {"preset": preset, "block_length": BLOCK, "min_new_tokens": TOKENS},
    }


async def whole(client: httpx.AsyncClient, asked: dict[str, Any]) -> Seen:
    answer = await client.post("/v1/chat/completions", json=asked)
    if answer.is_error:
        raise RuntimeError(answer.text)
    return answer.json()["usage"]["completion_tokens"], math.nan


async def followed(client: httpx.AsyncClient, asked: dict[str, Any]) -> Seen:
    """By the canvas after each step: at random weights most tokens have no text that a stream of text would show."""
    began, first, tokens = time.perf_counter(), math.nan, 0
    async with client.stream("POST", "/v1/denoise", json=asked) as response:
        if response.is_error:
            raise RuntimeError((await response.aread()).decode())
        async for line in response.aiter_lines():
            event = json.loads(line.removeprefix("data: ")) if line.startswith("data: {") else {}
            if "error" in event:
                raise RuntimeError(event["error"]["message"])
            if math.isnan(first) and event.get("type") == "step" and not any(event["masked"][:BLOCK]):
                first = time.perf_counter() - began
            tokens = event.get("tokens", tokens) if event.get("type") == "done" else tokens
    return tokens, first
