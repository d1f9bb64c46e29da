"""Masked diffusion language models, natively on `transformers`: load and save in the official layouts."""

import hashlib
import logging
import re
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.core_model_loading import WeightRenaming, apply_renamings
from transformers.utils import cached_file

from topeng.errors import ModelError
from topeng.kecil import hub_id, locate, refuse_typo
from topeng.models import a2d, moe
from topeng.models.dream import DreamModel
from topeng.models.illada import ILLaDAForCausalLM
from topeng.models.llada import LLaDAConfig, LLaDAModelLM
from topeng.models.sdar import SDARForCausalLM
from topeng.system import ranks
from topeng.system.files import read_object
from topeng.text.formats import mask_token_of

MODELS: list[Any] = [LLaDAModelLM, ILLaDAForCausalLM, DreamModel, SDARForCausalLM, *a2d.MODELS, *moe.MODELS]
FAMILIES: dict[str, Any] = {model.config_class.model_type: model for model in MODELS}
"""Networks by `model_type`, used if `architectures` names none of ours. On the Hub, LLaDA-MoE has `llada` too."""
TELLING_WIDTH = 256
CHECKPOINT_FILES = ["*.json", "*.safetensors", "*.jinja", "README.md"]

__all__ = [
    "FAMILIES",
    "LLaDAConfig",
    "LLaDAModelLM",
    "family_of",
    "fetch_checkpoint",
    "find_device",
    "fingerprint",
    "first_line",
    "hub_id",
    "is_base",
    "is_checkpoint",
    "load_config",
    "load_model",
    "load_tokenizer",
    "native_name",
    "official_names",
    "quiet_hub",
    "read_options",
]


def is_checkpoint(path: str | Path) -> bool:
    """Whether a folder contains a whole model, such as one trained with `full`, instead of an adapter."""
    return (Path(path) / "config.json").is_file()


def load_config(path: str | Path, revision: str | None = None) -> Any:
    """Loads the config of a checkpoint: a folder, or a model id on the Hub.

    Raises:
        ModelError: it cannot be reached, or its family is not supported.
    """
    path = locate(path)
    values = read_options(path, revision)
    family = family_of(values)
    kind, named = values.pop("model_type", None), values.get("architectures") or []
    if family is None:
        raise ModelError(
            f"{path} has model_type = {kind!r}, which is not supported. Supported families: {', '.join(FAMILIES)}."
        )
    known = family.__name__
    if named and known not in named:
        raise ModelError(
            f"{path} has model_type = {kind!r} and architectures = {named}, but Topeng only supports {known} for this "
            "model_type"
        )
    try:
        config = family.config_class(**values)
        if config.eos_token_id is None:  # as in Dream, whose padding is its end token
            config.eos_token_id = config.pad_token_id
        if values.get("mask_token_id") is None and _has_tokenizer(path):  # as in LLaDA2.x, iLLaDA and dLLM's
            tokenizer = load_tokenizer(path, revision)
            if mask := mask_token_of(tokenizer):
                config.mask_token_id = tokenizer.convert_tokens_to_ids(mask)
        return config
    except ModelError:
        raise
    except Exception as error:  # errors of many classes, which all mean that an option has an unusable value
        raise ModelError(
            f"{Path(path) / 'config.json'} has a value that cannot be used ({_lines(error)[-1].rstrip('.')}). Copy the "
            "checkpoint again."
        ) from error


def family_of(values: Mapping[str, Any]) -> Any:
    """The network of a config.json: the one that its `architectures` name, or else that of its `model_type`."""
    named, kind = values.get("architectures") or [], FAMILIES.get(str(values.get("model_type")))
    return kind and next((model for model in MODELS if model.__name__ in named), kind)


def _has_tokenizer(path: str | Path) -> bool:
    """Whether there is a tokenizer, without which weights can be loaded from a folder."""
    return not Path(path).is_dir() or (Path(path) / "tokenizer_config.json").is_file()


def read_options(path: str | Path, revision: str | None = None) -> dict[str, Any]:
    """The content of a checkpoint's `config.json`, for any family.

    Raises:
        ModelError: it cannot be reached, or is not a JSON object.
    """
    return read_object(_fetch(locate(path), "config.json", revision), ModelError, "checkpoint")


