"""Each bad input is answered with the one line that bad_inputs.md shows, and nothing that was finished is lost."""

import json
import os
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from topeng.cli import main
from topeng.system.files import digest

PAGE = Path(__file__).with_name("bad_inputs.md")
RECIPE = """
corpus: {files: [mine.csv], subsets: [], languages: [], sample_fraction: 1.0, test_rows: 4, validation_rows: 2,
         clusters: 2, train_rows: 8, umap_rows: 50}
source: {synthetic_rows: 500, test_rows: 8}
text: {max_length: 64}
base: {model: base, device: cpu}
adapter: {methods: [lora], rank: 2, alpha: 4}
train: {steps: 2, report_to: []}
generate: {max_new_tokens: 8, block_length: 8}
"""
ROWS = "input,output\n" + "".join(f"Berapa harga {n} buah?,Harganya {n * 3} rupiah.\n" for n in range(40))
ADDRESS = "example.org/rows.parquet"


@dataclass(frozen=True)
class Case:
    """A command that cannot do what it says.

    It finds in its folder a recipe (`recipe.yaml`), rows (`mine.csv`), a checkpoint (`base`), an adapter of it
    (`lora`), and those of a wider and of a deeper one (`wider`, `deeper`).

    Attributes:
        make: spoils what the case is about.
    """

    what: str
    command: str
    make: Callable[[], Any] = lambda: None


def recipe(text: str | bytes) -> Callable[[], Any]:
    return write("recipe.yaml", text)


def write(name: str, content: str | bytes) -> Callable[[], Any]:
    return lambda: Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())


def remove(name: str) -> Callable[[], Any]:
    return lambda: Path(name).unlink()


def cut(name: str, size: int) -> Callable[[], Any]:
    return lambda: Path(name).write_bytes(Path(name).read_bytes()[:size])


def change(name: str, **values: Any) -> Callable[[], Any]:
    """Other values in a JSON file."""
    return lambda: Path(name).write_text(json.dumps(json.loads(Path(name).read_text()) | values))


def weights(changed: Callable[[dict], dict]) -> Callable[[], Any]:
    """Other weights in the checkpoint."""

    def make() -> None:
        from safetensors.torch import load_file, save_file

        file = Path("base/model.safetensors")
        save_file(changed(load_file(file)), file, {"format": "pt"})

    return make


def small() -> Any:
    import torch

    return torch.zeros(3)


def wiped(size: int | None = None) -> Callable[[], Any]:
    """Parquet whose head and foot are whole, unless it is cut, and between them zeros."""

    def make() -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        texts = [f"Apa {n}?" for n in range(999)]
        pq.write_table(pa.table({"input": texts, "output": texts}), "mine.parquet")
        content = bytearray(Path("mine.parquet").read_bytes())
        content[100:4000] = bytes(3900)
        Path("mine.parquet").write_bytes(content[:size])

    return make


def held() -> Any:
    """The lock of the run folder, as another process would hold it."""
    from filelock import FileLock

    Path("runs/recipe").mkdir(parents=True)
    lock = FileLock("runs/recipe/.lock")
    lock.acquire()
    return lock


def manifest(text: str) -> Callable[[], Any]:
    def make() -> None:
        Path("runs/recipe").mkdir(parents=True)
        Path("runs/recipe/manifest.json").write_text(text)

    return make


ASK = "topeng generate base 'Apa?' --max_new_tokens 8 --block_length 8"
LORA = f"{ASK} --adapter lora"
EXPORT = "topeng export lora"
CORPUS = "topeng corpus recipe.yaml"
NORM = "model.transformer.ln_f.weight"

