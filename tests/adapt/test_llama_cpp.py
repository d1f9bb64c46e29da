"""llama.cpp reads what is exported: its logits are ours, its command gives the reference sampler's tokens.

It is built once, from the source inside the source package of llama-cpp-python, into a cache in the home folder: with
one job that takes half an hour and more.
"""

import os
import re
import shlex
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

from topeng import kecil
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


def run(*command, **options):
    """What a program writes to stdout and to stderr."""
    command = [str(part) for part in command]
    done = subprocess.run(command, capture_output=True, check=False, **options)
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout, done.stderr


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


def compiled(name, bin_folder, *options):
    """A program, or a library, of the C++ file of that name beside this one."""
    program, code = CACHE / name, Path(__file__).with_name(f"{name}.cpp")
    if not program.exists() or program.stat().st_mtime < code.stat().st_mtime:
        includes = [f"-I{CACHE / 'source' / folder}" for folder in ("include", "ggml/include")]
        libraries = [f"-L{bin_folder}", *options, f"-Wl,-rpath,{bin_folder}"]
        run("g++", "-std=c++17", *includes, code, "-o", program, *libraries)
    return program


@pytest.fixture(scope="module")
def llama_logits(bin_folder):
    """Logits of a GGUF for rows of ids [B, T], by llama.cpp."""
    program = compiled("llama_logits", bin_folder, "-lllama", "-lggml", "-lggml-base")

    def call(folder, ids):
        (file,) = folder.glob("*.gguf")
        text = "\n".join(" ".join(map(str, row)) for row in ids.tolist())
        out = np.frombuffer(run(program, file, input=text.encode())[0], dtype=np.float32)
        return torch.from_numpy(out.copy()).view(*ids.shape, -1)

    return call


def off_by(found, expected):
    """The root mean square of the differences, as a share of the logits' standard deviation."""
    return ((found - expected).pow(2).mean().sqrt() / expected.std()).item()


@pytest.mark.parametrize("name", ["llada-tiny", "dream-tiny", "llada-moe-tiny"])
def test_logits_are_those_of_the_official_code(shared, llama_logits, with_tokenizer, tmp_path, name):
    export(with_tokenizer(shared / "golden" / name), tmp_path / "out", "gguf", precision="f32")
    answers = load_file(shared / "golden" / name / "golden.safetensors")
    assert off_by(llama_logits(tmp_path / "out", answers["input_ids"]), answers["logits"]) < 1e-5


BOUNDS = {"f32": 1e-5, "f16": 5e-3, "bf16": 4e-2, "q8_0": 1.5e-1}
"""Of llama.cpp's logits: it rounds the layers' inputs to the precision of the weights, too."""


@pytest.fixture(scope="module", params=["kecil-en", "kecil"])
def adapted(request, tmp_path_factory):
    """An adapter of a base, and the two merged in fp32. The head of `kecil` is its embedding."""
    base = Path(__file__).resolve().parents[3] / "shared" / "models" / "kecil-en"
    if request.param == "kecil":
        base = kecil.FOLDER
    elif not base.is_dir():
        pytest.skip("needs the folder shared/ beside the project")
    folder = tmp_path_factory.mktemp("adapted")
    adapter = train(base, folder)
    export(adapter, folder / "merged", base=base, precision="f32")
    return base, adapter, folder / "merged"


@pytest.mark.parametrize("precision", BOUNDS)
def test_an_adapted_model_s_logits_are_ours(adapted, llama_logits, tmp_path, precision):
    base, adapter, merged = adapted
    export(adapter, tmp_path / "out", "gguf", base=base, precision=precision)
    model, plain = (load_model(folder, "float32", "cpu") for folder in (merged, base))
    ids = torch.randint(6, model.config.vocab_size, (3, 40), generator=torch.Generator().manual_seed(0))
    ids[1:, 24:] = model.config.mask_token_id
    with torch.no_grad():
        expected, before = (one(input_ids=ids).logits for one in (model, plain))
    answered = llama_logits(tmp_path / "out", ids)
    found, largest = off_by(answered, expected), (answered - expected).abs().max() / expected.abs().max()
    same = (answered.argmax(-1) == expected.argmax(-1)).float().mean()
    print(f"{base.parent.name} {precision}: {found:.1e}; at most {largest:.1e} of the largest; {same:.1%} same first")
    assert found < min(BOUNDS[precision], off_by(before, expected))


PROMPTS = ["What is the capital of France?", "Name three animals.", "Siapa namamu?", "Why is the sky blue today?"]