def load_model(
    path: str | Path,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    revision: str | None = None,
    quantization: Any = None,
) -> Any:
    """Loads a checkpoint in its family's official layout, in evaluation mode. No remote code is run.

    Args:
        path: a folder, a model id on the Hub, or `kecil`, the model that comes with Topeng.
        dtype: precision of the weights; by default that of the checkpoint.
        device: by default a GPU if there is one.
        revision: commit of the model on the Hub.
        quantization: a configuration of `transformers`, such as `BitsAndBytesConfig`.

    Returns:
        A `transformers` model: `model(input_ids=…, attention_mask=…).logits` [B, T, V] is aligned with the input.

    Raises:
        ModelError: the checkpoint cannot be reached, its weights are missing, left over or of another shape, or they
            do not fit into the GPU's memory.
    """
    path = locate(path)
    config, device = load_config(path, revision), find_device(device)
    family = FAMILIES[config.model_type]
    if device.type == "cuda" and device.index is None:  # a device without a number never equals one with a number
        device = torch.device("cuda", torch.cuda.current_device())
    try:
        model, loading = family.from_pretrained(
            path,
            config=config,
            revision=revision or "main",
            dtype=dtype or "auto",
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # they are reported below, with the missing ones
            output_loading_info=True,
            device_map={"": device} if quantization or ranks.RANKS == 1 else None,  # directly to the GPU
            quantization_config=quantization,
        )
    except Exception as error:  # a bad folder may fail anywhere in three libraries
        raise _not_loaded(path, device, error) from error
    _check_loaded(path, loading)
    return model.eval() if quantization else model.to(device).eval()


def _not_loaded(path: str | Path, device: torch.device, error: Exception) -> ModelError:
    reason = first_line(error)
    if isinstance(error, torch.OutOfMemoryError):
        return ModelError(
            f"the weights of {path} do not fit into the free memory of {device} ({reason}). Use a lower precision "
            "(bfloat16), a larger GPU or the CPU, or end other programs that use the GPU."
        )
    return ModelError(f"cannot load the weights of {path} ({reason}). Copy the checkpoint again.")


def _check_loaded(path: str | Path, loading: dict[str, Any]) -> None:
    """
    Raises:
        ModelError: weights are missing, left over, or of another shape.
    """
    for kind, words in {"missing": "missing", "unexpected": "left over", "mismatched": "of another shape"}.items():
        if loading[f"{kind}_keys"]:
            names = sorted(str(key[0] if isinstance(key, tuple) else key) for key in loading[f"{kind}_keys"])
            raise ModelError(
                f"the weights of {path} do not match its config.json: {len(names)} {words}, the first is {names[0]}. "
                "Both must come from the same checkpoint."
            )


def find_device(device: str | torch.device | None = None) -> torch.device:
    """The device of this name, by default a GPU if there is one.

    Raises:
        ModelError: there is no such device.
    """
    gpus = torch.cuda.device_count()
    try:
        found = torch.device(device or ("cuda" if gpus else "cpu"))
    except RuntimeError as error:
        raise ModelError(f"base.device = {device!r} is not a device. Use cpu, cuda or cuda:0.") from error
    if found.type == "cuda" and (found.index or 0) >= gpus:
        raise ModelError(
            f"base.device = {device!r}, but torch finds {gpus} GPUs on this machine. Leave base.device out."
        )
    return found


def fingerprint(model: Any) -> str:
    """Identifies a base by parts of the embeddings of its mask and end tokens, which every training changes.

    They are in bf16 and base 64. Adapters do not change them.
    """
    values = _telling_rows(model)[:, :TELLING_WIDTH].to(torch.bfloat16)
    return b64encode(values.contiguous().view(torch.uint8).numpy().tobytes()).decode()


