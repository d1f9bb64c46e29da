"""Two processes on one machine, started by torchrun, end as one process does."""

import json
import socket
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

PROGRAM = """
import json, sys
import numpy as np
import torch
from transformers import TrainingArguments
from topeng.adapt import methods
from topeng.adapt.trainer import Batching, DiffusionTrainer, Progress
from topeng.models import load_model
from topeng.adapt.settings import AdapterOptions
from topeng.text.tokens import Example

golden, folder, sharded = sys.argv[1:]
random = np.random.default_rng(0)
rows = [Example(row, random.integers(0, 500, 6 + row % 9).tolist(), 2 + row % 3) for row in range(20)]
options = AdapterOptions(rank=2, alpha=4)
adapted = methods.add_adapter(load_model(golden), "lora", options, 0)
args = TrainingArguments(
    output_dir=folder, seed=5, max_steps=4, learning_rate=1e-2, logging_steps=1, save_steps=2, eval_strategy="steps",
    eval_steps=2, use_cpu=True, label_names=[], report_to="none", disable_tqdm=True, ddp_find_unused_parameters=False,
    remove_unused_columns=False, dataloader_pin_memory=False,
)
optimizer = methods.create_optimizer(adapted, "lora", options, 1e-2, 0.0)
batching = Batching(7, 40, "stratified", fill=False)
trainer = DiffusionTrainer(adapted, args, rows, rows[:4], batching, optimizer)
if sharded == "sharded":  # accelerate 1.15 shards on accelerators alone: on a CPU it is told to
    from accelerate import FullyShardedDataParallelPlugin
    from accelerate.utils import DistributedType
    state = trainer.accelerator.state._shared_state
    state["fsdp_plugin"] = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="transformer_based_wrap", cpu_ram_efficient_loading=False
    )
    state["distributed_type"] = DistributedType.FSDP
    trainer.is_fsdp_enabled = True
trainer.train()
trained = {name: weight for name, weight in trainer.model.named_parameters() if weight.requires_grad}
assert any(hasattr(weight, "full_tensor") for weight in trained.values()) == (sharded == "sharded")
trained = {name: getattr(weight, "full_tensor", lambda: weight)().tolist() for name, weight in trained.items()}
if trainer.is_world_process_zero():
    history = [entry[key] for entry in trainer.state.log_history for key in ("loss", "eval_loss") if key in entry]
    print(json.dumps([history, trained]))
"""


def launch(*arguments, processes=2):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--master_addr=127.0.0.1"]
        command += [f"--master_port={port}"]
    result = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("sharded", ["whole", "sharded"])
def test_two_ranks_train_as_one(golden, tmp_path, sharded):
    """DDP, and FSDP2; steps of 7 rows in passes of 40 tokens, so that the ranks' passes are unequal."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    one = json.loads(launch(str(program), str(golden), str(tmp_path / "1"), "whole", processes=1).split("\n")[-2])
    two = json.loads(launch(str(program), str(golden), str(tmp_path / "2"), sharded).split("\n")[-2])
    assert len(one[0]) >= 6 and len(set(one[0])) > 4
    assert two[0] == pytest.approx(one[0], abs=1e-4)
    assert one[1].keys() == two[1].keys()
    for name, weight in one[1].items():
        torch.testing.assert_close(torch.tensor(two[1][name]), torch.tensor(weight), atol=1e-4, rtol=0)


RECIPE = """
corpus: {synthetic_rows: 2000, sample_rows: 150, test_rows: 12, validation_rows: 6, clusters: 3, train_rows: 60,
         umap_rows: 60}
source: {synthetic_rows: 500, test_rows: 12}
text: {max_length: 96, eos: block}
base: {tiny: {vocab_size: 600, hidden_size: 32, layers: 2, steps: 6, batch_rows: 8}}
adapter: {methods: [pissa], rank: 2, alpha: 4}
train: {steps: 6, batch_rows: 7, batch_tokens: 300, learning_rate: 0.01, eval_steps: 3, save_steps: 2}
generate: {max_new_tokens: 16, steps: 4, block_length: 16}
"""


@pytest.mark.slow
def test_a_run_on_two_ranks_leaves_what_a_run_on_one_leaves(tmp_path):
    """Rank 0 reads the corpus; both train the base and the adapter."""
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    for processes, name in ((1, "one"), (2, "two")):
        arguments = ["-m", "topeng", "train", str(tmp_path / "recipe.yaml"), "--run-dir", str(tmp_path / name)]
        launch(*arguments, processes=processes)
    one, two = (load_file(tmp_path / name / "adapters/pissa/adapter_model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, atol=1e-4, rtol=0, msg=name)
    assert not list((tmp_path / "two" / ".work").iterdir())
