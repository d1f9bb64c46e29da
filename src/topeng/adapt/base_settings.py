"""The options of the base: a checkpoint, a causal model to convert, or a tiny model that the run pretrains."""

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
    """A base that the run pretrains on rows of the source language and plain texts (`source.plain_rows`), if the recipe
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
        "Optimiser. `muon` uses Muon for matrices of the layers and AdamW for the rest, which is best from scratch. "
        "`adamw` is better for a large model, because a step of Muon takes several times as long on a GPU.",
    )
    learning_rate: float = option(4e-3, "Peak learning rate, with a warm-up and cosine decay.", gt=0)
    rows: Literal["source", "target", "both"] = option(
        "source",
        "Rows to pretrain on: those of the source language, those of the target language on which adapters are trained "
        "later (corpus/train.parquet), or both. Plain texts are used in any case.",
        new=True,
    )
    lora_rank: int | None = option(
        None,
        "Rank of a LoRA that is trained instead of all weights, and merged at the end. Its alpha is twice the rank, "
        "and its optimiser is AdamW. Null trains all weights.",
        source=LORA,
        new=True,
        ge=1,
    )
    anneal_steps: int | None = option(
        None,
        "Number of steps over which the attention of a causal network is opened: each position sees a random share of "
        "the later positions, which grows from none to all. Null shows all from the first step.",
        source=DIFFULLAMA,
        new=True,
        ge=1,
    )
    distillation_weight: float = option(
        0.0,
        "Share of the loss that is cross-entropy with the predictions that a converted model made as a causal model, "
        "instead of with the tokens.",
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
        """Width of the MLP: eight thirds of the model's, rounded up to a multiple of 32, as in Llama."""
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
        "Causal Llama, Qwen2 or Qwen3 to turn into the base: a checkpoint folder, a model id or a GGUF file. It is "
        "converted, and pretrained further as base.tiny says (steps, batch_rows, learning_rate).",
    )
    shift: bool = option(
        True, "Whether a position of the converted model still predicts the next token, as it has learnt."
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
