"""The file for llama.cpp, read back: what its loader asks for, and the weights in its order."""

import json
import shutil

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_export import lora, tied, train, trained  # noqa: F401
from tokenizers import pre_tokenizers

from topeng.adapt.export import export
from topeng.errors import ExportError
from topeng.models import load_model, load_tokenizer
from topeng.text.chat import encode_prompt


def opened(folder):
    (file,) = folder.glob("*.gguf")
    return gguf.GGUFReader(file)


def values(reader):
    return {name: field.contents() for name, field in reader.fields.items()}


def weights(reader):
    """In fp32, as rows and columns."""
    return {
        tensor.name: torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32).copy())
        for tensor in reader.tensors
    }


def turned_back(weight, heads):
    """Rows of q and k in the order of the checkpoint."""
    rows = weight.shape[0] // heads // 2
    return weight.reshape(heads, rows, 2, -1).swapaxes(1, 2).reshape(weight.shape)


def test_the_loader_finds_what_it_asks_for(checkpoint, tokenizer, tmp_path):
    export(checkpoint, tmp_path / "out", "gguf", precision="f16")
    config, found = json.loads((checkpoint / "config.json").read_text()), values(opened(tmp_path / "out"))
    assert found["general.architecture"] == "llada" and found["general.file_type"] == 1
    for name, key in {
        "llada.block_count": "n_layers",
        "llada.embedding_length": "d_model",
        "llada.feed_forward_length": "mlp_hidden_size",
        "llada.attention.head_count": "n_heads",
        "llada.context_length": "max_sequence_length",
        "llada.rope.freq_base": "rope_theta",
        "llada.vocab_size": "vocab_size",
        "tokenizer.ggml.mask_token_id": "mask_token_id",
        "tokenizer.ggml.eos_token_id": "eos_token_id",
    }.items():
        assert found[name] == config[key], name
    assert found["llada.attention.causal"] is False and found["diffusion.shift_logits"] is False
    assert found["llada.attention.layer_norm_rms_epsilon"] == pytest.approx(config["rms_norm_eps"])
    assert found["tokenizer.ggml.pre"] == "gpt-2" and found["tokenizer.ggml.add_bos_token"] is True
    assert found["tokenizer.chat_template"] == tokenizer.chat_template
    words = found["tokenizer.ggml.tokens"]
    assert words == [tokenizer.convert_ids_to_tokens(token) or f"[PAD{token}]" for token in range(400)]
    types = found["tokenizer.ggml.token_type"]
    assert [words[token] for token in range(400) if types[token] == gguf.TokenType.CONTROL] == [
        tokenizer.decode([token]) for token in range(6)
    ]


@pytest.mark.parametrize(("precision", "bound"), [("f32", 0), ("f16", 2**-11), ("bf16", 2**-8), ("q8_0", None)])
def test_weights_are_the_merged_ones_in_llama_cpp_s_order(checkpoint, lora, tmp_path, precision, bound):  # noqa: F811
    export(lora, tmp_path / "merged", base=checkpoint, precision="f32")
    export(lora, tmp_path / "out", "gguf", base=checkpoint, precision=precision)
    expected, found = load_file(tmp_path / "merged" / "model.safetensors"), weights(opened(tmp_path / "out"))
    assert len(found) == len(expected)
    pairs = {
        "token_embd": "wte",
        "output": "ff_out",
        "output_norm": "ln_f",
        "blk.1.attn_v": "blocks.1.v_proj",
        "blk.1.ffn_down": "blocks.1.ff_out",
        "blk.0.ffn_gate": "blocks.0.ff_proj",
        "blk.0.attn_norm": "blocks.0.attn_norm",
        "blk.1.attn_q": "blocks.1.q_proj",
        "blk.0.attn_k": "blocks.0.k_proj",
    }
    for theirs, ours in pairs.items():
        weight, wanted = found[f"{theirs}.weight"], expected[f"model.transformer.{ours}.weight"]
        if theirs.endswith(("attn_q", "attn_k")):
            assert not torch.equal(weight, wanted)
            weight = turned_back(weight, 2)
        largest = wanted.abs().max() if wanted.ndim == 2 else 0
        error = (weight - wanted).abs()
        # Of a block of 32 numbers q8_0 has the largest, over 127, as its step, itself rounded to half precision.
        limit = (
            wanted.abs() * bound + 2**-25 * (precision == "f16")
            if bound is not None
            else largest * (0.5 / 127 + 2**-11)
        )
        assert (error <= limit).all(), theirs
        if wanted.ndim == 2 and precision != "f32":
            assert error.max() > 0


def test_a_head_that_is_the_embedding_is_not_written_twice(tied, tmp_path):  # noqa: F811
    export(tied, tmp_path / "out", "gguf")
    assert "output.weight" not in weights(opened(tmp_path / "out"))
    export(train(tied, tmp_path), tmp_path / "adapted", "gguf", base=tied)
    assert "output.weight" not in weights(opened(tmp_path / "adapted"))


