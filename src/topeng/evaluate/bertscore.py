"""BERTScore: the similarity of an answer to its reference according to an encoder (Zhang et al., arXiv 1904.09675)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from topeng.errors import ModelError
from topeng.models import find_device

BATCH_ROWS = 32


@torch.no_grad()
def bertscore(answers: Sequence[str], references: Sequence[str], encoder: str, device: str | None = None) -> np.ndarray:
    """F of each answer, at most 1: 2PR / (P + R), without idf weighting and without rescaling.

    P is the mean over the tokens of the answer of the highest cosine similarity with a token of the reference, in the
    last layer of the encoder. R is the same with the roles exchanged. Tokens that the encoder adds are excluded, and
    texts are cut at its longest input. F is 0 if the answer or the reference has no token.

    Args:
        encoder: a folder or a model id, with safetensors.
        device: device to run on, by default a GPU if there is one.

    Raises:
        ModelError: it cannot be loaded.
    """
    model, tokenizer = _load(encoder, device)
    if _is_uncased(tokenizer):
        answers, references = ([text.lower() for text in texts] for texts in (answers, references))
    scores = np.zeros(len(answers))
    order = sorted(range(len(answers)), key=lambda place: len(answers[place]) + len(references[place]))
    for start in range(0, len(order), BATCH_ROWS):
        places = order[start : start + BATCH_ROWS]
        of_answers = _vectors(model, tokenizer, [answers[place] for place in places])
        of_references = _vectors(model, tokenizer, [references[place] for place in places])
        for place, answer, reference in zip(places, of_answers, of_references, strict=True):
            scores[place] = f_measure(answer, reference)
    return scores


def f_measure(answer: Tensor, reference: Tensor) -> float:
    """BERTScore's F of two texts.

    Args:
        answer, reference: unit vectors of their tokens, [N, D] and [M, D].
    """
    if not len(answer) or not len(reference):
        return 0.0
    similarity = answer @ reference.T
    precision, recall = similarity.amax(dim=1).mean(), similarity.amax(dim=0).mean()
    return float(2 * precision * recall / (precision + recall))


def _vectors(model: Any, tokenizer: Any, texts: list[str]) -> list[Tensor]:
    """Unit vectors [N, D] of the tokens of each text, without special tokens."""
    batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt", return_special_tokens_mask=True)
    own = ~batch.pop("special_tokens_mask").bool()  # padding counts as a special token
    vectors = normalize(model(**batch.to(model.device)).last_hidden_state.float(), dim=-1).cpu()
    return [row[mask] for row, mask in zip(vectors, own, strict=True)]


def _load(encoder: str, device: str | None) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(encoder, trust_remote_code=False)
        model = AutoModel.from_pretrained(encoder, use_safetensors=True, trust_remote_code=False)
    except Exception as error:  # a bad folder may fail anywhere in two libraries
        reason = (str(error).strip() or type(error).__name__).split("\n")[0]
        raise ModelError(
            f"cannot load evaluate.bertscore_model = {encoder} ({reason}). Name a local copy with safetensors, or null."
        ) from error
    if 10 * len(tokenizer) < model.config.vocab_size:  # without its files, transformers makes an empty tokenizer
        raise ModelError(
            f"evaluate.bertscore_model = {encoder} has {model.config.vocab_size:,} embeddings, but its "
            f"tokenizer has {len(tokenizer):,} tokens. Put the missing files of the tokenizer next to the weights."
        )
    tokenizer.model_max_length = min(tokenizer.model_max_length, model.config.max_position_embeddings)
    return model.to(find_device(device)).eval(), tokenizer


def _is_uncased(tokenizer: Any) -> bool:
    """Whether a vocabulary has no capital letters. IndoBERT's tokenizer config does not say that it is uncased."""
    words = tokenizer.get_vocab().keys() - set(tokenizer.all_special_tokens)
    return all(word == word.lower() for word in words)
