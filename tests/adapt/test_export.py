"""What is exported is the adapted model: in numbers, in names, and whole or not at all."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys

import peft
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from test_foreign import IDS, OFFICIAL, change, close, logits, official_network

import topeng
from topeng.adapt import methods
from topeng.adapt.base_settings import TinyOptions
from topeng.adapt.export import export
from topeng.adapt.export_card import read_card
from topeng.adapt.merge import BaseWeights, skeleton
from topeng.adapt.names import targets
from topeng.adapt.settings import AdapterOptions
from topeng.adapt.tiny import new_model, tiny_config
from topeng.cli import main
from topeng.errors import AdapterError, ExportError, ModelError
from topeng.generate import Settings, generate_ids
from topeng.models import LLaDAConfig, load_model, official_names

PARTS = {"q_proj", "k_proj", "v_proj", "attn_out", "ff_proj", "up_proj", "ff_out", "attn_norm", "ff_norm"}
NATIVE = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


def train(base, folder, method="lora", **options):
    """An adapter of ours that was moved at random, in a folder of its own."""
    adapted = methods.add_adapter(load_model(base), method, AdapterOptions(rank=4, alpha=8, **options), seed=0)
    adapted.save_pretrained(str(folder / "initial"))
    change(adapted)
    methods.save_adapter(adapted, method, folder / method, folder / "initial")
    return folder / method


@pytest.fixture(scope="module")
def trained(checkpoint, tmp_path_factory):
    return train(checkpoint, tmp_path_factory.mktemp("trained"))


@pytest.fixture
def lora(trained, tmp_path):
    """A copy, which a test may change."""
    return shutil.copytree(trained, tmp_path / trained.name)


@pytest.fixture(scope="module")
def tied(tmp_path_factory, tokenizer):
    """A checkpoint whose head is its embedding, as `kecil` is."""
    shape = tiny_config(TinyOptions(vocab_size=400, hidden_size=64, layers=2), 256)
    config = LLaDAConfig(**(shape.to_dict() | {"weight_tying": True}))
    folder = tmp_path_factory.mktemp("tied")
    new_model(config, seed=0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def names_of(folder):
    with safe_open(folder / "model.safetensors", "pt") as opened:
        return set(opened.keys())


def test_the_official_names_are_all_of_llada_8b_s():
    every = {f"model.transformer.blocks.{layer}.{part}.weight" for layer in range(32) for part in PARTS}
    ends = {f"model.transformer.{part}.weight" for part in ("wte", "ln_f", "ff_out")}
    assert set(official_names(skeleton(LLaDAConfig())).values()) == every | ends


def test_the_golden_checkpoint_passes_through_bit_for_bit(golden):
    weights, official = BaseWeights(golden), load_file(golden / "model.safetensors")
    assert {name: tuple(weight.shape) for name, weight in official.items()} == weights.shapes
    assert all(torch.equal(weights.read(name), official[name]) for name in official)


def test_a_merged_weight_is_the_sum_in_fp32_rounded_once(checkpoint, lora, tmp_path):
    load_model(checkpoint, "bfloat16").save_pretrained(tmp_path / "half")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(checkpoint / name, tmp_path / "half")
    export(lora, tmp_path / "merged", base=tmp_path / "half")
    base, merged = (load_file(folder / "model.safetensors") for folder in (tmp_path / "half", tmp_path / "merged"))
    adapter = load_file(lora / "adapter_model.safetensors")
    a, b = (adapter[f"base_model.model.model.layers.1.mlp.down_proj.lora_{side}.weight"] for side in "AB")
    name = "model.transformer.blocks.1.ff_out.weight"
    assert torch.equal(merged[name], (base[name].float() + 2 * (b @ a)).bfloat16())
    assert torch.equal(merged["model.transformer.ff_out.weight"], base["model.transformer.ff_out.weight"])
    assert all(weight.dtype == torch.bfloat16 for weight in merged.values())
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["dtype"] == "bfloat16"


@pytest.fixture(params=["tiny", "golden", "kecil"])
def base(request, checkpoint, golden, with_tokenizer):
    """A checkpoint with a tokenizer: random, the reference implementation's, and the one that comes with Topeng."""
    return {"tiny": lambda: checkpoint, "golden": lambda: with_tokenizer(golden), "kecil": lambda: "kecil"}[
        request.param
    ]()