def test_rows_beyond_the_vocabulary_are_left_out(checkpoint, tmp_path):
    shutil.copytree(checkpoint, tmp_path / "padded")
    stored = load_file(checkpoint / "model.safetensors")
    for name in ("model.transformer.wte.weight", "model.transformer.ff_out.weight"):
        stored[name] = torch.cat([stored[name], torch.full((16, 64), 9.0)])
    save_file(stored, tmp_path / "padded" / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((checkpoint / "config.json").read_text())
    (tmp_path / "padded" / "config.json").write_text(json.dumps(config | {"embedding_size": 416}))
    export(tmp_path / "padded", tmp_path / "out", "gguf", precision="f32")
    found = weights(opened(tmp_path / "out"))
    assert torch.equal(found["output.weight"], stored["model.transformer.ff_out.weight"][:400])
    assert torch.equal(found["token_embd.weight"], stored["model.transformer.wte.weight"][:400])


@pytest.mark.parametrize(("name", "shift"), [("llada-tiny", False), ("dream-tiny", True), ("llada-moe-tiny", False)])
def test_each_family_says_what_its_logits_are_of(shared, with_tokenizer, tmp_path, name, shift):
    folder = with_tokenizer(shared / "golden" / name)
    export(folder, tmp_path / "out", "gguf", precision="f32")
    found = values(opened(tmp_path / "out"))
    arch = found["general.architecture"]
    assert found["diffusion.shift_logits"] is shift and found[f"{arch}.attention.causal"] is False
    assert found["tokenizer.ggml.mask_token_id"] == 500
    stored, written = load_file(folder / "model.safetensors"), weights(opened(tmp_path / "out"))
    assert sum(weight.numel() for weight in stored.values()) == sum(weight.numel() for weight in written.values())
    if arch == "llada-moe":
        experts = [stored[f"model.layers.1.mlp.experts.{n}.down_proj.weight"] for n in range(8)]
        assert torch.equal(written["blk.1.ffn_down_exps.weight"], torch.stack(experts))
    if arch == "dream":
        assert torch.equal(written["blk.1.attn_q.bias"], stored["model.layers.1.self_attn.q_proj.bias"])
        assert torch.equal(written["blk.1.attn_q.weight"], stored["model.layers.1.self_attn.q_proj.weight"])


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("llada2-tiny", {}, "LLaDA2MoeModelLM cannot be exported as GGUF. Families that can: LLaDAModelLM, DreamModel"),
        ("a2d-llama-tiny", {}, "A2DLlamaLMHeadModel cannot be exported as GGUF"),
        ("llada-moe-tiny", {"norm_topk_prob": True}, "norm_topk_prob = True, which llama.cpp's network"),
        ("dream-tiny", {"rope_scaling": {"factor": 2.0}}, r"rope_scaling = \{'factor': 2.0\}"),
    ],
)
def test_a_family_without_the_format_is_refused(shared, tmp_path, name, change, message):
    folder = shutil.copytree(shared / "golden" / name, tmp_path / name)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ExportError, match=message):
        export(folder, tmp_path / "out", "gguf")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_tokenizer_that_cuts_otherwise_is_refused(checkpoint, tokenizer, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "other")
    rules = json.loads((folder / "tokenizer.json").read_text())
    rules["pre_tokenizer"] = json.loads(pre_tokenizers.Metaspace().__getstate__())
    (folder / "tokenizer.json").write_text(json.dumps(rules))
    with pytest.raises(ExportError, match="not a byte-level BPE"):
        export(folder, tmp_path / "out", "gguf")
    split = {"type": "Split", "pattern": {"Regex": r"\d"}, "behavior": "Isolated", "invert": False}
    rules["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split]}
    (folder / "tokenizer.json").write_text(json.dumps(rules))
    with pytest.raises(ExportError, match=r"splits text by '\\\\d', for which Topeng knows no name"):
        export(folder, tmp_path / "out", "gguf")


def test_spaces_that_the_tokenizer_puts_are_in_the_template(golden, with_tokenizer, tmp_path):
    """llama.cpp's byte-level BPE puts none: without ours, the file's template must come to the same tokens."""
    folder = with_tokenizer(golden)
    tokenizer, bare = load_tokenizer(folder), load_tokenizer(folder)
    bare.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    export(folder, tmp_path / "out", "gguf")
    template = values(opened(tmp_path / "out"))["tokenizer.chat_template"]
    messages = [{"role": "system", "content": "Jawablah."}, {"role": "user", "content": "  What's the capital? \n"}]
    texts = [
        bare.apply_chat_template(messages, chat_template=one, add_generation_prompt=True, tokenize=False)
        for one in (template, tokenizer.chat_template)
    ]
    ours, theirs = (bare(text, add_special_tokens=False)["input_ids"] for text in texts)
    assert ours == encode_prompt(tokenizer, messages) != theirs
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    with pytest.raises(
        ExportError, match=r"a space before each piece of text \(add_prefix_space\), which llama.cpp does not"
    ):
        export(folder, tmp_path / "other", "gguf")


def test_a_number_beyond_half_precision_is_told(checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "large")
    large = load_model(checkpoint)
    with torch.no_grad():
        large.model.layers[1].mlp.up_proj.weight[3, 5] = 1e5
    large.save_pretrained(folder)
    with pytest.raises(ExportError, match=r"blk\.1\.ffn_up\.weight has a number outside the range of f16. Use bf16"):
        export(folder, tmp_path / "out", "gguf", precision="f16")
    export(folder, tmp_path / "out", "gguf", precision="bf16")