def is_base(model: Any, known: str) -> bool:
    """Whether a model has the weights of a `fingerprint`, whatever the precision in which each was loaded.

    A weight in fp16 is only known to half a step, and its bf16 may be that of any number in this range.

    Raises:
        ValueError: `known` is not a fingerprint.
    """
    rows = _telling_rows(model)
    if len(known) == 64:  # earlier versions used a digest of these rows in bf16
        digested = rows.to(torch.bfloat16).contiguous().view(torch.uint8).numpy().tobytes()
        return known == hashlib.sha256(digested).hexdigest()
    taken = torch.frombuffer(bytearray(b64decode(known, validate=True)), dtype=torch.bfloat16)
    values = rows[:, :TELLING_WIDTH].flatten()
    if len(taken) != len(values):
        return False
    half_step = (values.abs().float() * 2**-11).clamp(min=2**-25) if rows.dtype == torch.float16 else 0
    low, high = ((values.float() + side * half_step).to(torch.bfloat16) for side in (-1, 1))
    return bool(((low <= taken) & (taken <= high)).all())


def _telling_rows(model: Any) -> torch.Tensor:
    config, weight = model.config, model.get_input_embeddings().weight
    return weight[[config.mask_token_id, config.eos_token_id]].detach().cpu()


def native_name(model: Any, name: str) -> str:
    """Our name of a module or weight of the official code. Other names are unchanged."""
    for pattern, native in type(model).official_names:
        name = re.sub(pattern, native, name)
    return name


def official_names(model: Any) -> dict[str, str]:
    """The official names of a network's weights, by our names."""
    back = [WeightRenaming(*names).reverse_transform() for names in reversed(type(model).official_names)]
    return {name: apply_renamings(name, back) for name, _ in model.named_parameters(remove_duplicate=False)}


def fetch_checkpoint(path: str | Path, revision: str | None = None) -> Path:
    """The folder of a checkpoint. For a model id it is in the Hub's cache, with all necessary files.

    Raises:
        ModelError: it cannot be reached.
    """
    path = locate(path)
    _fetch(path, "config.json", revision)
    if Path(path).is_dir():
        return Path(path)
    try:
        return Path(snapshot_download(str(path), revision=revision, allow_patterns=CHECKPOINT_FILES))
    except OSError as error:
        raise ModelError(
            f"cannot download {path} from the Hub ({first_line(error)}). Copy the model to a folder and give its path."
        ) from error


def load_tokenizer(path: str | Path, revision: str | None = None) -> PreTrainedTokenizerBase:
    """Loads the tokenizer of a checkpoint.

    Raises:
        ModelError: it cannot be reached, or is not a tokenizer.
    """
    path = locate(path)
    _fetch(path, "tokenizer_config.json", revision)
    try:
        return AutoTokenizer.from_pretrained(path, revision=revision or "main", trust_remote_code=False)
    except Exception as error:  # as above
        if "trust_remote_code" in str(error):
            raise ModelError(
                f"the tokenizer of {path} asks for code of its own, which Topeng never runs. If there is a "
                "tokenizer.json, remove auto_map from tokenizer_config.json."
            ) from error
        raise ModelError(
            f"cannot load the tokenizer of {path} ({first_line(error)}). Copy tokenizer.json and "
            "tokenizer_config.json again."
        ) from error


def _fetch(path: str | Path, name: str, revision: str | None) -> Path:
    if Path(path).is_dir():
        if not (Path(path) / name).is_file():
            raise ModelError(f"{path} has no {name}. A checkpoint folder has it next to the weights.")
        return Path(path) / name
    if Path(path).is_absolute() or str(path).startswith(".") or str(path).count("/") > 1:
        raise ModelError(f"there is no checkpoint folder {path}")
    refuse_typo(path)
    try:
        with quiet_hub():
            return Path(cached_file(str(path), name, revision=revision or "main"))
    except OSError as error:
        raise ModelError(
            f"cannot download {name} of {path} from the Hub ({first_line(error)}). Copy the model to a folder "
            "and give its path."
        ) from error


@contextmanager
def quiet_hub() -> Iterator[None]:
    """Keeps huggingface_hub from printing each retry. The error at the end says what is wrong."""
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.ERROR)
    try:
        yield
    finally:
        hub.setLevel(level)


def first_line(error: BaseException) -> str:
    """The first line of a library's error, for use in brackets in a message of ours."""
    return _lines(error)[0].rstrip(".:")


def _lines(error: BaseException) -> list[str]:
    """The lines of an error, with its type for a `KeyError`, whose text is only a name."""
    text = f"{type(error).__name__} {error}" if isinstance(error, KeyError) else str(error)
    return [line.strip() for line in text.strip().split("\n")]
