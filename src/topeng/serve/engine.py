"""The thread in which rows of all requests are denoised together."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from topeng.generate.decode import Decoder
from topeng.generate.row import Row
from topeng.serve.faults import ApiError
from topeng.serve.metrics import Metrics

logger = logging.getLogger("topeng.serve")


@dataclass(frozen=True)
class Snapshot:
    """The answer of a row after a step.

    Attributes:
        place: place of the row in its job.
    """

    place: int
    passes: int
    tokens: list[int]
    masked: list[bool]
    confidence: list[float]
    committed_at: list[int]
    done: bool


class Job:
    """The rows of one request, and the news about them, which its event loop receives."""

    def __init__(self, rows: Sequence[Row], follow: bool) -> None:
        """
        Args:
            follow: report every step, and not only the end.
        """
        self.rows, self.follow = list(rows), follow
        self.dropped: set[int] = set()
        self.loop = asyncio.get_running_loop()
        self.queue: asyncio.Queue[Snapshot | ApiError] = asyncio.Queue()

    async def snapshots(self, seconds: float) -> AsyncGenerator[Snapshot]:
        """Yields snapshots until every row is done or dropped.

        Raises:
            ApiError: the decoder failed, or the time is over.
        """
        open_rows, end = set(range(len(self.rows))), self.loop.time() + seconds
        while open_rows - self.dropped:
            try:
                async with asyncio.timeout_at(end):
                    told = await self.queue.get()
            except TimeoutError:
                message = f"no answer within {seconds:g} s. Ask for fewer tokens or steps."
                raise ApiError(504, message, code="timeout") from None
            if isinstance(told, ApiError):
                raise told
            if told.done:
                open_rows.discard(told.place)
            if told.place not in self.dropped:
                yield told

    def tell(self, told: Snapshot | ApiError) -> None:
        """Called from the decoder's thread. An event loop that has ended is ignored."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.queue.put_nowait, told)


class Engine:
    """Queues jobs up to a limit, and decodes their rows in forward passes with a limited number of tokens."""

    def __init__(self, batch_tokens: int, longest_queue: int, metrics: Metrics) -> None:
        self.batch_tokens, self.longest_queue, self.metrics = batch_tokens, longest_queue, metrics
        self.decoder = Decoder()
        self.running: dict[Row, tuple[Job, int]] = {}
        self.waiting: deque[tuple[Job, int]] = deque()
        self.closing = False
        self.changed = threading.Condition()
        self.thread = threading.Thread(target=self._work, name="decoder", daemon=True)
        metrics.gauges |= {
            "topeng_rows_waiting": lambda: len(self.waiting),
            "topeng_rows_running": lambda: len(self.running),
        }

    def start(self) -> None:
        self.thread.start()

    def submit(self, job: Job) -> None:
        """
        Raises:
            ApiError: the queue is full, or the server is shutting down.
        """
        with self.changed:
            if self.closing:
                raise ApiError(503, "the server is shutting down. Try again later, or use another server.")
            if (self.running or self.waiting) and len(self.waiting) + len(job.rows) > self.longest_queue:
                seconds = max(1, round(self.metrics.mean("topeng_request_seconds")))
                message = (
                    f"the queue is full: {len(self.waiting)} of at most {self.longest_queue} answers are waiting. "
                    "Try again later."
                )
                raise ApiError(429, message, code="queue_full", retry_after=seconds)
            self.waiting.extend((job, place) for place in range(len(job.rows)))
            self.changed.notify()

    def drop(self, job: Job, place: int | None = None) -> None:
        """Stops a job, or one of its rows, before the next step."""
        with self.changed:
            job.dropped |= set(range(len(job.rows))) if place is None else {place}
            self.changed.notify()

    def close(self) -> None:
        """Refuses new jobs, and returns when all accepted ones are done."""
        with self.changed:
            self.closing = True
            self.changed.notify()
        self.thread.join()

    def _work(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.closing or self.waiting or self.running)
                self._forget_dropped()
                self._admit()
                if self.closing and not self.running and not self.waiting:
                    return
            if self.decoder.rows:
                self._step()

    def _forget_dropped(self) -> None:
        for row, (job, place) in list(self.running.items()):
            if place in job.dropped:
                self.decoder.leave(row)
                del self.running[row]
        self.waiting = deque((job, place) for job, place in self.waiting if place not in job.dropped)

    def _admit(self) -> None:
        while self.waiting:
            job, place = self.waiting[0]
            together = [*self.running, job.rows[place]]
            views = sum(len(row.views) for row in together)
            if self.running and views * max(len(row.tokens) for row in together) > self.batch_tokens:
                return
            self.waiting.popleft()
            self.running[job.rows[place]] = job, place
            self.decoder.join(job.rows[place])
            self._report([job.rows[place]] if job.rows[place].done else [])

    def _step(self) -> None:
        try:
            rows = self.decoder.step()
        except (
            Exception
        ) as error:  # out of memory, or a bug; the server continues, and never logs the text of a request
            logger.error("a step of %d rows failed: %s", len(self.running), type(error).__name__)
            self.decoder = Decoder()
            for job in {job for job, _ in self.running.values()}:
                job.tell(
                    ApiError(
                        500, f"the decoder failed ({type(error).__name__}). Try again, or request shorter answers."
                    )
                )
            self.running.clear()
            return
        self.metrics.count("topeng_forward_passes_total")
        self._report(rows)

    def _report(self, rows: Sequence[Row]) -> None:
        for row in rows:
            job, place = self.running[row]
            if row.done or job.follow:
                job.tell(snapshot(row, place))
            if row.done:
                del self.running[row]


def snapshot(row: Row, place: int) -> Snapshot:
    answer = slice(row.prompt_length, None)
    return Snapshot(
        place=place,
        passes=int(row.passes),
        tokens=row.tokens[answer].tolist(),
        masked=row.masked[answer].tolist(),
        confidence=row.confidence[answer].tolist(),
        committed_at=row.committed_at[answer].tolist(),
        done=row.done,
    )
