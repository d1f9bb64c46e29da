"""What Topeng does on a GPU, measured in at most eight minutes: the main path first, what is worth less later.

    python benchmarks/gpu/run.py --out DIR                       # on the first GPU
    python benchmarks/gpu/run.py --out DIR --device cpu --small  # every part at a tiny shape, to try the script
    python benchmarks/gpu/run.py --out DIR --parts train decode  # some of them
    python benchmarks/gpu/keep.py DIR                            # back home: the figures go to benchmarks/gpu.json

Each part runs in a process of its own with its own time: one that fails, hangs or loses the device leaves its error,
and the next begins. Every figure is written to DIR/gpu.json as it is taken. `prepare.py` says how to run this on a
machine that reaches no package registry.
"""

import argparse
import contextlib
import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # the parts, and the benchmarks that they share functions with

from ledger import Ledger  # noqa: E402
from machine import machine  # noqa: E402

LIMIT = 465
"""Seconds of a run: eight minutes, less what starting takes."""
LEAST = 10
"""Seconds without which a part is not begun."""
PACKAGES = ("peft", "accelerate", "bitsandbytes", "liger_kernel", "triton", "fastapi")
"""Whose versions figures may depend on, beside those that all benchmarks name."""
PATIENCE = {"cuda": 1, "cpu": 20}
"""By which all these times are multiplied: a CPU only tries the script, and may be busy with other work."""


@dataclass(frozen=True)
class Part:
    """A part by its name; `module` has a function of that name, which takes a `Bench`.

    Attributes:
        seconds: that it may take at most.
    """

    name: str
    module: str
    seconds: int


PARTS = [  # in order of worth
    Part("tests", "part_tests", 90),
    Part("train", "part_train", 150),
    Part("steps", "part_steps", 110),
    Part("decode", "part_decode", 70),
    Part("pretrain", "part_pretrain", 70),
    Part("serve", "part_serve", 70),
    Part("four_bit", "part_train", 70),
    Part("head", "part_head", 30),
    Part("embed", "part_embed", 45),
    Part("pissa", "part_train", 90),
]


def main() -> int:
    options = parse()
    ledger = Ledger(options.out.resolve())
    if options.part:
        return do_part(options, ledger)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    device = options.device or ("cuda" if shutil.which("nvidia-smi") else "cpu")
    ledger.start(**machine(PACKAGES), card=card(device), device=device, small=options.small)
    scratch = Path(tempfile.mkdtemp(prefix="topeng-gpu-", dir=roomy_folder()))
    deadline = time.time() + options.limit * PATIENCE[device]
    try:
        for part in PARTS:
            if part.name in options.parts:
                start_part(part, ledger, device, options.small, scratch, deadline)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print((ledger.folder / "gpu.txt").read_text(encoding="utf-8"), flush=True)
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [part.name for part in PARTS]
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.json and gpu.txt")
    parser.add_argument("--device", choices=("cuda", "cpu"), help="cuda where there is a GPU, without it")
    parser.add_argument("--small", action="store_true", help="tiny shapes")
    parser.add_argument("--parts", nargs="+", choices=names, default=names, metavar="PART", help=", ".join(names))
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds of the whole run (%(default)s)")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--deadline", type=float, help=argparse.SUPPRESS)
    return parser.parse_args()


def card(device: str) -> str:
    """The GPU, its memory and its driver, asked of the driver: this process leaves the GPU to the parts."""
    if device == "cpu":
        return "none"
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    return subprocess.run(query, check=True, capture_output=True, text=True).stdout.strip().splitlines()[0]


def roomy_folder() -> str | None:
    """A folder in memory where that has room for 16 GB of weights, twice over; else the usual place."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > 40e9 else None


def start_part(part: Part, ledger: Ledger, device: str, small: bool, scratch: Path, deadline: float) -> None:
    """Runs a part in a process of its own, and says in the ledger how it ended."""
    seconds = min(part.seconds * PATIENCE[device], deadline - time.time())
    ledger.begin(part.name)
    if seconds < LEAST:
        ledger.end(part.name, "out of time", 0, "no time was left to begin it")
        return
    command = [sys.executable, str(Path(__file__).resolve()), "--out", str(ledger.folder), "--part", part.name]
    command += ["--device", device, "--scratch", str(scratch), "--deadline", str(time.time() + seconds)]
    # Ten processes import the same thousands of files: the first leaves them compiled, whatever the machine is set to.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began = time.time()
    process = subprocess.Popen([*command, *(["--small"] if small else [])], env=environment, start_new_session=True)
    try:
        code = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        end_group(process)
        ledger.end(part.name, "out of time", time.time() - began, f"stopped after its {seconds:.0f} s")
        return
    except BaseException:  # this process is told to stop: the part's must not go on without it
        end_group(process)
        raise
    if ledger.read()["parts"][part.name]["status"] == "running":  # it was killed, or could not begin
        ledger.end(part.name, "failed", time.time() - began, f"its process ended with {code}")


def end_group(process: subprocess.Popen) -> None:
    """Ends a part's process and all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def end_with(parent: int) -> None:
    """Ends this process once its parent is gone, however that ended."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(0, signal.SIGKILL)


def do_part(options: argparse.Namespace, ledger: Ledger) -> int:
    """What a part's process does: its end is in the ledger, and it returns 1 where the part failed."""
    began = time.time()
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    from bench import Bench, NotBuilt, error_text

    bench = Bench(ledger, options.part, options.device, options.small, options.scratch, options.deadline)
    module = next(part.module for part in PARTS if part.name == options.part)
    try:
        getattr(importlib.import_module(module), options.part)(bench)
    except NotBuilt as missing:
        ledger.end(options.part, "not built", time.time() - began, str(missing))
        return 0
    except BaseException as error:
        traceback.print_exc()
        ledger.end(options.part, "failed", time.time() - began, error_text(error))
        return 1
    ledger.end(options.part, "done", time.time() - began)
    return 0


if __name__ == "__main__":
    sys.exit(main())
