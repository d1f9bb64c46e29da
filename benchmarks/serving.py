"""A server under load: clients of mixed lengths, settings and adapters, a tenth of whom leave in mid-answer.

    topeng serve MODEL --adapters … &
    python benchmarks/serving.py --url http://127.0.0.1:8000 --clients 64 --seconds 300

First some requests are asked one at a time: their answers and their rate. Then clients ask them at random; each answer
is held against the one that the same request had alone. Prints answers a second alone and together, percentiles of the
time to the first text, answers that differ, rows that are left over, and what the server holds in memory (`--pid`).
With `--stop` the server gets SIGTERM at the end of the load, while all clients wait for an answer: what had begun must
be whole (`broken` is 0), what comes later is refused.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

HERE = Path(__file__).parent
CHAT = "/v1/chat/completions"
QUESTIONS = ("What is rain?", "Name a colour.", "Siapa namamu?", "Tell me a story about a cat and a house by the sea.")


@dataclass
class Seen:
    """What clients have seen."""

    answers: int = 0
    tokens: int = 0
    left: int = 0
    wrong: list[str] = field(default_factory=list)
    refused: int = 0
    broken: int = 0
    first_text: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)


def requests(models: list[str], count: int, dice: random.Random) -> list[dict[str, Any]]:
    return [
        {
            "model": dice.choice(models),
            "messages": [{"role": "user", "content": dice.choice(QUESTIONS)}],
            "max_tokens": dice.choice((16, 32, 48, 64)),
            "temperature": dice.choice((0, 0, 0.7)),
            "seed": dice.randrange(1000),
            "topeng": {"preset": dice.choice(("reference", "quality", "fast"))},
        }
        for _ in range(count)
    ]


async def stream(client: httpx.AsyncClient, body: dict[str, Any], leave_after: int | None, seen: Seen) -> str | None:
    """The text of an answer; None where the client left, was refused, or got half of it."""
    try:
        return await _stream(client, body, leave_after, seen)
    except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
        half = "incomplete" in str(error)  # as httpx says of a body that breaks off
        seen.broken, seen.refused = seen.broken + half, seen.refused + (not half)
        return None


async def _stream(client: httpx.AsyncClient, body: dict[str, Any], leave_after: int | None, seen: Seen) -> str | None:
    started, text, pieces, whole = time.perf_counter(), "", 0, False
    options = {"stream": True, "stream_options": {"include_usage": True}}
    async with client.stream("POST", CHAT, json=body | options) as response:
        if response.status_code in (429, 503):
            seen.refused += 1
            return None
        response.raise_for_status()
        async for line in response.aiter_lines():
            whole = whole or line == "data: [DONE]"
            if not line.startswith("data: {"):
                continue
            event = json.loads(line[6:])
            piece = event["choices"][0]["delta"].get("content") if event["choices"] else None
            if piece and not text:
                seen.first_text.append(time.perf_counter() - started)
            text, pieces = text + (piece or ""), pieces + 1
            seen.tokens += (event.get("usage") or {}).get("completion_tokens", 0)
            if leave_after is not None and pieces > leave_after:
                seen.left += 1
                return None
    if not whole:
        seen.broken += 1
        return None
    seen.answers += 1
    return text


async def ask_until(
    client: httpx.AsyncClient,
    bodies: list[dict[str, Any]],
    alone: list[str],
    end: float,
    seen: Seen,
    dice: random.Random,
    stop: bool,
) -> None:
    while time.perf_counter() < end and not (seen.refused and stop):
        place = dice.randrange(len(bodies))
        text = await stream(client, bodies[place], dice.randrange(6) if dice.random() < 0.1 else None, seen)
        if text is not None and text != alone[place]:
            seen.wrong.append(json.dumps(bodies[place]))


def cpu_seconds(pid: int | None) -> float:
    """That the server has used, which other work on the machine does not change."""
    if pid is None or not Path(f"/proc/{pid}/stat").exists():
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def watch(pid: int | None, end: float, seen: Seen, stop: bool) -> None:
    while pid and time.perf_counter() < end:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        seen.memory.append(next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")))
        await asyncio.sleep(1)
    if pid and stop:
        os.kill(pid, signal.SIGTERM)


async def measure(known: argparse.Namespace) -> dict[str, Any]:
    dice = random.Random(known.seed)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=known.url, timeout=600, limits=limits) as client:
        models = [model["id"] for model in (await client.get("/v1/models")).json()["data"]]
        bodies, single = requests(models, known.requests, dice), Seen()
        started, cpu = time.perf_counter(), cpu_seconds(known.pid)
        alone = [str(await stream(client, body, None, single)) for body in bodies]
        one_at_a_time, cpu = len(bodies) / (time.perf_counter() - started), cpu_seconds(known.pid) - cpu
        seen, started, cpu_together = Seen(), time.perf_counter(), cpu_seconds(known.pid)
        end = started + known.seconds + (60 if known.stop else 0)
        dices = [random.Random(n) for n in range(known.clients)]
        clients = [ask_until(client, bodies, alone, end, seen, own, known.stop) for own in dices]
        watching = watch(known.pid, started + known.seconds, seen, known.stop)
        await asyncio.gather(watching, *clients)
        seconds, cpu_together = time.perf_counter() - started, cpu_seconds(known.pid) - cpu_together
        await asyncio.sleep(1)
        metrics = "" if known.stop else (await client.get("/metrics")).text
    first = sorted(seen.first_text)
    return {
        "clients": known.clients,
        "seconds": round(seconds, 1),
        "answers": seen.answers,
        "left": seen.left,
        "refused": seen.refused,
        "broken": seen.broken,
        "wrong": len(seen.wrong),
        "first_wrong": seen.wrong[:3],
        "alone_per_second": round(one_at_a_time, 3),
        "together_per_second": round(seen.answers / seconds, 3),
        "ratio": round(seen.answers / seconds / one_at_a_time, 2),
        "answers_per_cpu_second": [round(len(bodies) / cpu, 3), round(seen.answers / cpu_together, 3)]
        if known.pid and not known.stop
        else None,
        "first_text_p50": round(first[len(first) // 2], 3),
        "first_text_p95": round(first[int(len(first) * 0.95)], 3),
        "memory_mib": [round(value) for value in (seen.memory[0], max(seen.memory), seen.memory[-1])]
        if seen.memory
        else None,
        "rows_left": [line for line in metrics.splitlines() if line.startswith("topeng_rows")],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--requests", type=int, default=24, help="different ones")
    parser.add_argument("--pid", type=int, help="of the server, to watch its memory")
    parser.add_argument("--stop", action="store_true", help="end the load with SIGTERM to --pid")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write JSON")
    known = parser.parse_args()
    try:
        httpx.get(f"{known.url}/ready").raise_for_status()
    except httpx.HTTPError:
        print(f"no server at {known.url}: start `topeng serve MODEL` first")
        return
    figures = asyncio.run(measure(known))
    print(json.dumps(figures, indent=1))
    if known.out:
        known.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
