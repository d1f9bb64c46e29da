"""Masked diffusion language models, natively on `transformers`: load and save in the official layouts."""

import json
import logging
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import cached_file

from topeng.errors import ModelError
from topeng.models.llada import LLaDAConfig, LLaDAModelLM

FAMILIES: dict[str, Any] = {"llada": LLaDAModelLM}

__all__ = ["FAMILIES", "LLaDAConfig", "LLaDAModelLM", "is_checkpoint", "load_config", "load_model", "load_tokenizer"]


def is_checkpoint(path: str | Path) -> bool:
    """Whether a folder holds a whole model, such as `full` training leaves, rather than an adapter."""
    return (Path(path) / "config.json").is_file()


def load_config(path: str | Path, revision: str | None = None) -> Any:
    """The options of a checkpoint: a folder, or a model id of the hub.

    Raises:
        ModelError: it cannot be reached, or is of no family that is known here.
    """
    file = _fetch(path, "config.json", revision)
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{file} is not JSON: {error}") from error
    family = FAMILIES.get(values.get("model_type"))
    if family is None:
        raise ModelError(
            f"{path} has model_type = {values.get('model_type')!r}; families known here: {', '.join(FAMILIES)}"
        )
    return family.config_class(**{key: value for key, value in values.items() if key != "model_type"})


def load_model(
    path: str | Path,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    revision: str | None = None,
    quantization: Any = None,
) -> Any:
    """A checkpoint in its family's official layout, in evaluation mode, without remote code.

    Args:
        path: a folder, or a model id of the hub.
        dtype: of the weights; that of the checkpoint without it.
        device: a GPU where there is one, without it.
        revision: commit of a model id.
        quantization: a configuration of `transformers`, such as `BitsAndBytesConfig`.

    Returns:
        A `transformers` model: `model(input_ids=…, attention_mask=…).logits` [B, T, V] is aligned with the input.

    Raises:
        ModelError: it cannot be reached, or weights are missing, left over, or of another shape.
    """
    config = load_config(path, revision)
    family = FAMILIES[config.model_type]
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    quantized = {"quantization_config": quantization, "device_map": {"": device}} if quantization else {}
    try:
        model, loading = family.from_pretrained(
            path,
            config=config,
            revision=revision or "main",
            dtype=dtype or "auto",
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # they are named below, with the missing ones
            output_loading_info=True,
            **quantized,
        )
    except (OSError, RuntimeError) as error:
        raise ModelError(f"cannot load the weights of {path}: {_first_line(error)}") from error
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if loading[kind]:
            names = sorted(str(key[0] if isinstance(key, tuple) else key) for key in loading[kind])
            raise ModelError(
                f"{path} does not fit its config.json: {len(names)} {kind.replace('_', ' ')}, the first {names[0]}"
            )
    return model.eval() if quantization else model.to(device).eval()


def load_tokenizer(path: str | Path, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint.

    Raises:
        ModelError: it cannot be reached, or is none.
    """
    _fetch(path, "tokenizer_config.json", revision)
    try:
        return AutoTokenizer.from_pretrained(path, revision=revision or "main")
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot load the tokenizer of {path}: {_first_line(error)}") from error


def _fetch(path: str | Path, name: str, revision: str | None) -> Path:
    if Path(path).is_dir():
        if not (Path(path) / name).is_file():
            raise ModelError(f"{path} has no {name}: a checkpoint folder holds it beside its weights")
        return Path(path) / name
    if Path(path).is_absolute() or str(path).startswith(".") or str(path).count("/") > 1:
        raise ModelError(f"there is no checkpoint folder {path}")
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.ERROR)  # five retries are one line in the end
    try:
        return Path(cached_file(str(path), name, revision=revision or "main"))
    except OSError as error:
        raise ModelError(
            f"cannot fetch {name} of {path} from the hub ({_first_line(error)}): copy the model to a folder "
            "and name that (--base.model FOLDER)"
        ) from error
    finally:
        hub.setLevel(level)


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0].rstrip(".:")
