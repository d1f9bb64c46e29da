"""The options of the base: a checkpoint, a causal model to convert, or a tiny model that is pretrained on the spot."""

from dataclasses import dataclass
from typing import Literal

from topeng.options import OptionError, Options, option

HEAD_SIZE = 32
"""Width of an attention head of a tiny base."""

LORA = "arXiv 2106.09685"
OPDLM = "arXiv 2606.06712"
DIFFULLAMA = "DiffuLLaMA, arXiv 2410.17891"


@dataclass(frozen=True)
class TinyOptions(Options):
    """A base that is pretrained on the source-language rows and on plain texts (`source.plain_rows`), where the recipe
    names no model.
    """

    start: str | None = option(
        None,
        "Checkpoint to continue from; its shape and tokenizer are kept. Null makes new ones from the options below.",
    )
    vocab_size: int = option(
        2048, "Vocabulary size of the byte-level BPE tokenizer, which has LLaDA's special tokens.", ge=300
    )
    hidden_size: int = option(128, "Width of the model. Each attention head has 32 dimensions.", ge=32)
    layers: int = option(4, "Number of layers.", ge=1)
    steps: int = option(600, "Number of optimiser steps.", ge=1)
    batch_rows: int = option(32, "Rows per optimiser step.", unit="rows", ge=1)
    optimizer: Literal["muon", "adamw"] = option(
        "muon",
        "Muon for the matrices of the layers and AdamW for the rest, which is best from scratch; or AdamW for all, to "
        "continue a large model: on a GPU a step of Muon takes several times as long.",
    )
    learning_rate: float = option(4e-3, "Peak learning rate, with a warm-up and cosine decay.", gt=0)
    rows: Literal["source", "target", "both"] = option(
        "source",
        "Rows to learn: those of the source language, those of the target language that are trained on later too "
        "(corpus/train.parquet), or both. Plain texts are learnt besides.",
        new=True,
    )
    lora_rank: int | None = option(
        None,
        "Rank of a LoRA (of twice that alpha, with AdamW) that is trained instead of all weights, and merged at the "
        "end. Null trains all weights.",
        source=LORA,
        new=True,
        ge=1,
    )
    anneal_steps: int | None = option(
        None,
        "Number of first steps in which a network that has looked back only gets to see what is after: a random share "
        "of it, which grows from none to all. Null shows all from the first step.",
        source=DIFFULLAMA,
        new=True,
        ge=1,
    )

    distillation_weight: float = option(
        0.0,
        "Share of the loss that is cross-entropy with what a converted model predicted as a causal one, instead of "
        "with the tokens themselves.",
        source=OPDLM,
        new=True,
        ge=0,
        le=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.anneal_steps and self.distillation_weight:
            raise OptionError(
                "distillation_weight",
                f"= {self.distillation_weight:g} was not made for attention that opens step by step (anneal_steps = "
                f"{self.anneal_steps}). Leave one out.",
            )
        if self.hidden_size % HEAD_SIZE:
            raise OptionError("hidden_size", f"= {self.hidden_size} must be a multiple of {HEAD_SIZE}, a head's width")
        if (self.anneal_steps or 0) > self.steps:
            raise OptionError("anneal_steps", f"= {self.anneal_steps} must be at most steps = {self.steps}")

    @property
    def heads(self) -> int:
        return self.hidden_size // HEAD_SIZE

    @property
    def intermediate_size(self) -> int:
        """Width of the MLP: eight thirds of the model's, rounded up to a multiple of 32, as Llama has it."""
        return 32 * -(-self.hidden_size // 12)


@dataclass(frozen=True)
class ModelOptions(Options):
    """A checkpoint that is loaded."""

    model: str | None = option(
        None,
        "Model to adapt: a checkpoint folder, a model id, or `kecil`, the model that comes with Topeng. Null pretrains "
        "one: base.convert, or else a tiny one (base.tiny).",
    )
    revision: str | None = option(None, "Commit of the model on the Hub, to pin its version.")
    dtype: Literal["float32", "bfloat16"] = option("float32", "Precision of the frozen weights.")
    device: str | None = option(
        None, "Device to run on, such as cpu or cuda:0. Null uses a GPU if there is one.", cost=True
    )


@dataclass(frozen=True)
class BaseOptions(ModelOptions):
    """The model that is adapted."""

    convert: str | None = option(
        None,
        "Causal Llama, Qwen2 or Qwen3 that becomes the base: a checkpoint folder, a model id or a GGUF file. It is "
        "converted, and pretrained as base.tiny says (steps, batch_rows, learning_rate).",
    )
    shift: bool = option(
        True, "Whether a position of the converted model goes on predicting the next token, as it has learnt to."
    )
    tiny: TinyOptions = option(TinyOptions, "the tiny base")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, other in (("model", self.model), ("tiny.start", self.tiny.start)):
            if self.convert and other:
                raise OptionError(
                    "convert", f"= {self.convert} makes the base, but {name} = {other} names another. Leave one out."
                )
        for name in ("lora_rank", "anneal_steps", "distillation_weight"):
            value = getattr(self.tiny, name)
            if value and not (self.model or self.convert or self.tiny.start):
                raise OptionError(
                    f"tiny.{name}",
                    f"= {value} continues a base that has learnt something, but this one starts from scratch. Name one "
                    "in base.convert or base.tiny.start.",
                )
