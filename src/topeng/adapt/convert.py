"""`topeng convert` and the stage `base/convert`: turn a causal Llama, Qwen2 or Qwen3 into a base that fills masks.

Its attention becomes bidirectional, and a mask token is added to its vocabulary. The network must still learn to use
them, so it has to be pretrained further.
"""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from topeng.adapt.export import check_new, whole
from topeng.errors import ModelError
from topeng.models import first_line, quiet_hub
from topeng.models.a2d import MODELS
from topeng.system.files import write_atomically
from topeng.text.chat import check_tokens
from topeng.text.formats import CHATML, format_of

OURS = {model.config_class.model_type.removeprefix("a2d-"): model for model in MODELS}
"""Our networks by the `model_type` of the causal network."""
DERIVED = ("model_type", "architectures", "transformers_version", "quantization_config", "dtype", "torch_dtype")
"""Options of a causal checkpoint that are not copied to the converted one."""


def convert(source: str | Path, out: str | Path, shift: bool = True, revision: str | None = None) -> None:
    """Writes the folder `out`: a checkpoint in bf16, its tokenizer and its config.

    Args:
        source: a checkpoint folder, a model id, or a GGUF file (`pip install 'topeng[export]'`).
        shift: whether a position still predicts the next token, as the network has learnt, instead of its own.
        revision: commit of a model id.

    Raises:
        ExportError: `out` exists or cannot be written.
        ModelError: the source cannot be read, is of another family, or the chat format of its tokenizer is unknown.
    """
    out = check_new(out)
    causal = _read(AutoModelForCausalLM, source, revision, dtype=torch.float32)
    config, tokenizer, new = _converted(source, causal.config, shift, revision)
    if new:
        _add_row(causal, config.mask_token_id)
    model = OURS[causal.config.model_type](config)
    model.load_state_dict(causal.state_dict())
    with whole(out) as folder:
        model.to(torch.bfloat16).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_atomically(folder / "README.md", _card(source, shift))


def converted_config(source: str | Path, shift: bool = True, revision: str | None = None) -> Any:
    """The config that a causal checkpoint will have after conversion. No weights are read.

    Raises:
        ModelError: as in `convert`.
    """
    return _converted(source, _read(AutoConfig, source, revision), shift, revision)[0]


def _converted(source: str | Path, causal: Any, shift: bool, revision: str | None) -> tuple[Any, Any, bool]:
    """The config and tokenizer of the converted model, from the causal config, and whether its mask token is new."""
    kind = OURS.get(causal.model_type)
    if kind is None:
        raise ModelError(
            f"{source} has model_type = {causal.model_type!r}, which cannot be converted. Families that can: "
            f"{', '.join(OURS)}."
        )
    tokenizer = _read(AutoTokenizer, source, revision)
    new = tokenizer.add_special_tokens({"mask_token": CHATML.mask}) > 0
    tokenizer.chat_template = format_of(tokenizer).template
    options = {name: value for name, value in causal.to_dict().items() if name not in DERIVED}
    tokens = {"mask_token_id": tokenizer.mask_token_id, "eos_token_id": tokenizer.convert_tokens_to_ids(CHATML.eos)}
    options |= {"vocab_size": max(causal.vocab_size, tokenizer.mask_token_id + 1), "predicts_next": shift}
    config = kind.config_class(**options | tokens | {"pad_token_id": tokens["eos_token_id"]})
    check_tokens(str(source), config, tokenizer)
    return config, tokenizer, new


def _read(kind: Any, source: str | Path, revision: str | None, **options: Any) -> Any:
    """Reads a causal checkpoint with one of transformers' classes."""
    path = Path(source)
    file = {"gguf_file": path.name} if path.suffix == ".gguf" else {}
    place = str(path.parent) if file else str(source)
    try:
        with quiet_hub():
            return kind.from_pretrained(place, revision=revision or "main", trust_remote_code=False, **file, **options)
    except Exception as error:  # a bad folder may fail anywhere in three libraries
        raise ModelError(
            f"cannot read the causal model {source} ({first_line(error)}). Copy it again, or name another."
        ) from error


def _add_row(causal: Any, mask: int) -> None:
    """Adds a row for the mask token, as the mean of the others, which is similar to no word."""
    if mask >= causal.get_input_embeddings().num_embeddings:
        causal.resize_token_embeddings(mask + 1, mean_resizing=False)
    with torch.no_grad():
        for layer in {causal.get_input_embeddings(), causal.get_output_embeddings()}:
            layer.weight[mask] = layer.weight[:mask].mean(dim=0)


def _card(source: str | Path, shift: bool) -> str:
    facts = {"source": Path(source).name, "predicts_next": shift}
    return (
        "---\nlibrary_name: transformers\ntags: [topeng, masked-diffusion, diffusion-language-model]\n---\n\n"
        "A causal language model that `topeng convert` gave bidirectional attention and a mask token. It has not\n"
        "learnt to fill masks yet: pretrain it further (`base.tiny.start` of a recipe). It has the licence of its\n"
        f"source.\n\n    {json.dumps(facts)}\n"
    )
