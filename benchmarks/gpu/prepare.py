"""What a GPU machine that reaches no package registry lacks, gathered here: wheels, and rows to train on.

    python benchmarks/gpu/prepare.py           # fills benchmarks/gpu/carried, and prints the command to run there
    python benchmarks/gpu/prepare.py --list    # says what would be carried, and why

What that machine has stands in `machine.txt`, a package a line, with its version where that is known. What `run.py`
needs of Topeng's requirements and finds there in no fitting version is downloaded as wheels for its Python, without
their own requirements: those are looked up in `machine.txt` too, and one that is missing is named.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rows import CARRIED, HERE, ROOT, make_corpus

PYTHON = "3.12"
PLATFORMS = [f"manylinux_2_{number}_x86_64" for number in (28, 27, 24, 17)] + ["manylinux2014_x86_64"]
ENVIRONMENT = {"python_version": PYTHON, "sys_platform": "linux", "platform_machine": "x86_64", "extra": ""}
ENVIRONMENT |= {"platform_system": "Linux", "implementation_name": "cpython", "os_name": "posix"}
CORPUS_ONLY = {"daft", "umap-learn", "py3langid", "rouge-score"}
"""Of Topeng's requirements, those that no part of `run.py` imports: the corpus stages are done here."""
MORE = ["bitsandbytes==0.50.2", "liger-kernel==0.8.5", "hypothesis", "pytest>=9", "pytest-timeout", "httpx>=0.28"]
MORE += ["starlette", "pydantic", "pydantic-core", "annotated-types", "typing-inspection", "opentelemetry-api"]
"""Beside Topeng's requirements: 4-bit weights, the head to compare with, what the tests need, a client of the server,
and what the server's own requirements require."""
CUDA = "130"
"""Of the machine's torch: of the libraries for all versions that bitsandbytes has, 43 MB, this one is carried."""
COMMAND = (
    "python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target /tmp/site "
    "benchmarks/gpu/carried/wheels/*.whl && "
    "PYTHONUNBUFFERED=1 PYTHONPATH=/tmp/site:src python3 benchmarks/gpu/run.py --out $OUT"
)
"""What is run on the GPU machine: one line."""
ANY = "a version that is not known"
MOST_BYTES = 64 * 2**20
"""Of the working tree, with what is carried."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="only say what would be carried")
    options = parser.parse_args()
    known = machine_packages((HERE / "machine.txt").read_text(encoding="utf-8"))
    needed = lacking(requirements(), known)
    for requirement in needed:
        print(f"{requirement}: there is {known.get(canonicalize_name(requirement.name), 'none')}")
    if options.list:
        return 0
    shutil.rmtree(CARRIED, ignore_errors=True)
    wheels = download(needed, CARRIED / "wheels")
    if missing := unmet(wheels, known):
        print("\n".join(missing), file=sys.stderr)
        return 1
    make_corpus(CARRIED)
    return check_size(sum(file.stat().st_size for file in files_that_travel()))


def machine_packages(text: str) -> dict[str, str]:
    """Packages of the GPU machine by their canonical names, with their versions or `ANY`."""
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    pairs = [line.partition("==") for line in lines if line]
    return {canonicalize_name(name): version or ANY for name, _, version in pairs}


def requirements() -> list[Requirement]:
    """What `run.py` needs, in the versions that were tested together."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [
        Requirement(line) for line in [*project["dependencies"], *project["optional-dependencies"]["serve"], *MORE]
    ]
    return [requirement for requirement in named if canonicalize_name(requirement.name) not in CORPUS_ONLY]


def fits(requirement: Requirement, known: dict[str, str]) -> bool:
    """Whether a machine's packages meet a requirement; one whose version is not known is taken to."""
    version = known.get(canonicalize_name(requirement.name))
    return version == ANY or (version is not None and requirement.specifier.contains(version, prereleases=True))


def lacking(needed: list[Requirement], known: dict[str, str]) -> list[Requirement]:
    """Requirements that the machine does not meet."""
    return [requirement for requirement in needed if not fits(requirement, known)]


def download(needed: list[Requirement], folder: Path) -> list[Path]:
    """The wheels, each of the version in constraints.txt where that names one."""
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").split())
    pinned = {canonicalize_name(name): version for name, version in pinned.items()}
    named = [
        f"{one.name}=={pinned[name]}" if (name := canonicalize_name(one.name)) in pinned else str(one) for one in needed
    ]
    where = [word for platform in PLATFORMS for word in ("--platform", platform)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", *where]
    command += ["--python-version", PYTHON, "--implementation", "cp", "--dest", str(folder), *named]
    subprocess.run(command, check=True)
    for wheel in folder.glob("bitsandbytes-*.whl"):
        keep_one_library(wheel)
    return sorted(folder.glob("*.whl"))


def keep_one_library(wheel: Path) -> None:
    """Removes the libraries for other versions of CUDA, and for other makers' GPUs, from bitsandbytes' wheel."""
    others = re.compile(rf"libbitsandbytes_(?!cpu|cuda{CUDA})\w+\.so$")
    slim = wheel.with_suffix(".partial")
    with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(slim, "w", zipfile.ZIP_DEFLATED) as kept:
        for name in whole.namelist():
            content = whole.read(name)
            if name.endswith("RECORD"):
                lines = content.decode().splitlines(keepends=True)
                content = "".join(line for line in lines if not others.search(line.partition(",")[0])).encode()
            if not others.search(name):
                kept.writestr(name, content)
    slim.replace(wheel)


def unmet(wheels: list[Path], known: dict[str, str]) -> list[str]:
    """What the carried wheels require and neither the machine nor another of them has, in words."""
    carried = {canonicalize_name(wheel.name.split("-")[0]): wheel.name.split("-")[1] for wheel in wheels}
    found = []
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            metadata = Parser().parsestr(archive.read(name).decode())
        for line in metadata.get_all("Requires-Dist", []):
            requirement = Requirement(line)
            if requirement.marker and not requirement.marker.evaluate(ENVIRONMENT):
                continue
            if not fits(requirement, known | carried):
                found.append(f"{wheel.name} needs {requirement}, which the machine has not got: add it to MORE")
    return found


def files_that_travel() -> list[Path]:
    """Tracked files, those that git does not ignore, and what is carried."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, check=True, capture_output=True, text=True, cwd=ROOT).stdout.split("\0")
    files = [ROOT / name for name in names if name]
    return [file for file in [*files, *CARRIED.rglob("*")] if file.is_file()]


def check_size(size: int) -> int:
    """Says how to run it there, or that it is too much to carry."""
    print(f"{size / 2**20:.1f} MiB travel, of {MOST_BYTES / 2**20:.0f} at most")
    if size > MOST_BYTES:
        return 1
    print(f"Carry {CARRIED.relative_to(ROOT)}, and run in the repository's folder, with OUT a folder for the figures:")
    print(COMMAND)
    return 0


if __name__ == "__main__":
    sys.exit(main())
