"""A server on a port of its own, over a tiny model with two adapters."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

import uvicorn

from topeng import load
from topeng.adapt.voices import load_voices
from topeng.generate import Settings
from topeng.serve.app import Limits, Server, create_app
from topeng.serve.asking import Models

SETTINGS = Settings(max_new_tokens=16, block_length=8, stop_at_end=True)


@contextmanager
def serving(server: Server) -> Iterator[str]:
    """The address of a server that runs meanwhile."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        running = uvicorn.Server(uvicorn.Config(create_app(server), log_level="warning"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not running.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            running.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


@pytest.fixture(scope="session")
def models(checkpoint: Path, adapters: Path) -> Models:
    base, tokenizer = load(checkpoint, device="cpu")
    voices = load_voices(base, {"one": adapters / "one", "two": adapters / "two"})
    return Models(voices, tokenizer, SETTINGS)


@pytest.fixture(scope="session")
def server(models: Models) -> Server:
    return Server(models, Limits(largest_body=20_000))


@pytest.fixture(scope="session")
def url(server: Server) -> Iterator[str]:
    with serving(server) as address:
        yield address
