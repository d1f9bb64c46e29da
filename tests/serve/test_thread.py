"""The decoder's thread: what is dropped stops, what was taken is finished."""

import asyncio

import pytest

from topeng.serve.app import Limits, Server
from topeng.serve.asking import of_chat
from topeng.serve.engine import Job
from topeng.serve.faults import ApiError
from topeng.serve.schema import ChatAsk


def rows(models, voices=("base",), length=120):
    """As many steps as tokens, without an end."""
    topeng = {"block_length": 8, "stop_at_end": False}
    ask = {"messages": [{"role": "user", "content": "Apa?"}], "max_tokens": length, "topeng": topeng}
    return [of_chat(models, ChatAsk(model=voice, **ask)).rows[0] for voice in voices]


async def follow(job, until):
    """Reads what is told of a job until a row has taken so many steps."""
    async for told in job.snapshots(60):
        if told.passes >= until:
            return


async def close(engine):
    await asyncio.wait_for(asyncio.to_thread(engine.close), 60)


def test_what_is_dropped_takes_part_in_one_more_step_at_most(models):
    async def scene() -> None:
        engine = Server(models).engine
        engine.start()
        leaves, stays = Job(rows(models, ("base", "one")), follow=True), Job(rows(models), follow=True)
        engine.submit(leaves)
        engine.submit(stays)
        await follow(leaves, 5)
        engine.drop(leaves, 1)
        passes = int(leaves.rows[1].passes)  # read after it was dropped: a step may be under way
        await follow(stays, int(stays.rows[0].passes) + 5)
        assert leaves.rows[1].passes <= passes + 1 and leaves.rows[1] not in engine.running
        engine.drop(leaves)
        await close(engine)
        assert stays.rows[0].done and not leaves.rows[0].done

    asyncio.run(scene())


def test_what_waits_is_answered_before_the_server_ends_and_what_comes_is_refused(models):
    async def scene() -> None:
        server = Server(models, Limits(batch_tokens=1))  # one row at a time
        engine = server.engine
        jobs = [Job(rows(models, length=16), follow=False) for _ in range(3)]
        for job in jobs:
            engine.submit(job)
        engine.start()
        ends = asyncio.create_task(close(engine))
        while not engine.closing:
            await asyncio.sleep(0)
        with pytest.raises(ApiError, match="shutting down"):
            engine.submit(Job(rows(models), follow=False))
        await ends
        assert all(job.rows[0].done for job in jobs) and not engine.thread.is_alive()

    asyncio.run(scene())


def test_a_row_that_waits_and_is_dropped_is_never_begun(models):
    async def scene() -> None:
        engine = Server(models, Limits(batch_tokens=1)).engine
        first, second = Job(rows(models, length=16), follow=False), Job(rows(models), follow=False)
        engine.submit(first)
        engine.submit(second)
        engine.drop(second)
        engine.start()
        await close(engine)
        assert first.rows[0].done and second.rows[0].passes == 0

    asyncio.run(scene())
