"""Every family at tiny size: adapters are trained, killed in the midst of a step, resumed, and added to their base."""

import os
import signal
from dataclasses import replace
from multiprocessing import get_context

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from transformers import TrainerCallback

import topeng
from tiny_families import FAMILIES, tiny_checkpoint
from topeng.adapt.export import export
from topeng.adapt.train import train_adapter
from topeng.models import load_config, load_model
from topeng.recipe import slices
from topeng.system.files import digest
from topeng.system.lines import read_lines

CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(["topeng.adapt.train"])  # imported once, and no kernel has run before a fork
STEPS, KILLED_AT, SAVED = 12, 8, 3
FILES = ("adapter_model.safetensors", "adapter_config.json", "base.json")


class Kill(TrainerCallback):
    """`kill -9` of this process, after a step's backward passes and before its update."""

    def on_pre_optimizer_step(self, args, state, control, **_):
        if state.global_step + 1 == KILLED_AT:
            os.kill(os.getpid(), signal.SIGKILL)


class Count(TrainerCallback):
    def __init__(self):
        self.steps = []

    def on_step_end(self, args, state, control, **_):
        self.steps.append(state.global_step)


def train(recipe, method, run, work, *callbacks):
    work.mkdir(exist_ok=True)
    train_adapter(slices.adapting(recipe, method), method, run, work, Console(quiet=True), callbacks)
    return work / "adapters" / method


def train_and_die(recipe, method, run, work):
    """In a process of its own."""
    torch.set_num_threads(1)
    train(recipe, method, run, work, Kill())


@pytest.fixture(scope="module")
def one_thread():
    """Sums over threads are rounded in another order in the process that is killed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def recipe_of(training, folder):
    """That of the fixture, on another base: where this looks back from blocks, they are what is learnt."""
    recipe = training.changed("base", model=str(folder), device="cpu").recipe
    block = load_config(folder).attention_block
    recipe = replace(recipe, train=replace(recipe.train, steps=STEPS, save_steps=SAVED))
    if block is None:
        return recipe
    lengths = {"block_length": block, "max_new_tokens": block}
    return replace(
        recipe,
        train=replace(recipe.train, objectives=["block"]),
        generate=replace(recipe.generate, **lengths),
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "lora+", "pissa"])
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.usefixtures("one_thread")
def test_a_killed_training_ends_as_an_undisturbed_one_and_is_exported(name, method, with_tokenizer, training, tmp_path):
    folder = with_tokenizer(tiny_checkpoint(name, tmp_path))
    recipe, work = recipe_of(training, folder), tmp_path / "killed"
    calm = train(recipe, method, training.run, tmp_path / "calm")
    losses = [line["loss"] for line in read_lines(calm / "log.jsonl") if "loss" in line]
    assert losses[-1] < losses[0]

    process = CONTEXT.Process(target=train_and_die, args=(recipe, method, training.run, work))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    saved = [file.parent.name for file in work.glob("checkpoints/*/complete")]
    assert "checkpoint-6" in saved and not (work / "adapters").exists()

    counted = Count()
    resumed = train(recipe, method, training.run, work, counted)
    assert counted.steps == list(range(7, STEPS + 1))
    assert [digest(resumed / file) for file in FILES] == [digest(calm / file) for file in FILES]

    export(calm, tmp_path / "merged", base=folder, precision="f32")
    check_export(folder, calm, tmp_path / "merged")


@torch.no_grad()
def check_export(folder, adapter, merged):
    """It answers as the adapted model, has the base's names, and what no adapter changes is the base's."""
    adapted, _ = topeng.load(folder, adapter, device="cpu")
    ids = torch.randint(6, 250, (2, 20), generator=torch.Generator().manual_seed(0))
    expected, plain = adapted(input_ids=ids).logits, load_model(folder, device="cpu")(input_ids=ids).logits
    assert (expected - plain).abs().max() > 1e-2 * expected.abs().max()
    found = topeng.load(merged, device="cpu")[0](input_ids=ids).logits
    torch.testing.assert_close(found, expected, atol=2e-5 * expected.abs().max().item(), rtol=0)
    before, after = (load_file(one / "model.safetensors") for one in (folder, merged))
    assert {name: weight.shape for name, weight in before.items()} == {name: w.shape for name, w in after.items()}
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if "norm" in name or ".experts." in name or "mlp.gate." in name} <= same
    assert len(before.keys() - same) > 0