@pytest.mark.parametrize(("precision", "bound"), [("f32", 1e-5), ("bf16", 0.03)])
def test_the_merged_model_answers_as_the_adapted_one(base, tmp_path, precision, bound):
    lora = train(base, tmp_path)
    adapted, _ = topeng.load(base, lora, dtype="float32", device="cpu")
    export(lora, tmp_path / "merged", base=base, precision=precision)
    merged, _ = topeng.load(tmp_path / "merged", dtype="float32", device="cpu")
    expected, plain = logits(adapted), logits(load_model(base, "float32"))
    assert (expected - plain).abs().max() > 0.1 * expected.abs().max()
    found = ((logits(merged) - expected).abs().max() / expected.abs().max()).item()
    print(f"{precision}: {found:.1e} of the largest logit")
    assert found < bound
    if precision == "f32":
        how = Settings(max_new_tokens=8, block_length=4)
        assert torch.equal(generate_ids(merged, IDS, None, how), generate_ids(adapted, IDS, None, how))


def test_a_merged_folder_is_what_the_model_itself_would_save(checkpoint, lora, tmp_path):
    adapted, tokenizer = topeng.load(checkpoint, lora, device="cpu")
    export(lora, tmp_path / "merged", base=checkpoint, precision="f32")
    adapted.merge_and_unload().save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    written, saved = ({file.name for file in (tmp_path / name).iterdir()} for name in ("merged", "saved"))
    assert written == saved | {"README.md"}
    for name in ("config.json", "generation_config.json"):
        found, expected = (json.loads((tmp_path / folder / name).read_text()) for folder in ("merged", "saved"))
        assert found == expected


