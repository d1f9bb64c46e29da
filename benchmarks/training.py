"""A training step against `transformers.Trainer` with full logits: speed, memory, real rows.

    python benchmarks/training.py                     # steps of 4 x 512 tokens at two vocabularies, and peak memory
    python benchmarks/training.py --rows SHARED       # real rows, against the reference's recipe
    python benchmarks/training.py --methods lora nara # methods of the same rank on kecil: steps, and answers

LLaDA-8B's shape on a GPU is benchmarks/gpu. Variants run in one process, in turn, several rounds, medians; memory is
taken in a process for each variant. The baseline is a `Trainer` whose `compute_loss` takes the model's full logits to
`sft_loss`; both take the gradient, clip it and step. `benchmarks/training.json` keeps the figures by part.
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
from topeng.adapt.trainer import Batching, DiffusionTrainer, compile_layers
from topeng.diffusion import forward_process, sft_loss
from topeng.generate import Settings, generate_ids
from topeng.models import LLaDAConfig, LLaDAModelLM, load_model, load_tokenizer
from topeng.system.memory import peak_memory
from topeng.text.batches import collate, step_rows
from topeng.text.tokens import Example, tokenize_rows

HERE = Path(__file__).parent
SHAPES = {32_000: 6, 126_464: 4}
"""Vocabulary -> layers, of width 512."""
IDS = {"mask_token_id": 2, "eos_token_id": 1, "pad_token_id": 1}
ROWS, LENGTH = 4, 512
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
    parser.add_argument("--memory", nargs=2, metavar=("VARIANT", "VOCAB"), help=argparse.SUPPRESS)
    parser.add_argument("--methods", nargs="+", metavar="METHOD", help="compare them at the same rank, on kecil")
    options = parser.parse_args()
    if options.memory:
        print(json.dumps(step_memory(options.memory[0], int(options.memory[1]))))
    elif options.rows:
        keep("rows", real_rows(options.rows, options.rounds))
    elif options.methods:
        keep("methods " + " ".join(options.methods), method_steps(options.methods, options.rounds))
    else:
        for vocabulary in [options.vocabulary] if options.vocabulary else SHAPES:
            keep(
                " ".join([f"vocabulary {vocabulary}", *options.also]),
                vocabulary_steps(vocabulary, options.rounds, options.also),
            )


def keep(part: str, figures: dict[str, Any]) -> None:
    print(f"{part}\n{json.dumps(figures, indent=1)}", flush=True)
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


def equal_rows(count: int, vocabulary: int, length: int = LENGTH) -> list[Example]:
    tokens = np.random.default_rng(0).integers(3, vocabulary, (count, length))
    return [Example(row, ids.tolist(), -(-length // 3)) for row, ids in enumerate(tokens)]


def adapt(model: Any) -> Any:
    """A model with LoRA of rank 16 on all linear layers."""
    return methods.add_adapter(model, "lora", AdapterOptions(rank=16), seed=0)


def stepper(variant: str, adapted: Any, examples: Sequence[Example], batching: Batching) -> Callable[[int], float]:
    """A function that takes one optimiser step on that step's rows and returns its loss.

    Args:
        variant: `full logits` or `topeng`, with more words: `bfloat16`, `compiled`.
    """
    args = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        seed=0,
        use_cpu=adapted.device.type == "cpu",
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
        trainer = DiffusionTrainer(adapted, args, examples, [], batching, optimizer)
    wrapped, trainer.optimizer = trainer.accelerator.prepare(adapted, optimizer)

    def step(number: int) -> float:
        trainer.state.global_step = number
        rows: Any = [examples[row] for row in step_rows(len(examples), batching.batch_rows, 0, number)]
        inputs = collate(rows, adapted.config.eos_token_id, batching.fill) if plain else rows
        trainer.current_gradient_accumulation_steps = 1
        loss = trainer.training_step(wrapped, inputs)
        trainer.accelerator.clip_grad_norm_(wrapped.parameters(), 1.0)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        return float(loss)  # waits for the device

    return step


def timed(
    steppers: dict[str, Callable[[int], float]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each variant's steps 1 to `rounds`, taken in turn, after a first one that warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in steppers}
    for number in range(1, rounds + 1):
        for name, step in steppers.items():
            started = clock()
            step(number)
            seconds[name].append(clock() - started)
    return seconds


def vocabulary_steps(vocabulary: int, rounds: int, also: list[str]) -> dict[str, Any]:
    """Steps of equal rows: speed and memory of each variant; the losses are the same."""
    batching = Batching(ROWS, PASS_ROWS * LENGTH, "independent", fill=False)
    names = ["full logits", "topeng", *(f"topeng {word}" for word in also)]
    examples = equal_rows(ROWS, vocabulary)
    steppers = {name: stepper(name, adapt(small_model(vocabulary)), examples, batching) for name in names}
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
    step = stepper(variant, adapt(small_model(vocabulary)), equal_rows(ROWS, vocabulary), batching)
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
        steppers[name] = stepper(variant, adapt(load_model(path, "float32")), examples, batching)
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


def method_steps(names: Sequence[str], rounds: int) -> dict[str, Any]:
    """Steps of 16 equal rows of 128 tokens and answers of 32 tokens in as many passes, of methods of rank 16 on kecil.

    Times are the processor's: the median of the rounds, and of each round's ratio to the first method.
    """
    batching = Batching(16, 16 * 128, "stratified", fill=False)
    settings = Settings(max_new_tokens=32, block_length=32, steps=32)
    steppers, answerers, parameters = {}, {}, {}
    for name in names:
        model = load_model("kecil", "float32", "cpu")
        examples = equal_rows(16, model.config.vocab_size, 128)
        adapted = methods.add_adapter(model, name, AdapterOptions(rank=16), seed=0)
        parameters[name] = methods.trainable_share(adapted)[0]
        steppers[name] = stepper(name, adapted, examples, batching)
        prompts = torch.tensor([example.input_ids[:32] for example in examples[:4]])

        def answer(_: int, adapted: Any = adapted, prompts: torch.Tensor = prompts) -> float:
            generate_ids(adapted.eval(), prompts, None, settings)
            return 0.0

        answerers[name] = answer
    figures: dict[str, Any] = {"trained_parameters": parameters}
    for what, timers in (("step", steppers), ("answers_to_4_prompts", answerers)):
        for timer in timers.values():
            timer(0)
        seconds = timed(timers, rounds, time.process_time)
        figures[f"seconds_a_{what}"] = {name: statistics.median(values) for name, values in seconds.items()}
        figures[f"times_as_long_{what}"] = {
            name: statistics.median(np.array(values) / np.array(seconds[names[0]])) for name, values in seconds.items()
        }
    return figures


if __name__ == "__main__":
    main()
