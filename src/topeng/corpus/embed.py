"""Turns rows into vectors, by hashed TF-IDF and SVD (offline) or by any BERT or sentence-transformers model.

Rows are embedded in shards of 2,000. Shards of a model are stored under a digest of everything they depend on (its
weights, the settings, the texts), so that a kill loses one shard at most. TF-IDF takes seconds, and is not stored.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import sparse
from threadpoolctl import threadpool_limits
from xxhash import xxh3_128

from topeng.corpus.engine import NATIVE, Engine, whole_file
from topeng.corpus.settings import EmbedOptions
from topeng.errors import ModelError

SHARD_ROWS = 2_000
BATCH_ROWS = 32
TFIDF_FEATURES = 2**16
TFIDF_DIMENSIONS = 64

Texts = list[str]
EncoderSettings = tuple[str, str | None, int, str, str | None]
"""Arguments of `load_encoder`: the embedder and its revision, tokens, precision and device."""


def shards(pool: pa.Table, order: np.ndarray) -> Iterator[Texts]:
    """Yields the texts to embed, `input` and `output` of each row, 2,000 rows at a time, in this order."""
    for start in range(0, len(order), SHARD_ROWS):
        rows = pool.take(pa.array(order[start : start + SHARD_ROWS]))
        pairs = zip(rows["input"].to_pylist(), rows["output"].to_pylist(), strict=True)
        yield [f"{prompt}\n{answer}" for prompt, answer in pairs]


def embed(
    texts: Iterable[Texts],
    options: EmbedOptions,
    seed: int,
    folder: Path,
    engine: Engine = NATIVE,
    progress: Callable[[int], None] = lambda shards: None,
    device: str | None = None,
) -> np.ndarray:
    """Vectors, fp32 [R, D]. Those of `tfidf` have unit length; those of a model are not normalised.

    Args:
        texts: shards of texts.
        folder: where the shards of a model are stored until all are finished.
        engine: runs the work.
        progress: called with the number of finished shards.
        device: device of the model, by default a GPU if there is one.

    Raises:
        ModelError: the model cannot be loaded, or its vectors are not finite.
    """
    parts = []
    for part in engine.map(_work(options, folder, device), texts):
        parts.append(part)
        progress(len(parts))
    if options.embedder == "tfidf":
        return _latent(sparse.vstack(parts), seed)
    vectors = np.concatenate([np.load(path) for path in parts])
    if not np.isfinite(vectors).all():
        raise ModelError(
            f"corpus.embedder = {options.embedder} gives vectors that are not finite (corpus.embedding_dtype = "
            f"{options.embedding_dtype}). Use float32, or another embedder."
        )
    return vectors


def _work(options: EmbedOptions, folder: Path, device: str | None) -> Callable[[Texts], Any]:
    """The function that embeds a shard. It can be sent to another process."""
    if options.embedder == "tfidf":
        return partial(_counts, max_words=options.embedding_tokens, lower_case=options.lower_case is not False)
    settings, lower_case = encoder_settings(options, device), bool(options.lower_case)
    key = f"{encoder_digest(*settings)} {options.embedding_tokens} {options.embedding_dtype} {lower_case}"
    folder.mkdir(parents=True, exist_ok=True)
    return partial(_encode_shard, settings=settings, lower_case=lower_case, key=key, folder=folder.resolve())


def encoder_settings(options: EmbedOptions, device: str | None = None) -> EncoderSettings:
    """The arguments of `load_encoder`. A local path is absolute, for tasks with another working directory."""
    name = options.embedder
    path = str(Path(name).resolve()) if Path(name).exists() else name
    return path, options.embedder_revision, options.embedding_tokens, options.embedding_dtype, device


@cache
def load_encoder(embedder: str, revision: str | None, max_tokens: int, dtype: str, device: str | None = None) -> Any:
    """Loads a `SentenceTransformer` for inference. A plain BERT gets mean pooling.

    Raises:
        ModelError: it cannot be loaded, or its tokenizer is missing.
    """
    import torch
    from sentence_transformers import SentenceTransformer

    try:
        model = SentenceTransformer(
            embedder,
            revision=revision,
            device=device,
            model_kwargs={"dtype": getattr(torch, dtype)},
            trust_remote_code=False,
        )
    except Exception as error:  # a bad folder may fail anywhere in three libraries
        reason = (str(error).strip() or type(error).__name__).split("\n")[0]
        raise ModelError(
            f"cannot load corpus.embedder = {embedder} ({reason}). Name a local copy, or use `tfidf`, which needs none."
        ) from error
    _check_tokenizer(model, embedder)
    model.max_seq_length = min(max_tokens, model.max_seq_length or max_tokens)
    return model.eval()


def _check_tokenizer(model: Any, embedder: str) -> None:
    """Without tokenizer files, transformers makes an empty tokenizer, for which all texts are the same."""
    if model.transformers_model is None:
        return
    rows = model.transformers_model.get_input_embeddings().num_embeddings
    if 10 * len(model.tokenizer) < rows:  # IndoBERT's tokenizer has three fifths as many tokens
        raise ModelError(
            f"corpus.embedder = {embedder} has {rows:,} embeddings, but its tokenizer has "
            f"{len(model.tokenizer):,} tokens. Put the missing files of the tokenizer next to the weights."
        )


def encoder_digest(embedder: str, revision: str | None, max_tokens: int, dtype: str, device: str | None = None) -> str:
    """xxh3-128 of a model's weights, modules (such as pooling) and tokenizer, except for what `encode` sets."""
    model, digest = load_encoder(embedder, revision, max_tokens, dtype, device), xxh3_128()
    digest.update(repr(model).encode())
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.cpu().float().contiguous().numpy().data)
    tokenizer = json.loads(model.tokenizer.backend_tokenizer.to_str()) | {"truncation": None, "padding": None}
    digest.update(json.dumps(tokenizer).encode())
    return digest.hexdigest()


def _encode_shard(texts: Texts, settings: EncoderSettings, lower_case: bool, key: str, folder: Path) -> Path:
    """Writes the vectors of one shard, unless they exist. `encode` batches rows of similar length."""
    content = json.dumps([key, texts], ensure_ascii=False)
    path = folder / f"{xxh3_128(content.encode()).hexdigest()}.npy"
    if not path.exists():
        texts = [text.lower() for text in texts] if lower_case else texts
        vectors = load_encoder(*settings).encode(
            texts, batch_size=BATCH_ROWS, show_progress_bar=False, convert_to_numpy=True
        )
        with whole_file(path) as partial_path, partial_path.open("wb") as file:
            np.save(file, vectors.astype(np.float32))
    return path


def _counts(texts: Texts, max_words: int, lower_case: bool) -> sparse.csr_matrix:
    from sklearn.feature_extraction.text import HashingVectorizer

    cut = (" ".join(text.split(maxsplit=max_words)[:max_words]) for text in texts)
    vectorizer = HashingVectorizer(
        n_features=TFIDF_FEATURES, alternate_sign=False, norm=None, lowercase=lower_case, dtype=np.float32
    )
    return vectorizer.transform(cut)


def _latent(counts: sparse.csr_matrix, seed: int) -> np.ndarray:
    """Latent semantic analysis, which compares directions. One thread, so that sums do not depend on their number."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.preprocessing import normalize

    weighted = TfidfTransformer(sublinear_tf=True).fit(counts).transform(counts, copy=False)
    dimensions = max(1, min(TFIDF_DIMENSIONS, counts.shape[0] - 1))
    with threadpool_limits(1):
        return normalize(TruncatedSVD(dimensions, random_state=seed).fit_transform(weighted)).astype(np.float32)