CASES: dict[str, list[Case]] = {
    "The recipe": [
        Case("the file does not exist", "topeng run nowhere.yaml"),
        Case("a folder instead of a file", "topeng run base"),
        Case("not YAML", "topeng run recipe.yaml", recipe("seed: [")),
        Case("not a text file", "topeng run recipe.yaml", recipe(b"\xff\xfe\x00")),
        Case("brackets that are never closed", "topeng run recipe.yaml", recipe("[" * 3000)),
        Case("an impossible date", "topeng run recipe.yaml", recipe("seed: 2026-13-45")),
        Case(
            "a tag that would run code",
            "topeng run recipe.yaml",
            recipe("seed: !!python/object/apply:os.system [true]"),
        ),
        Case("an option that occurs twice", "topeng run recipe.yaml", recipe("seed: 1\nseed: 2\n")),
        Case("a list instead of options", "topeng run recipe.yaml", recipe("- seed")),
        Case("an empty section", "topeng run recipe.yaml", recipe("train:\n")),
        Case(
            "an option of an older version", "topeng run recipe.yaml", recipe("train: {gradient_accumulation_steps: 4}")
        ),
        Case("a misspelt option", "topeng run recipe.yaml --adapter.rnak 3"),
        Case("an option of another section", "topeng run recipe.yaml --rank 3"),
        Case("an option without a value", "topeng run recipe.yaml --seed"),
        Case("a value without an option", "topeng run recipe.yaml 3"),
        Case("text instead of a number", "topeng run recipe.yaml --adapter.rank much"),
        Case("a number out of bounds", "topeng run recipe.yaml --corpus.sample_fraction 3"),
        Case("a number too large to count", f"topeng run recipe.yaml --corpus.train_rows 1{'0' * 30}"),
        Case("a number too large for a float", f"topeng run recipe.yaml --train.learning_rate 1{'0' * 400}"),
        Case("not a number", "topeng run recipe.yaml --train.epochs .nan"),
        Case("an unknown method", "topeng run recipe.yaml --adapter.methods '[../../lora]'"),
        Case("a path instead of a seed", "topeng run recipe.yaml --train.seeds '[../../1]'"),
        Case("the character NUL", "topeng run recipe.yaml --base.model '\"a\\0b\"'"),
        Case("an unpaired surrogate", "topeng run recipe.yaml --report.title '\"\\uD800\"'"),
        Case("a password in an address", f"topeng run recipe.yaml --corpus.files '[https://ana:rahasia@{ADDRESS}]'"),
        Case("a token in an address", f"topeng run recipe.yaml --corpus.files '[\"https://{ADDRESS}?token=rahasia\"]'"),
        Case("options that contradict each other", "topeng run recipe.yaml --generate.block_length 48"),
        Case("more than the model's context", "topeng run recipe.yaml --text.max_length 4096"),
        Case("an invalid pattern", "topeng train recipe.yaml --adapter.target_modules '*('"),
        Case("an unknown device", "topeng train recipe.yaml --base.device tpu9"),
        Case("a method that the device does not support", "topeng train recipe.yaml --adapter.methods '[qlora]'"),
    ],
    "The corpus": [
        Case("the file does not exist", f"{CORPUS} --corpus.files '[nowhere.parquet]'"),
        Case("another format", f"{CORPUS} --corpus.files '[mine.xlsx]'", write("mine.xlsx", "Apa?")),
        Case("text named .parquet", f"{CORPUS} --corpus.files '[mine.parquet]'", write("mine.parquet", ROWS)),
        Case("truncated Parquet", f"{CORPUS} --corpus.files '[mine.parquet]'", wiped(900)),
        Case("Parquet with damaged pages", f"{CORPUS} --corpus.files '[mine.parquet]'", wiped()),
        Case("truncated JSON Lines", f"{CORPUS} --corpus.files '[mine.jsonl]'", write("mine.jsonl", '{"input": "a')),
        Case("CSV that is not UTF-8", CORPUS, write("mine.csv", "input,output\nKafé?,Ya.\n".encode("latin-1"))),
        Case("missing columns", CORPUS, write("mine.csv", "question,answer\nApa?,Ini.\n")),
        Case("no rows", CORPUS, write("mine.csv", "input,output\n")),
        Case("an empty file", CORPUS, write("mine.csv", "")),
        Case("rows without text", CORPUS, write("mine.csv", "input,output\n , \n,\n")),
        Case("an unknown subset", f"{CORPUS} --corpus.subsets '[../../etc]'"),
        Case("another revision", f"{CORPUS} --corpus.digest abc"),
        Case("another number of rows", f"{CORPUS} --corpus.expected_rows '{{mine: 3}}'"),
        Case("rows in another language", f"{CORPUS} --corpus.languages '[sw]'"),
        Case("too few rows to hold out", f"{CORPUS} --corpus.test_rows 400"),
        Case("too few rows to train on", f"{CORPUS} --corpus.train_rows 400"),
        Case("too few rows for the clusters", f"{CORPUS} --corpus.clusters 300 --corpus.train_rows 300"),
        Case("an unknown embedder", f"{CORPUS} --corpus.embedder ./nowhere"),
        Case("a missing benchmark file", f"{CORPUS} --corpus.benchmarks '[nowhere.jsonl]'"),
        Case(
            "benchmarks that would not be used",
            f"{CORPUS} --corpus.profile paper --corpus.benchmarks '[mine.csv]'",
        ),
        Case("a missing source-language file", f"{CORPUS} --source.files '[nowhere.csv]'"),
        Case("a missing list of held-out rows", f"{CORPUS} --source.held_out nowhere.json"),
        Case(
            "held-out rows listed by name",
            f"{CORPUS} --source.held_out held.json",
            write("held.json", '{"rows": ["first"]}'),
        ),
        Case("a folder without a corpus", "topeng corpus verify base"),
        Case("folders without a subcommand", "topeng corpus recipe.yaml base"),
    ],
    "The checkpoint": [
        Case("no such folder", "topeng generate ./nowhere 'Apa?'"),
        Case("an unknown model id", "topeng generate 'a b' 'Apa?'"),
        Case("a misspelt kecil", "topeng generate kecli 'Apa?'"),
        Case("config.json is missing", ASK, remove("base/config.json")),
        Case("config.json is not JSON", ASK, write("base/config.json", "{")),
        Case("config.json is a list", ASK, write("base/config.json", "[]")),
        Case("an unsupported family", ASK, change("base/config.json", model_type="gpt2")),
        Case("an unsupported option", ASK, change("base/config.json", alibi=True)),
        Case("an option of the wrong type", ASK, change("base/config.json", d_model="wide")),
        Case("heads that do not divide the width", ASK, change("base/config.json", n_heads=5)),
        Case("another mask token", ASK, change("base/config.json", mask_token_id=10**9)),
        Case("weights are missing", ASK, weights(lambda kept: {name: kept[name] for name in kept if name != NORM})),
        Case("weights of another shape", ASK, weights(lambda kept: kept | {NORM: small()})),
        Case("weights left over", ASK, weights(lambda kept: kept | {"model.transformer.more": small()})),
        Case("fewer layers than config.json says", ASK, change("base/config.json", n_layers=3)),
        Case("no weights", ASK, remove("base/model.safetensors")),
        Case("truncated weights", ASK, cut("base/model.safetensors", 5000)),
        Case("an empty file of weights", ASK, cut("base/model.safetensors", 0)),
        Case("pickled weights", ASK, lambda: os.rename("base/model.safetensors", "base/pytorch_model.bin")),
        Case("tokenizer.json is not JSON", ASK, write("base/tokenizer.json", "{")),
        Case("tokenizer.json is empty", ASK, write("base/tokenizer.json", "{}")),
        Case("no tokenizer", ASK, remove("base/tokenizer_config.json")),
    ],
    "The adapter": [
        Case("no such folder", f"{ASK} --adapter nowhere"),
        Case("a folder of something else", f"{ASK} --adapter runs", lambda: Path("runs").mkdir()),
        Case("an adapter of a wider base", f"{ASK} --adapter wider"),
        Case("an adapter of a deeper base", f"{ASK} --adapter deeper"),
        Case(
            "an adapter of another base of the same shape",
            LORA,
            write("lora/base.json", json.dumps({"fingerprint": "0" * 64})),
        ),
        Case("adapter_config.json is not JSON", LORA, write("lora/adapter_config.json", "{")),
        Case("adapter_config.json is a list", LORA, write("lora/adapter_config.json", "[]")),
        Case("an unknown kind of adapter", LORA, change("lora/adapter_config.json", peft_type="TOPENG")),
        Case("another rank", LORA, change("lora/adapter_config.json", r=4)),
        Case("layers that the base does not have", LORA, change("lora/adapter_config.json", target_modules=["query"])),
        Case("no weights", LORA, remove("lora/adapter_model.safetensors")),
        Case("truncated weights", LORA, cut("lora/adapter_model.safetensors", 900)),
        Case("pickled weights", LORA, lambda: os.rename("lora/adapter_model.safetensors", "lora/adapter_model.bin")),
        Case("exported to an existing folder", f"{EXPORT} wider --base base"),
        Case("exported in an unknown format", f"{EXPORT} out --base base --format ggfu"),
        Case("exported without a base", f"{EXPORT} out"),
        Case(
            "exported with another base",
            f"{EXPORT} out --base base",
            write("lora/base.json", json.dumps({"fingerprint": "0" * 64})),
        ),
        Case("an incomplete source", f"{EXPORT} out --base base", remove("lora/adapter_config.json")),
        Case("exported to a folder that cannot be written", f"{EXPORT} /proc/out --base base"),
        Case(
            "a family that the format does not support",
            "topeng export base out --format gguf",
            change("base/config.json", architectures=["LLaDA2MoeModelLM"]),
        ),
        Case(
            "an adapter that cannot be merged",
            f"{EXPORT} out --base base",
            change("lora/adapter_config.json", peft_type="NARA"),
        ),
        Case("a whole model as an adapter", "topeng export base out --format adapter"),
        Case("exported in a precision that the format does not support", f"{EXPORT} out --base base --precision q8_0"),
        Case("an adapter exported in another precision", f"{EXPORT} out --base base --format adapter --precision f32"),
        Case("official names for a whole model", f"{EXPORT} out --base base --names official"),
        Case("a base for a whole model", "topeng export base out --base base"),
        Case("pushed without a licence", "topeng push base someone/model", write("base/README.md", "# Mine\n")),
    ],
    "Prompts and answers": [
        Case("no prompt", "topeng generate base"),
        Case("a prompt beyond the context", f"topeng generate base '{'kata ' * 99}' --max_new_tokens 128"),
        Case("a missing file", "topeng generate base --file nowhere.txt"),
        Case("a file that is not text", "topeng generate base --file bad.txt", write("bad.txt", b"\xff\xfe")),
        Case("JSON Lines without input", "topeng generate base --file bad.jsonl", write("bad.jsonl", "{}")),
        Case("JSON Lines of numbers", "topeng generate base --file bad.jsonl", write("bad.jsonl", '{"input": 3}')),
        Case("JSON Lines of lists", "topeng generate base --file bad.jsonl", write("bad.jsonl", "[3]\n")),
        Case("a file that is not Parquet", "topeng generate base --file bad.parquet", write("bad.parquet", "Apa?")),
        Case("a template without a gap", f"{ASK} --template 'Namanya.'"),
        Case("an unknown preset", f"{ASK} --preset best"),
        Case("an unknown policy", f"{ASK} --policy treshold"),
        Case("steps that cannot be shared by the blocks", f"{ASK} --steps 9"),
        Case("answers to a folder that cannot be written", f"{ASK} --out /proc/answers.jsonl"),
        Case("a page to a folder that cannot be written", f"{ASK} --html /proc/answers.html"),
    ],
    "The run folder": [
        Case("a file with the same name", "topeng run recipe.yaml --run-dir mine.csv"),
        Case("a folder below a file", "topeng run recipe.yaml --run-dir mine.csv/run"),
        Case("a folder that cannot be written", "topeng run recipe.yaml --run-dir /proc/run"),
        Case("a folder in use by another process", "topeng run recipe.yaml", held),
        Case("manifest.json is not JSON", "topeng run recipe.yaml", manifest("{")),
        Case("manifest.json is not a manifest", "topeng run recipe.yaml", manifest("[]")),
        Case("manifest.json is incomplete", "topeng run recipe.yaml", manifest('{"stages": {"base": {}}}')),
        Case("a stage that the recipe does not have", "topeng base recipe.yaml"),
    ],
}


