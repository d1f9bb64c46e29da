"""The language in which a row is answered, by py3langid's model, run over many rows at once.

py3langid is a byte automaton that finds features, followed by naive Bayes over how often each occurs. Its own
`classify` takes one text at a time. Here the automaton walks through a whole batch in parallel, which gives the same
answers six times as fast (docs/corpus.md).
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import sparse, special

from topeng.errors import CorpusError

CHARACTERS = 500
"""Bytes of a text that are read. On our rows, the rest changes fewer than one decision in 1,000 (docs/corpus.md)."""

ENOUGH_LETTERS = re.compile(r"(?:[\W\d_]*[^\W\d_]){20}")
"""Below 20 letters, Indonesian is mostly not recognised. Such a text counts as undetermined, and is kept."""

ANSWER_LETTERS = re.compile(r"(?:[\W\d_]*[^\W\d_]){40}")
"""An answer of 40 letters or more is judged alone, because an Indonesian prompt would hide a Javanese answer. A shorter
one (a label, a name, a title) is judged together with its prompt."""

UNDETERMINED = "und"
SPOKEN = 0.5
"""Least probability of all accepted languages together at which a text counts as in them."""

BATCH = 8192


def identify_rows(
    inputs: Sequence[str], outputs: Sequence[str], accepted: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """`identify` for the answer of each row. A short answer is read together with its prompt."""
    pairs = zip(inputs, outputs, strict=True)
    return identify([text if ANSWER_LETTERS.match(text) else f"{text}\n{prompt}" for prompt, text in pairs], accepted)


def identify(texts: Sequence[str], accepted: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The most likely language of each text, [R], and the probability that it is one of the `accepted`, [R].

    Languages that are hard to tell apart are best accepted together: `["id", "ms"]` is Indonesian or Malay. A text with
    fewer than 20 letters is `und` with probability 1, as there is no evidence against it.

    Raises:
        CorpusError: the model does not know an accepted language.
    """
    model = _model()
    if unknown := sorted(set(accepted) - set(model.labels)):
        raise CorpusError(
            f"corpus.languages names {', '.join(unknown)}, which cannot be identified. Known codes: "
            + ", ".join(sorted(model.labels))
        )
    languages = np.full(len(texts), UNDETERMINED, dtype=model.labels.dtype)
    probabilities = np.ones(len(texts), np.float32)
    columns = np.isin(model.labels, accepted)
    for rows, posterior in _posteriors(texts, model):
        languages[rows] = model.labels[posterior.argmax(axis=1)]
        probabilities[rows] = posterior[:, columns].sum(axis=1)
    return languages, probabilities


class _Model(NamedTuple):
    """The model: S states, F features and C classes. A label may have two classes (Serbian in two scripts)."""

    next_state: np.ndarray  # indexed by the row of the state, plus the byte
    row: np.ndarray  # [S]: where the 256 successors of a state start
    feature: np.ndarray  # [S]: the features found on entering a state, or -1
    weights: np.ndarray  # [F, C]
    prior: np.ndarray  # [C]
    labels: np.ndarray  # [L]
    label_of_class: np.ndarray  # one-hot, [C, L]


@cache
def _model() -> _Model:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    plain = LanguageIdentifier.from_model_file(MODEL_FILE)
    labels, label = np.unique(plain.nb_classes, return_inverse=True)
    return _Model(
        np.asarray(plain.tk_nextmove),
        np.asarray(plain.tk_row, np.int64) * 256,
        np.asarray(plain.tk_output),
        plain.nb_ptc.astype(np.float32),
        plain.nb_pc,
        labels,
        np.eye(len(labels), dtype=np.float32)[label],
    )


def _posteriors(texts: Sequence[str], model: _Model) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields batches of row numbers, [B], and the probability of each label, [B, L], longest texts first."""
    told = [row for row, text in enumerate(texts) if ENOUGH_LETTERS.match(text)]
    data = [_encode(texts[row]) for row in told]
    order = np.argsort([-len(text) for text in data], kind="stable")
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        counts, lengths = _count_features([data[index] for index in batch], model)
        scores = np.log1p(counts) @ model.weights + model.prior
        scores[counts.getnnz(axis=1) == 0] = 0
        yield np.take(told, batch), special.softmax(scores / np.sqrt(lengths)[:, None], axis=1) @ model.label_of_class


def _encode(text: str) -> bytes:
    """The bytes that the model was trained on."""
    text = text[:CHARACTERS]
    return unicodedata.normalize("NFC", text.lower() if text.isupper() else text).encode(errors="surrogatepass")


def _count_features(texts: Sequence[bytes], model: _Model) -> tuple[sparse.csr_matrix, np.ndarray]:
    """How often each feature occurs in each text, [B, F], longest texts first, and the lengths of texts in bytes."""
    data = np.frombuffer(b"".join(texts), np.uint8)
    lengths = np.array([len(text) for text in texts])
    ends = np.cumsum(lengths)
    state = np.zeros(len(texts), np.int64)
    found = np.empty(len(data), np.int64)
    for position, going in enumerate(np.searchsorted(-lengths, -np.arange(lengths[0]))):
        at = ends[:going] - lengths[:going] + position
        state[:going] = model.next_state[model.row[state[:going]] + data[at]]
        found[at] = model.feature[state[:going]]
    hit = found >= 0
    bounds = np.concatenate([[0], np.cumsum(hit)])[np.concatenate([[0], ends])]
    ones = np.ones(hit.sum(), np.float32)
    counts = sparse.csr_matrix((ones, found[hit], bounds), (len(texts), len(model.weights)))
    counts.sum_duplicates()
    return counts, lengths
