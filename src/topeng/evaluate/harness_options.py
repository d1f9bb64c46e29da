"""Options of a model for `topeng lm-eval`: `--model_args`, and the decoding settings of a task."""

import difflib
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from topeng.errors import RecipeError
from topeng.generate.settings import PRESETS, Settings, checkpoint_settings, preset_values
from topeng.options import OptionError, Options, option

LLADA = "LLaDA, arXiv 2502.09992"
LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""Names that tasks use for the largest number of tokens of an answer."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelOptions(Options):
    """`--model_args`, without the decoding settings."""

    pretrained: str | None = option(None, "A checkpoint folder or a model id.")
    adapter: str | None = option(None, "An adapter folder.")
    revision: str | None = option(None, "Commit of the model on the Hub, to pin its version.")
    dtype: str | None = option(None, "Precision of the weights, such as bfloat16. Null uses the checkpoint's.")
    device: str | None = option(None, "Device to run on. Null uses a GPU if there is one.")
    draws: int = option(128, "Monte Carlo draws per continuation for the likelihood bound.", source=LLADA, ge=1)
    replicates: int = option(1, "Number of independent estimates that the draws are divided into.", ge=1)
    seed: int = option(0, "Seed of the masks of the bound and of the sampling noise.", ge=0, lt=2**32)
    batch_tokens: int = option(8192, "Largest forward pass, with padding.", unit="tokens", ge=1)
    preset: str = option("reference", f"Decoding preset: {', '.join(PRESETS)}.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.preset not in PRESETS:
            raise OptionError("preset", f"= {self.preset!r} must be one of {', '.join(PRESETS)}")
        if self.draws % self.replicates:
            raise OptionError("draws", f"= {self.draws} must be a multiple of replicates = {self.replicates}")
        import torch

        if self.dtype is not None and not isinstance(getattr(torch, self.dtype, None), torch.dtype):
            raise OptionError("dtype", f"= {self.dtype!r} is not a dtype. Use bfloat16, float16 or float32.")


def parse_model_args(values: Mapping[str, Any]) -> tuple[ModelOptions, Settings]:
    """`--model_args`, by name.

    Raises:
        RecipeError: a name is unknown, or a value breaks a rule.
    """
    own = [field.name for field in fields(ModelOptions)]
    decoding = [field.name for field in fields(Settings)]
    for name in values:
        if name not in {*own, *decoding}:
            near = difflib.get_close_matches(name, [*own, *decoding], n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(own)} and the decoding settings"
            raise RecipeError(f"--model_args: unknown argument {name!r}: {hint}")
    try:
        options = ModelOptions(**{name: value for name, value in values.items() if name in own})
        given = {name: value for name, value in values.items() if name in decoding}
        wanted = checkpoint_settings(options.pretrained) if options.pretrained else {}
        return options, Settings(**preset_values(options.preset, wanted) | given | {"seed": options.seed})
    except OptionError as error:
        raise RecipeError(f"--model_args: {error}") from None


def check_device(device: str | None, by_default: bool) -> str | None:
    """The device to load on, or None if none was chosen.

    Args:
        by_default: whether `device` may be the harness's default, the first GPU, which may not exist.

    Raises:
        RecipeError: torch does not know the device, or there is no GPU.
    """
    import torch

    try:
        needs_gpu = device is not None and torch.device(device).type == "cuda"
    except RuntimeError:
        raise RecipeError(f"device = {device!r} is not a device. Use cuda, cuda:N or cpu.") from None
    if not needs_gpu or torch.cuda.is_available():
        return device
    if by_default and device == "cuda:0":
        return None
    raise RecipeError(f"device = {device!r}, but this machine has no GPU. Use cpu, or leave it out.")


def decoding(settings: Settings, arguments: Mapping[str, Any]) -> tuple[Settings, int, list[str]]:
    """Applies a task's `generation_kwargs` and `--gen_kwargs` to the settings.

    Names of settings change them, and `do_sample: false` means temperature 0. The canvas has the largest number of
    tokens of an answer, rounded up to whole blocks with unchanged steps per block.

    Returns:
        The settings, the largest number of tokens of an answer, and the texts that end it.

    Raises:
        OptionError: a value breaks a rule of the settings.
    """
    values = dict(arguments)
    until = values.pop("until", None) or []
    limits = [values.pop(name) for name in LENGTHS if name in values]
    limit = int(limits[0]) if limits else settings.max_new_tokens
    if values.pop("do_sample", None) is False:
        values["temperature"] = 0.0
    known = {field.name for field in fields(Settings)}
    if values.keys() - known:
        logger.warning("unknown generation arguments are ignored: %s", sorted(values.keys() - known))
    changed = asdict(settings) | {name: value for name, value in values.items() if name in known}
    blocks = -(-limit // changed["block_length"])
    changed["max_new_tokens"] = blocks * changed["block_length"]
    if settings.steps is not None and "steps" not in values:
        changed["steps"] = blocks * settings.steps_per_block
    return Settings(**changed), limit, [until] if isinstance(until, str) else list(until)