def place(folder: Path, checkpoint: Path, adapters: dict[str, Path]) -> None:
    """Lays out the folder that a command finds."""
    shutil.copytree(checkpoint, folder / "base")
    for name, adapter in adapters.items():
        shutil.copytree(adapter, folder / name)
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "mine.csv").write_text(ROWS)


@dataclass(frozen=True)
class Shown:
    """A row of the page."""

    command: str
    message: str


def shown() -> dict[str, Shown]:
    """The page's rows, by section and first column."""
    rows, section = {}, ""
    for line in PAGE.read_text("utf-8").splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif section and line.startswith("| ") and not line.startswith("| what "):
            what, command, message = line.strip("| ").split(" | ")
            rows[f"{section}: {what}"] = Shown(_code(command), _code(message))
    return rows


def _code(cell: str) -> str:
    """Code that holds a backtick stands between two and a blank."""
    return cell[3:-3] if cell.startswith("`` ") else cell[1:-1]


def matches(text: str, pattern: str) -> bool:
    """Whether a text is the pattern, in which `…` stands for anything."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("…"))), text) is not None


NAMED = {f"{section}: {case.what}": case for section, cases in CASES.items() for case in cases}


@pytest.mark.parametrize("name", NAMED)
def test_a_bad_input_is_answered_with_its_line(name, tmp_path, monkeypatch, capsys, checkpoint, adapters):
    case, row = NAMED[name], shown()[name]
    monkeypatch.chdir(tmp_path)
    place(tmp_path, checkpoint, {"lora": adapters / "one", "wider": adapters / "other", "deeper": adapters / "deeper"})
    kept = case.make()
    status = main(shlex.split(case.command)[1:])
    error = capsys.readouterr().err
    del kept
    assert status == 1
    assert error.endswith("\n") and error.count("\n") == 1
    assert matches(error[:-1], f"topeng: {row.message}"), error
    assert matches(case.command, row.command)
    if not case.command.startswith("topeng run"):  # those have made no stage
        for manifest in tmp_path.glob("runs/*/manifest.json"):
            for stage in json.loads(manifest.read_text())["stages"].values():
                found = {output: digest(manifest.parent / output) for output in stage["outputs"]}
                assert found == stage["outputs"]


def test_the_page_shows_each_and_no_other():
    assert list(shown()) == list(NAMED)
