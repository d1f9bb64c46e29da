"""The routes: OpenAI's API, the canvas after each step, the page, health checks and metrics."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from starlette.concurrency import run_in_threadpool
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from topeng import __version__
from topeng.generate.settings import PRESETS
from topeng.serve import faults
from topeng.serve.answering import Answering, Events, canvases, pieces, whole
from topeng.serve.asking import Asked, Models, of_chat, of_completion
from topeng.serve.engine import Engine
from topeng.serve.faults import ApiError, as_json
from topeng.serve.gate import Gate
from topeng.serve.metrics import Metrics
from topeng.serve.page import page
from topeng.serve.schema import Ask, ChatAsk, CompletionAsk
from topeng.serve.shapes import Chat, Completion


def _typed(*kinds: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {kind: {} for kind in kinds}}}


EVENTS, TEXT, EITHER = (
    _typed("text/event-stream"),
    _typed("text/plain"),
    _typed("application/json", "text/event-stream"),
)
"""Describes the response with status 200, for the OpenAPI document."""


@dataclass(frozen=True)
class Limits:
    """Limits of a server.

    Attributes:
        batch_tokens: tokens of one forward pass, including padding.
        longest_queue: number of answers that may wait.
        largest_body: size of a request in bytes.
        seconds: time that an answer may take.
    """

    batch_tokens: int = 8192
    longest_queue: int = 256
    largest_body: int = 2**20
    seconds: float = 600.0


@dataclass
class Server:
    """Objects that the routes share."""

    models: Models
    limits: Limits = field(default_factory=Limits)
    keys: Sequence[str] = ()
    origins: Sequence[str] = ()
    metrics: Metrics = field(default_factory=Metrics)
    started: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self.engine = Engine(self.limits.batch_tokens, self.limits.longest_queue, self.metrics)

    async def answer(self, request: Request, ask: Ask, asked: Asked, shape: Chat) -> Response:
        answering = Answering(self.engine, asked, self.limits.seconds, follow=bool(ask.stream))
        echo = bool(ask.given("echo"))
        if not ask.stream:
            return await whole(request, answering, shape, echo)
        options = ask.stream_options
        return Events(answering, pieces(answering, shape, echo, bool(options and options.include_usage)))


def create_app(server: Server) -> FastAPI:
    """The ASGI application. Its engine runs from startup to shutdown, which waits for requests in progress."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        server.engine.start()
        yield
        await run_in_threadpool(server.engine.close)

    app = FastAPI(title="Topeng", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.openapi = partial(_described, app, list(server.models.voices))  # type: ignore[method-assign]
    faults.install(app)
    _add_answers(app, server)
    _add_models(app, server)
    _add_operations(app, server)
    limits = server.limits
    app.add_middleware(Gate, keys=server.keys, largest_body=limits.largest_body, metrics=server.metrics)
    if server.origins:
        app.add_middleware(CORSMiddleware, allow_origins=list(server.origins), allow_methods=["*"], allow_headers=["*"])
    return app


def _add_answers(app: FastAPI, server: Server) -> None:
    models = server.models

    @app.post("/v1/chat/completions", responses=EITHER | faults.DOCUMENTED, response_model=None)
    async def chat_completions(request: Request, ask: ChatAsk) -> Response:
        """An answer to a conversation, whole or as server-sent events."""
        asked = of_chat(models, ask)
        return await server.answer(request, ask, asked, Chat(ask.model, models.tokenizer, bool(ask.logprobs)))

    @app.post("/v1/completions", responses=EITHER | faults.DOCUMENTED, response_model=None)
    async def completions(request: Request, ask: CompletionAsk) -> Response:
        """The continuation of a text or, with `suffix` or `topeng.gaps`, the text in between."""
        asked = of_completion(models, ask)
        shape = Completion(ask.model, models.tokenizer, ask.logprobs is not None)
        return await server.answer(request, ask, asked, shape)

    @app.post("/v1/denoise", responses=EVENTS | faults.DOCUMENTED, response_class=Response, response_model=None)
    async def denoise(ask: ChatAsk) -> Response:
        """The canvas after each step, as server-sent events."""
        if (ask.n or 1) > 1:
            raise ApiError(400, f"n = {ask.n} must be 1, as one canvas is shown", "n")
        answering = Answering(server.engine, of_chat(models, ask), server.limits.seconds, follow=True)
        return Events(answering, canvases(answering, models.tokenizer, ask.model))


def _add_models(app: FastAPI, server: Server) -> None:
    def told(name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": server.started, "owned_by": "topeng"}

    @app.get("/v1/models", responses=_only(401), response_model=None)
    async def list_models() -> Response:
        """The base and its adapters."""
        return as_json({"object": "list", "data": [told(name) for name in server.models.voices]})

    @app.get("/v1/models/{name}", responses=_only(401, 404), response_model=None)
    async def one_model(name: str) -> Response:
        server.models.voice(name)
        return as_json(told(name))


def _add_operations(app: FastAPI, server: Server) -> None:
    @app.get("/health", response_model=None)
    async def health() -> Response:
        """Whether the process is alive."""
        return as_json({"status": "ok"})

    @app.get("/ready", responses=_only(503), response_model=None)
    async def ready() -> Response:
        """Whether the server accepts requests."""
        if server.engine.closing or not server.engine.thread.is_alive():
            raise ApiError(
                503, "the server does not accept requests, because it is shutting down or its decoder has stopped"
            )
        return as_json({"status": "ready"})

    @app.get("/metrics", responses=TEXT | _only(401), response_class=Response, response_model=None)
    async def metrics() -> Response:
        """Counters and percentiles for Prometheus."""
        return Response(server.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/", include_in_schema=False)
    async def show_page(lang: str = "en") -> Response:
        text, policy = page(server.models, sorted(PRESETS), "id" if lang == "id" else "en", bool(server.keys))
        return Response(text, media_type="text/html", headers={"Content-Security-Policy": policy})


def _only(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: faults.DOCUMENTED[status] for status in statuses}


def _described(app: FastAPI, models: Sequence[str]) -> dict[str, Any]:
    """The OpenAPI document. A body that violates its schema gets status 400, like all other faulty requests."""
    if app.openapi_schema is None:
        app.openapi_schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
        for schema in app.openapi_schema["components"]["schemas"].values():
            if "model" in schema.get("properties", {}):
                schema["properties"]["model"]["enum"] = list(models)
        for path in app.openapi_schema["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
    return app.openapi_schema