@pytest.mark.parametrize(
    ("options", "own_head"),
    [
        ({"target_modules": ["q_proj", "lm_head"]}, True),
        ({"target_modules": ["q_proj", "embed_tokens"]}, True),
        ({"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}, True),
        ({"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, True),
        ({"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [7, 8]}}, True),
        ({"target_modules": ["q_proj"]}, False),
    ],
)
def test_a_tied_head_that_an_adapter_changes_becomes_a_weight(tied, tmp_path, options, own_head):
    adapted = peft.get_peft_model(load_model(tied), peft.LoraConfig(r=4, lora_alpha=8, **options))
    change(adapted)
    adapted.save_pretrained(str(tmp_path / "adapter"))
    loaded, _ = topeng.load(tied, tmp_path / "adapter", device="cpu")
    assert (logits(loaded) - logits(load_model(tied))).abs().max() > 1e-3
    export(tmp_path / "adapter", tmp_path / "merged", base=tied, precision="f32")
    close(logits(load_model(tmp_path / "merged")), logits(loaded))
    assert ("model.transformer.ff_out.weight" in names_of(tmp_path / "merged")) == own_head
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert config["weight_tying"] != own_head


def test_a_large_checkpoint_has_several_files(checkpoint, lora, tmp_path):
    export(lora, tmp_path / "one", base=checkpoint)
    export(lora, tmp_path / "many", base=checkpoint, shard_bytes=20_000)
    shards = sorted(tmp_path.glob("many/*.safetensors"))
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    assert len(shards) > 4 and set(index["weight_map"].values()) == {shard.name for shard in shards}
    assert torch.equal(logits(load_model(tmp_path / "many")), logits(load_model(tmp_path / "one")))
    export(tmp_path / "many", tmp_path / "again")  # read as it was written
    found, expected = (load_file(tmp_path / name / "model.safetensors") for name in ("again", "one"))
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


EXPORT_AND_MEASURE = """
import sys
from topeng.adapt.export import export
from topeng.system.memory import measured, memory_in_use
for folder in sys.argv[1:]:  # the first for what a first call holds for good
    before = memory_in_use()
    _, peak = measured(lambda: export(folder + "/lora", folder + "/out", base=folder + "/base", shard_bytes=6_500_000))
    print(peak - before)
"""


@pytest.mark.slow
def test_the_memory_of_a_merge_does_not_grow_with_the_model(tokenizer, tmp_path):
    """Of 8 and of 32 layers, in files of a layer each."""
    sizes = []
    for layers, name in ((8, "first"), (8, "small"), (32, "large")):
        shape = {"vocab_size": 400, "hidden_size": 512, "layers": layers}
        config = tiny_config(TinyOptions(**shape), 64)
        config.dtype = torch.bfloat16
        base = skeleton(config)
        for parameter in base.parameters():
            parameter.data = torch.full(parameter.shape, 0.01, dtype=torch.bfloat16)
        base.save_pretrained(tmp_path / name / "base", max_shard_size=6_500_000)
        tokenizer.save_pretrained(tmp_path / name / "base")
        sizes.append(sum(file.stat().st_size for file in (tmp_path / name).glob("base/*.safetensors")))
        adapted = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules="all-linear"))
        adapted.save_pretrained(str(tmp_path / name / "lora"), save_embedding_layers=False)
    command = [sys.executable, "-c", EXPORT_AND_MEASURE, *(tmp_path / name for name in ("first", "small", "large"))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    _, small, large = map(int, done.stdout.split())
    for size, grown in zip(sizes[1:], (small, large), strict=True):
        print(f"a checkpoint of {size / 1e6:.0f} MB: {grown / 1e6:.0f} MB more than before")
    assert len(list(tmp_path.glob("large/out/*.safetensors"))) > 30
    assert large - small < (sizes[2] - sizes[1]) / 5


@pytest.mark.parametrize("method", ["lora", "pissa"])
def test_an_adapter_under_official_names_is_plain_peft_s(checkpoint, tmp_path, method):
    """On modules that are named as the official code names them, loaded by peft alone."""
    folder = train(checkpoint, tmp_path, method)
    export(folder, tmp_path / "official", "adapter", base=checkpoint, names="official")
    config = json.loads((tmp_path / "official" / "adapter_config.json").read_text())
    assert config["target_modules"] == (
        r"model\.transformer\.blocks\.\d+\.(attn_out|ff_out|ff_proj|k_proj|q_proj|up_proj|v_proj)"
    )
    theirs = peft.PeftModel.from_pretrained(official_network(checkpoint), tmp_path / "official")
    export(folder, tmp_path / "merged", base=checkpoint, precision="f32")
    expected = load_file(tmp_path / "merged" / "model.safetensors")
    for name, weight in theirs.merge_and_unload().state_dict().items():
        close(weight, expected[name])
    back, _ = topeng.load(checkpoint, tmp_path / "official", device="cpu")
    close(logits(back), logits(topeng.load(checkpoint, folder, device="cpu")[0]))


def test_an_adapter_of_the_official_code_is_exported_in_ours(checkpoint, tmp_path):
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=OFFICIAL, alpha_pattern={r"blocks\.0\.ff_proj": 24})
    adapted = peft.get_peft_model(official_network(checkpoint), config)
    change(adapted)
    adapted.save_pretrained(str(tmp_path / "theirs"))
    for names in ("native", "official"):
        export(tmp_path / "theirs", tmp_path / names, "adapter", base=checkpoint, names=names)
        loaded, expected = (topeng.load(checkpoint, tmp_path / name, device="cpu")[0] for name in (names, "theirs"))
        close(logits(loaded), logits(expected))
    again = peft.PeftModel.from_pretrained(official_network(checkpoint), tmp_path / "official").merge_and_unload()
    expected = adapted.merge_and_unload().state_dict()
    for name, weight in again.state_dict().items():
        close(weight, expected[name])


def test_an_adapter_under_our_names_has_short_ones(checkpoint, lora, tmp_path):
    export(lora, tmp_path / "plain", "adapter", base=checkpoint)
    config = json.loads((tmp_path / "plain" / "adapter_config.json").read_text())
    assert config["target_modules"] == NATIVE and config["base_model_name_or_path"] is None
    found, expected = (load_file(folder / "adapter_model.safetensors") for folder in (tmp_path / "plain", lora))
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
    theirs = peft.PeftModel.from_pretrained(load_model(checkpoint), tmp_path / "plain")
    close(logits(theirs.eval()), logits(topeng.load(checkpoint, lora, device="cpu")[0]))


EVERY = [f"m.layers.{n}.{part}" for n in range(12) for part in ("mlp.up", "attn.q", "attn.o")] + ["m.embed", "up", "q"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ([name for name in EVERY if name.endswith("attn.o")], ["o"]),
        ([name for name in EVERY if name.endswith(".up")], r"m\.layers\.\d+\.mlp\.up"),
        ([name for name in EVERY if re.search(r"\.(1|10)\.", name)], r"m\.layers\.(1|10)\.(attn\.o|attn\.q|mlp\.up)"),
        (["m.layers.3.mlp.up", "m.embed"], r"(m\.layers\.3\.mlp\.up|m\.embed)"),
        (["m.layers.3.mlp.up", *(f"m.layers.{n}.attn.o" for n in range(12)), "q"], None),
    ],
)
def test_patterns_of_targets_are_short_and_exact(wanted, found):
    pattern = targets(wanted, EVERY)
    assert found is None or pattern == found
    config = peft.LoraConfig(target_modules=pattern)
    check = peft.tuners.tuners_utils.check_target_module_exists
    assert [name for name in EVERY if check(config, name)] == [name for name in EVERY if name in wanted]


def run_folder(folder, base, lora):
    """As `topeng run` leaves it, in what an export reads."""
    (folder / "adapters").mkdir(parents=True)
    (folder / "cards").mkdir()
    shutil.copytree(base, folder / "base")
    shutil.copytree(lora, folder / "adapters" / "lora-seed-1")
    recipe = "base: {model: null, revision: null}\ncorpus: {subsets: [a, b], licences: {a: CC BY 4.0}}\n"
    (folder / "recipe.yaml").write_text(recipe)
    (folder / "base" / "README.md").write_text("---\nlicense: mit\n---\n# Base\n")
    card = "---\nlicense: apache-2.0\nmodel-index: []\n---\n\n# Mine\n\n## Use\n\nOld.\n\n## Data\n\nRows.\n"
    (folder / "cards" / "lora.md").write_text(card)
    return folder / "adapters" / "lora-seed-1"


def test_an_adapter_of_a_run_knows_its_base_and_its_card(checkpoint, lora, tmp_path):
    adapter = run_folder(tmp_path / "run", checkpoint, lora)
    export(adapter, tmp_path / "merged")
    export(adapter, tmp_path / "plain", "adapter")
    front, body = read_card(tmp_path / "merged" / "README.md")
    assert (front["license"], front["base_license"]) == ("apache-2.0", "mit")
    assert front["data_license"] == {"a": "CC BY 4.0", "b": "not stated"}
    assert "model-index" not in front and "model-index" in read_card(tmp_path / "plain" / "README.md")[0]
    assert "Old." not in body and body.index("## Use") < body.index("## Data") < body.index("## Licences")
    assert "| the base | mit |\n| a | CC BY 4.0 |\n| b | not stated |" in body


def test_a_card_names_no_folder_of_this_machine(checkpoint, tmp_path):
    """Nor is peft's empty card kept, which names the base's."""
    adapted = peft.get_peft_model(load_model(checkpoint), peft.LoraConfig(r=2, target_modules=["q_proj"]))
    adapted.save_pretrained(str(tmp_path / "theirs"))
    assert "More Information Needed" in (tmp_path / "theirs" / "README.md").read_text()
    assert str(checkpoint) in (tmp_path / "theirs" / "adapter_config.json").read_text()
    for form in ("merged", "adapter"):
        export(tmp_path / "theirs", tmp_path / form, form)  # on the base that the folder names
        assert "More Information Needed" not in (tmp_path / form / "README.md").read_text()
        for file in (tmp_path / form).iterdir():
            assert str(checkpoint.parent).encode() not in file.read_bytes(), file


def test_a_card_says_what_was_merged_and_each_section_once(tmp_path):
    """A second export reads the card of the first."""
    lora = train("kecil", tmp_path)
    export(lora, tmp_path / "plain", "adapter", base="kecil")
    card = (tmp_path / "plain" / "README.md").read_text()
    assert "An adapter for `kecil`, a masked" in card and 'topeng.load("kecil", adapter="PATH/TO/plain")' in card
    assert "base_model" not in card  # it is no name of the Hub
    export(lora, tmp_path / "merged", base="kecil")
    export(tmp_path / "merged", tmp_path / "again")
    for name in ("merged", "again"):
        card = (tmp_path / name / "README.md").read_text()
        assert "The weights of `kecil`, a masked diffusion language model, with an adapter added;" in card
        assert [line for line in card.splitlines() if line.startswith("#")] == ["# merged", "## Use", "## Licences"]


@pytest.fixture
def refused(tmp_path):
    """Fails to export to `out`, in one line; nothing is left there."""

    def call(message, error, *arguments, **options):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(error, match=message) as found:
            export(arguments[0], tmp_path / "out", *arguments[1:], **options)
        assert "\n" not in str(found.value)
        assert sorted(tmp_path.rglob("*")) == before

    return call


FORMATS = ("merged", "adapter", "gguf")


@pytest.mark.parametrize("form", FORMATS)
def test_an_adapter_of_another_base_is_refused(checkpoint, tmp_path, refused, form):
    other = load_model(checkpoint)
    with torch.no_grad():
        other.get_input_embeddings().weight.mul_(1.01)
    shutil.copytree(checkpoint, tmp_path / "other")
    other.save_pretrained(tmp_path / "other")
    refused("was trained on another base", AdapterError, train(tmp_path / "other", tmp_path), form, base=checkpoint)


def test_an_adapter_without_a_base_is_refused(lora, refused):
    refused(r"does not name the base .* --base MODEL", AdapterError, lora)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("spoil", ["cut", "shard", "index", "empty"])
def test_a_source_that_is_half_written_is_refused(checkpoint, lora, tmp_path, refused, form, spoil):
    half = tmp_path / "half"
    export(checkpoint, half, shard_bytes=20_000)
    files = sorted(half.glob("*.safetensors"))
    if spoil == "cut":
        os.truncate(files[2], files[2].stat().st_size // 2)
    elif spoil == "shard":
        files[-1].unlink()
    elif spoil == "index":
        (half / "model.safetensors.index.json").write_text("{")
    else:
        (half / "config.json").unlink()
    refused("half", ModelError, lora, form, base=half)
    (lora / "adapter_model.safetensors").unlink()
    refused("is not an adapter folder", AdapterError, lora, form, base=checkpoint)
    (lora / "adapter_config.json").unlink()
    refused("not a checkpoint or an adapter", ExportError, lora, form, base=checkpoint)


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_is_one_line_and_leaves_nothing(checkpoint, lora, tmp_path, refused, form):
    """A limit on the size of files stands for a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (100, 2_000, 9_000, *([30_000] if form == "gguf" else [])):  # amid its weights
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            refused(r"cannot write .*out \((?!\d).*Nothing was written", ExportError, lora, form, base=checkpoint)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_without_room_is_told_before_anything_is_written(checkpoint, refused, monkeypatch):
    free = shutil.disk_usage(checkpoint)._replace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: free)
    for form in ("merged", "gguf"):
        refused(
            r"has 0\.0 MB of free space, but the weights need 0\.\d MB\. Choose another folder",
            ExportError,
            checkpoint,
            form,
        )


def test_what_cannot_be_asked_for_is_refused(checkpoint, lora, tmp_path, refused):
    refused("--format = 'gguff' is unknown: did you mean 'gguf'", ExportError, checkpoint, "gguff")
    refused("--names = 'ours' is unknown", ExportError, lora, "adapter", names="ours")
    refused("--precision = 'q4_0' is unknown for --format gguf", ExportError, checkpoint, "gguf", precision="q4_0")
    refused("--precision = 'q8_0' is unknown for --format merged", ExportError, checkpoint, precision="q8_0")
    refused("keeps the adapter's own precision. Leave --precision out", ExportError, lora, "adapter", precision="bf16")
    refused(
        "--names only applies to --format adapter, but this is --format gguf",
        ExportError,
        lora,
        "gguf",
        names="official",
    )
    refused(
        "is a whole model, but --base only applies to an adapter. Leave it out",
        ExportError,
        checkpoint,
        base=checkpoint,
    )
    refused("is a whole model without an adapter", ExportError, checkpoint, "adapter")
    export(checkpoint, tmp_path / "there")
    with pytest.raises(ExportError, match="exists already"):
        export(checkpoint, tmp_path / "there")


def test_what_a_killed_export_left_is_written_anew(checkpoint, tmp_path):
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "old").write_text("x")
    assert main(["export", str(checkpoint), str(tmp_path / "out")]) == 0
    assert not (tmp_path / "out" / "old").exists() and not (tmp_path / "out.partial").exists()