@pytest.fixture(params=["base", "adapted"])
def written(request, adapted, tmp_path):
    """Its GGUF, and the model and the tokenizer that it was written from."""
    base, adapter, merged = adapted
    if request.param == "base":
        export(base, tmp_path / "out", "gguf", precision="f32")
    else:
        export(adapter, tmp_path / "out", "gguf", base=base, precision="f32")
    (file,) = (tmp_path / "out").glob("*.gguf")
    folder = base if request.param == "base" else merged
    return file, load_model(folder, "float32", "cpu"), load_tokenizer(folder)


@pytest.fixture(scope="module")
def command(bin_folder):
    """`llama-diffusion-cli`, greedy: the tokens and the text of its answer.

    Without flash attention it sums in fp32.
    """
    seen = compiled("llama_answer", bin_folder, "-shared", "-fPIC", "-lllama")

    def call(*arguments, **options):
        changed = {"env": os.environ | {"LD_PRELOAD": str(seen)}, **options}
        out, log = run(bin_folder / "llama-diffusion-cli", *arguments, "-t", 1, "-fa", "off", **changed)
        text = log.decode().partition("sampling time per step")[2].split("\n", 2)[2]  # after the line of a time stamp
        return [int(token) for token in out.split()], text.removesuffix("\n")

    return call


def sizes(length, block, steps):
    """Of `length` tokens, prompt and answer. Its blocks begin after the prompt, but are counted over both for steps."""
    of_block = ["--diffusion-block-length", block, "--diffusion-steps", steps * (length // block)]
    return ["-c", length, "-b", length, "-ub", length, *of_block, "--top-k", 1]


def same_algorithm(prompt_length):
    """Blocks and steps of a block under which llama.cpp's steps are the reference's.

    Greedy, its command gives each candidate the confidence 1 (`--top-k 1` leaves one token), and so commits from left
    to right; the reference commits the most confident. With one token a block, or all of a block in one step, both
    commit the same. The length of the prompt must be a multiple of the block's, as that of both together is.
    """
    yield from ((length, 1) for length in (1, 2, 4, 8) if prompt_length % length == 0)


def test_the_command_gives_the_reference_sampler_s_tokens(written, command):
    file, model, tokenizer = written
    compared = 0
    for prompt in PROMPTS:
        ids = encode_prompt(tokenizer, [{"role": "user", "content": prompt}])
        for block, steps in same_algorithm(len(ids)):
            settings = Settings(max_new_tokens=24, steps=24 // block, block_length=block)
            expected = generate_ids(model, torch.tensor([ids]), None, settings)[0, len(ids) :]
            found, _ = command("-m", file, "-p", prompt, *sizes(len(ids) + 24, block, steps))
            assert found == expected.tolist(), (prompt, block)
            compared += 1
    assert compared > len(PROMPTS)


@torch.no_grad()
def left_to_right(model, ids, length, block, steps):
    """What the command does otherwise, by our logits: a step commits the first masks of its block."""
    canvas = torch.tensor([ids + [model.config.mask_token_id] * (length - len(ids))])
    for start in range(len(ids), length, block):
        size = min(block, length - start)  # the last is cut
        for step in range(steps):
            count = size // steps + (step < size % steps)
            first = (canvas[0] == model.config.mask_token_id).nonzero()[:count, 0]
            canvas[0, first] = model(input_ids=canvas).logits[0, first].argmax(-1)
    return canvas[0, len(ids) :]


@pytest.mark.parametrize(("block", "steps"), [(8, 4), (8, 3), (16, 16)])
def test_elsewhere_the_command_commits_from_left_to_right(written, command, block, steps):
    """Where the reference commits the most confident, and where the prompt is no multiple of a block."""
    file, model, tokenizer = written
    for prompt in PROMPTS:
        ids = encode_prompt(tokenizer, [{"role": "user", "content": prompt}])
        length = (len(ids) + 31) // block * block
        found, _ = command("-m", file, "-p", prompt, *sizes(length, block, steps))
        assert found == left_to_right(model, ids, length, block, steps).tolist(), prompt


def test_the_command_on_a_card_is_right(command, tmp_path):
    export("kecil", tmp_path / "out", "gguf", precision="f32")
    (line,) = re.findall(r"^llama-diffusion-cli (.*)$", (tmp_path / "out" / "README.md").read_text(), re.MULTILINE)
    found, text = command(*shlex.split(line), cwd=tmp_path / "out")
    model, tokenizer = load_model("kecil", "float32", "cpu"), load_tokenizer("kecil")
    ids = encode_prompt(tokenizer, [{"role": "user", "content": "Siapa namamu?"}])
    assert found == left_to_right(model, ids, 128, 32, 32).tolist()
    assert text == tokenizer.decode(found, skip_special_tokens=True) != ""
