"""A training step against `transformers.Trainer` with full logits: speed, memory, real rows, a GPU.

    python benchmarks/training.py                     # steps of 4 x 512 tokens at two vocabularies, and peak memory
    python benchmarks/training.py --rows SHARED       # real rows, against the reference's recipe
    python benchmarks/training.py --gpu [--four-bit]  # LLaDA-8B's shape, bf16; torch, transformers, peft, accelerate
    python benchmarks/training.py --gpu --small       # the same at a small shape, to try the script on a CPU

Variants run in one process, in turn, several rounds, medians; memory is taken in a process for each variant. The
baseline is a `Trainer` whose `compute_loss` takes the model's full logits to `sft_loss`; both take the gradient, clip
it and step. `benchmarks/training.json` keeps the figures by part.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine
from transformers import Trainer, TrainingArguments

from topeng.adapt import methods
from topeng.adapt.settings import AdapterOptions
from topeng.adapt.trainer import Batching, DiffusionTrainer, Progress, compile_layers
from topeng.diffusion import forward_process, sft_loss
from topeng.memory import peak_memory
from topeng.models import LLaDAConfig, LLaDAModelLM, load_model, load_tokenizer
from topeng.text.batches import collate, step_rows
from topeng.text.tokens import Example, tokenize_rows

HERE = Path(__file__).parent
SHAPES = {32_000: 6, 126_464: 4}
"""Vocabulary -> layers, of width 512."""
IDS = {"mask_token_id": 2, "eos_token_id": 1, "pad_token_id": 1}
ROWS, LENGTH, PROMPT = 4, 512, 171
PASS_ROWS = 2
"""Of a step of four rows, those in a forward pass: `train.batch_tokens` is 1,024."""


class FullLogits(Trainer):
    """The baseline: the reference's noise on a padded batch, full logits, the plain loss."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        step, config = self.state.global_step, self.model.config
        masked, p = forward_process(inputs["response_mask"], self.args.seed, step, inputs["row_ids"])
        noisy = inputs["input_ids"].masked_fill(masked, config.mask_token_id)
        logits = model(input_ids=noisy, attention_mask=inputs["attention_mask"]).logits
        return sft_loss(logits, inputs["input_ids"], masked, p, inputs["response_length"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--vocabulary", type=int, choices=SHAPES, help="one of the two")
    parser.add_argument("--also", nargs="+", choices=("bfloat16", "compiled"), default=[], help="more variants")
    parser.add_argument("--rows", type=Path, metavar="SHARED", help="a folder with data/ and models/")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--four-bit", action="store_true", help="frozen weights in 4 bits (bitsandbytes)")
    parser.add_argument("--memory", nargs=2, metavar=("VARIANT", "VOCAB"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        print(json.dumps(step_memory(options.memory[0], int(options.memory[1]))))
    elif options.rows:
        keep("rows", real_rows(options.rows, options.rounds))
    elif options.gpu:
        keep("small" if options.small else "gpu", gpu(options.rounds, options.small, options.four_bit))
    else:
        for vocabulary in [options.vocabulary] if options.vocabulary else SHAPES:
            keep(
                " ".join([f"vocabulary {vocabulary}", *options.also]),
                vocabulary_steps(vocabulary, options.rounds, options.also),
            )


def keep(part: str, figures: dict[str, Any]) -> None:
    print(f"{part}\n{json.dumps(figures, indent=1)}", flush=True)
    if part == "small":  # a trial of the script
        return
    file = HERE / "training.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    file.write_text(json.dumps(known | {part: machine() | figures}, indent=1) + "\n", encoding="utf-8")


def small_model(vocabulary: int) -> Any:
    config = LLaDAConfig(
        vocab_size=vocabulary,
        embedding_size=vocabulary,
        d_model=512,
        mlp_hidden_size=1408,
        n_layers=SHAPES[vocabulary],
        n_heads=8,
        **IDS,
    )
    torch.manual_seed(0)
    return LLaDAModelLM(config)


def equal_rows(count: int, vocabulary: int) -> list[Example]:
    tokens = np.random.default_rng(0).integers(3, vocabulary, (count, LENGTH))
    return [Example(row, ids.tolist(), PROMPT) for row, ids in enumerate(tokens)]


def stepper(variant: str, model: Any, examples: Sequence[Example], batching: Batching) -> Callable[[int], float]:
    """A function that takes one optimiser step on that step's rows and returns its loss.

    Args:
        variant: `full logits` or `topeng`, with more words: `bfloat16`, `compiled`.
    """
    adapted = methods.add_adapter(model, "lora", AdapterOptions(rank=16), seed=0)
    if model.dtype != torch.float32:
        adapted.get_input_embeddings().requires_grad_(False)
    args = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        seed=0,
        use_cpu=not torch.cuda.is_available(),
        bf16="bfloat16" in variant,
        report_to="none",
        label_names=[],
        remove_unused_columns=False,
    )
    args._n_gpu = min(1, args.n_gpu)
    optimizer = methods.create_optimizer(adapted, "lora", AdapterOptions(rank=16), 1e-4, 0.0)
    if "compiled" in variant:
        compile_layers(adapted, Path(tempfile.mkdtemp()))
    plain = variant.startswith("full logits")
    if plain:
        trainer: Trainer = FullLogits(adapted, args, train_dataset=list(examples), optimizers=(optimizer, None))
    else:
        trainer = DiffusionTrainer(adapted, args, examples, [], batching, optimizer, Progress(lambda *_: None))
    wrapped, trainer.optimizer = trainer.accelerator.prepare(adapted, optimizer)

    def step(number: int) -> float:
        trainer.state.global_step = number
        rows: Any = [examples[row] for row in step_rows(len(examples), batching.batch_rows, 0, number)]
        inputs = collate(rows, model.config.eos_token_id, batching.fill) if plain else rows
        trainer.current_gradient_accumulation_steps = 1
        loss = trainer.training_step(wrapped, inputs)
        trainer.accelerator.clip_grad_norm_(wrapped.parameters(), 1.0)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return float(loss)

    return step


def timed(steppers: dict[str, Callable[[int], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each variant's steps 1 to `rounds`, taken in turn, after a first one that warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in steppers}
    for number in range(1, rounds + 1):
        for name, step in steppers.items():
            started = time.perf_counter()
            step(number)
            seconds[name].append(time.perf_counter() - started)
    return seconds


def vocabulary_steps(vocabulary: int, rounds: int, also: list[str]) -> dict[str, Any]:
    """Steps of equal rows: speed and memory of each variant; the losses are the same."""
    batching = Batching(ROWS, PASS_ROWS * LENGTH, "independent", fill=False)
    names = ["full logits", "topeng", *(f"topeng {word}" for word in also)]
    examples = equal_rows(ROWS, vocabulary)
    steppers = {name: stepper(name, small_model(vocabulary), examples, batching) for name in names}
    losses = {name: step(0) for name, step in steppers.items()}
    for name in set(names) - {"topeng bfloat16"}:
        assert abs(losses[name] / losses["full logits"] - 1) < 1e-4, losses
    medians = {name: statistics.median(values) for name, values in timed(steppers, rounds).items()}
    memory = {name: _memory_of(name, vocabulary) for name in names[:2]}
    return {
        "losses_of_the_first_step": losses,
        "seconds_a_step": medians,
        "tokens_per_second": {name: ROWS * LENGTH / median for name, median in medians.items()},
        "times_as_fast": {name: medians["full logits"] / median for name, median in medians.items()},
        "memory_above_the_weights_bytes": memory,
        "share_of_memory": memory["topeng"] / memory["full logits"],
    }


def step_memory(variant: str, vocabulary: int) -> int:
    """The most bytes that two steps hold above what stands before them."""
    batching = Batching(ROWS, PASS_ROWS * LENGTH, "independent", fill=False)
    step = stepper(variant, small_model(vocabulary), equal_rows(ROWS, vocabulary), batching)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before = peak_memory()
    step(0), step(1)
    return peak_memory() - before


def _memory_of(variant: str, vocabulary: int) -> int:
    command = [sys.executable, __file__, "--memory", variant, str(vocabulary)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def real_rows(shared: Path, rounds: int) -> dict[str, Any]:
    """Indonesian rows on a small English base: answer tokens a second, end tokens not counted."""
    import pyarrow.parquet as pq

    path = shared / "models" / "kecil-en"
    tokenizer, random = load_tokenizer(path), np.random.default_rng(0)
    rows = pq.read_table(shared / "data" / "indonesian.parquet", columns=["input", "output"]).to_pylist()
    drawn = [rows[index] | {"row_id": int(index)} for index in random.choice(len(rows), 640, replace=False)]
    variants = {
        "reference: full logits, fill": ("full logits", "fill", Batching(16, 10**9, "independent", fill=True)),
        "topeng, fill": ("topeng", "fill", Batching(16, 2048, "stratified", fill=True)),
        "topeng, block": ("topeng", "block", Batching(16, 2048, "stratified", fill=False)),
        "topeng, one": ("topeng", "one", Batching(16, 2048, "stratified", fill=False)),
    }
    steppers = {}
    for name, (variant, eos, batching) in variants.items():
        examples, _ = tokenize_rows(tokenizer, drawn, 512, eos)  # type: ignore[arg-type]
        steppers[name] = stepper(variant, load_model(path, "float32"), examples, batching)
    plain, _ = tokenize_rows(tokenizer, drawn, 512)
    answers = [  # of the steps that are timed
        sum(plain[row].response_length for row in step_rows(len(plain), 16, 0, step)) for step in range(1, rounds + 1)
    ]
    for step in steppers.values():
        step(0)
    speed = {name: sum(answers) / sum(values) for name, values in timed(steppers, rounds).items()}
    baseline = next(iter(speed.values()))
    lengths = [len(example.input_ids) for example in plain]
    return {
        "model": "kecil-en: vocabulary 8,192, width 256, 6 layers",
        "rows_a_step": 16,
        "steps": rounds,
        "tokens_a_row": {"median": float(np.median(lengths)), "mean": float(np.mean(lengths)), "most": max(lengths)},
        "answer_tokens_per_second": speed,
        "times_as_fast": {name: value / baseline for name, value in speed.items()},
    }


def gpu(rounds: int, small: bool, four_bit: bool) -> dict[str, Any]:
    """LLaDA-8B's shape at random weights, on rows of equal and of real lengths: speed, share of a product's, memory."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    shape = {"d_model": 64, "mlp_hidden_size": 128, "n_layers": 2, "n_heads": 2, "vocab_size": 1000, **IDS}
    config = LLaDAConfig(**(shape | {"embedding_size": 1000} if small else {}))
    lengths = np.random.default_rng(1).lognormal(4.9, 0.8, 64).clip(24, LENGTH).astype(int)  # as of the corpus
    equal = equal_rows(64, 1000)
    real = [
        Example(row.row_id, row.input_ids[:length], length // 3) for row, length in zip(equal, lengths, strict=True)
    ]
    peak, figures = product_speed(device, 512 if small else 8192), {}
    for rows_name, rows in (("equal lengths", equal), ("real lengths", real)):
        for variant in ("full logits bfloat16", "topeng bfloat16"):
            model = _random_model(config, device, four_bit)
            batching = Batching(8, 4096, "independent", fill=False)
            step = stepper(variant, model, rows, batching)
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            step(0)
            seconds = statistics.median(timed({variant: step}, rounds)[variant])
            tokens = 8 * statistics.mean(len(row.input_ids) for row in rows)
            masked = 8 * statistics.mean(row.response_length for row in rows) / 2
            flop = 4 * (_body_weights(model) * tokens + model.lm_head.weight.numel() * masked)
            memory = torch.cuda.max_memory_allocated() if device == "cuda" else peak_memory()
            figures[f"{variant}, {rows_name}"] = {
                "tokens_per_second": tokens / seconds,
                "share_of_a_matrix_product": flop / seconds / peak,
                "peak_memory_bytes": memory,
            }
            del model, step
            if device == "cuda":
                torch.cuda.empty_cache()
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    return {"device": name, "small": small, "four_bit": four_bit, "product_flop_per_second": peak, "variants": figures}


def product_speed(device: str, size: int) -> float:
    """FLOP a second of a plain bf16 matrix product."""
    left = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        left @ left
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / statistics.median(seconds)


def _random_model(config: Any, device: str, four_bit: bool) -> Any:
    with torch.device(device):
        model = LLaDAModelLM._from_config(config, dtype=torch.bfloat16)
    if not four_bit:
        return model
    from transformers import BitsAndBytesConfig

    with tempfile.TemporaryDirectory() as folder:  # quantised while it is loaded
        model.save_pretrained(folder)
        quantization = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16)
        return LLaDAModelLM.from_pretrained(folder, quantization_config=quantization, device_map={"": device})


def _body_weights(model: Any) -> int:
    """Of the decoder's linear layers as they are without quantisation: 6.98e9 at LLaDA-8B's shape."""
    width, mlp = model.config.hidden_size, model.config.intermediate_size
    return model.config.num_hidden_layers * (4 * width**2 + 3 * width * mlp)


if __name__ == "__main__":
    main()
