"""Turns a job into the response of a client: one body, or events. If the client disconnects, its rows are stopped."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from fastapi import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from topeng.serve.asking import Asked
from topeng.serve.engine import Engine, Job, Snapshot
from topeng.serve.faults import ApiError, as_json
from topeng.serve.shapes import Chat, usage
from topeng.serve.writer import Spoken


class Answering:
    """A request that is being answered."""

    def __init__(self, engine: Engine, asked: Asked, seconds: float, follow: bool) -> None:
        """
        Args:
            seconds: longest time that it may take.
            follow: report every step, and not only the end.

        Raises:
            ApiError: the queue is full, or the server shuts down.
        """
        self.engine, self.asked, self.seconds = engine, asked, seconds
        self.started, self.spoken = time.perf_counter(), dict[int, Spoken]()
        self.job = Job(asked.rows, follow or bool(asked.writer.stops))
        engine.submit(self.job)

    async def readings(self) -> AsyncGenerator[tuple[Snapshot, Spoken]]:
        """Yields the final text of each row so far, after each step. A row whose text is complete is dropped.

        Raises:
            ApiError: the decoder failed, or the time is over.
        """
        try:
            async with aclosing(self.job.snapshots(self.seconds)) as told:
                async for snapshot in told:
                    spoken = self.asked.writer.read(snapshot.tokens, snapshot.masked)
                    if spoken.text and not any(one.text for one in self.spoken.values()):
                        self._observe("topeng_first_text_seconds")
                    self.spoken[snapshot.place] = spoken
                    yield snapshot, spoken
                    if spoken.reason and not snapshot.done:
                        self.engine.drop(self.job, snapshot.place)
            self._observe("topeng_request_seconds")
            self.engine.metrics.count("topeng_prompt_tokens_total", self.asked.prompt_tokens)
            self.engine.metrics.count("topeng_completion_tokens_total", self.tokens)
        finally:
            self.engine.drop(self.job)

    def _observe(self, name: str) -> None:
        self.engine.metrics.observe(name, time.perf_counter() - self.started)

    @property
    def tokens(self) -> int:
        return sum(one.tokens for one in self.spoken.values())

    def usage(self) -> dict[str, int]:
        return usage(self.asked.prompt_tokens, self.tokens)

    def echo(self, place: int) -> str:
        return self.asked.prompts[place // self.asked.choices].echo


async def whole(request: Request, answering: Answering, shape: Chat, echo: bool) -> Response:
    """The answer as one body. It is abandoned if the client disconnects."""

    async def read() -> None:
        async for _ in answering.readings():
            pass

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = asyncio.create_task(read()), asyncio.create_task(gone())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            return Response(status_code=499)
        tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    rows = answering.asked.rows
    choices = [
        shape.choice(place, answering.spoken[place], rows[place], answering.echo(place) if echo else "")
        for place in range(len(rows))
    ]
    return as_json(shape.whole(choices, answering.usage()))


class Events(StreamingResponse):
    """Streams events. An error ends the stream. A client that disconnects, even before the first event, is dropped."""

    def __init__(self, answering: Answering, events: AsyncGenerator[Any]) -> None:
        super().__init__(_lines(events), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self.answering = answering

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.answering.engine.drop(self.answering.job)


async def _lines(events: AsyncGenerator[Any]) -> AsyncIterator[str]:
    async with aclosing(events):
        try:
            async for event in events:
                yield _event(event)
        except ApiError as error:
            yield _event(error.body())


def _event(value: Any) -> str:
    return f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n"


async def pieces(answering: Answering, shape: Chat, echo: bool, with_usage: bool) -> AsyncGenerator[Any]:
    """Yields final text, the reason why each answer ended, usage if it is requested, and `[DONE]`."""
    more = {"usage": None} if with_usage else {}
    texts: dict[int, str] = {}
    told: dict[int, int] = {}
    async with aclosing(answering.readings()) as readings:
        async for snapshot, spoken in readings:
            place, row = snapshot.place, answering.asked.rows[snapshot.place]
            echoed = answering.echo(place) if echo else ""
            if place not in texts:
                texts[place], told[place] = "", 0
                if opening := shape.opening(place):
                    yield shape.piece([opening]) | more
                if echo:
                    yield shape.piece([shape.delta(place, echoed, None)]) | more
            text = spoken.text[len(texts[place]) :]
            if text:
                odds = shape.odds(row, told[place], spoken.tokens, len(echoed) + len(texts[place]))
                texts[place], told[place] = spoken.text, spoken.tokens
                yield shape.piece([shape.delta(place, text, odds)]) | more
            if spoken.reason:
                yield shape.piece([shape.closing(place, spoken.reason)]) | more
    if with_usage:
        yield shape.piece([]) | {"usage": answering.usage()}
    yield "[DONE]"


async def canvases(answering: Answering, tokenizer: Any, model: str) -> AsyncGenerator[Any]:
    """Yields the canvas after each step, so that a page can show it."""
    row = answering.asked.rows[0]
    length = len(row.tokens) - row.prompt_length
    yield {"type": "start", "model": model, "length": length, "prompt_tokens": answering.asked.prompt_tokens}
    async with aclosing(answering.readings()) as readings:
        async for snapshot, _ in readings:
            yield {
                "type": "step",
                "step": snapshot.passes,
                "tokens": texts_of(tokenizer, snapshot.tokens, snapshot.masked),
                "masked": snapshot.masked,
                "confidence": [round(value, 4) for value in snapshot.confidence],
                "committed_at": snapshot.committed_at,
            }
    said = answering.spoken[0]
    yield {
        "type": "done",
        "text": said.text,
        "tokens": said.tokens,
        "finish_reason": said.reason,
        "seconds": round(time.perf_counter() - answering.started, 3),
        "usage": answering.usage(),
    }
    yield "[DONE]"


def texts_of(tokenizer: Any, tokens: Sequence[int], masked: Sequence[bool]) -> list[str | None]:
    """The text of each token, or None if it is masked. A character of several tokens is put at its first token."""
    texts = [None if hidden else tokenizer.decode([token]) for token, hidden in zip(tokens, masked, strict=True)]
    place = 0
    while place < len(texts):
        stop = place
        while stop < len(texts) and "\ufffd" in (texts[stop] or ""):
            stop += 1
        if stop > place + 1:
            texts[place:stop] = [tokenizer.decode(list(tokens[place:stop])), *[""] * (stop - place - 1)]
        place = stop + 1
    return texts
