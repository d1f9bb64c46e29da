"""Rows as vectors: hashed TF-IDF and SVD offline, or any BERT or sentence-transformers model."""

from collections.abc import Sequence

import numpy as np

from topeng.errors import ModelError

TFIDF_FEATURES = 2**16
TFIDF_DIMENSIONS = 64


def embed(texts: Sequence[str], embedder: str, max_tokens: int, lower_case: bool | None, seed: int) -> np.ndarray:
    """Vectors, fp32 [R, D]: of unit length for `tfidf`, a model's as they are.

    Args:
        embedder: `tfidf`, or a model by name or path; a plain BERT is mean-pooled.
        max_tokens: a text is cut here (words for `tfidf`).
        lower_case: before embedding; None leaves it to the embedder.

    Raises:
        ModelError: the model cannot be loaded.
    """
    if lower_case:
        texts = [text.lower() for text in texts]
    vectors = _tfidf(texts, max_tokens, seed) if embedder == "tfidf" else _encode(texts, embedder, max_tokens)
    return vectors.astype(np.float32)


def _tfidf(texts: Sequence[str], max_tokens: int, seed: int) -> np.ndarray:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
    from sklearn.preprocessing import normalize

    cut = (" ".join(text.split()[:max_tokens]) for text in texts)
    counts = HashingVectorizer(n_features=TFIDF_FEATURES, alternate_sign=False, norm=None).transform(cut)
    weighted = TfidfTransformer(sublinear_tf=True).fit_transform(counts)
    dimensions = min(TFIDF_DIMENSIONS, len(texts) - 1, TFIDF_FEATURES - 1)
    reduced = TruncatedSVD(max(1, dimensions), random_state=seed).fit_transform(weighted)
    return normalize(reduced)  # latent semantic analysis compares directions


def _encode(texts: Sequence[str], embedder: str, max_tokens: int) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    try:
        model = SentenceTransformer(embedder)
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(
            f"cannot load corpus.embedder = {embedder} ({reason}): name a local copy, or `tfidf`, which needs none"
        ) from error
    model.max_seq_length = max_tokens
    return model.encode(list(texts), batch_size=64, show_progress_bar=False, convert_to_numpy=True)
