"""Embedding at IndoBERT's shape (base, 512 tokens): rows per second, and minutes for the experiment's 196,279 rows."""

import time
from pathlib import Path

import numpy as np
import torch
from bench import Bench
from ledger import Record
from rows import text
from transformers import BertConfig, BertModel, BertTokenizer

from topeng.corpus import embed as embedding
from topeng.corpus.settings import CorpusOptions

DRAWN = 196_279
TOKENS = 512


def embed(bench: Bench) -> None:
    random = np.random.default_rng(0)
    tokens = 32 if bench.small else TOKENS
    texts = [text(random, tokens) for _ in range(40 if bench.small else 2 * embedding.SHARD_ROWS)]
    folder = encoder(bench, sorted({word.strip(".").lower() for row in texts[:200] for word in row.split()}))
    for dtype in ("bfloat16", "float32"):
        count = len(texts) if dtype == "bfloat16" else len(texts) // 4
        bench.attempt(dtype, lambda d=dtype, n=count: speed(bench, folder, texts[:n], d, tokens), seconds=5)


def encoder(bench: Bench, words: list[str]) -> Path:
    """Random weights, and a tokenizer that cuts a word that it does not know into its letters."""
    folder = bench.scratch / "encoder"
    folder.mkdir(exist_ok=True)
    letters = [prefix + letter for letter in "abcdefghijklmnopqrstuvwxyz" for prefix in ("", "##")]
    vocabulary = dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *letters, *words])
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    BertTokenizer(vocab=str(folder / "vocab.txt"), do_lower_case=True).save_pretrained(folder)
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    shape = {**(small if bench.small else {}), "max_position_embeddings": TOKENS}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=max(len(vocabulary), 300 if bench.small else 0), **shape)).save_pretrained(folder)
    return folder


def speed(bench: Bench, folder: Path, texts: list[str], dtype: str, tokens: int) -> Record:
    """Through `topeng.corpus.embed`, tokenizer and files included, after a first batch."""
    options = CorpusOptions(
        embedder=str(folder), embedding_tokens=tokens, embedding_dtype=dtype, lower_case=True, clusters=1
    )
    model = embedding.load_encoder(*embedding.encoder_settings(options))
    model.encode(texts[: embedding.BATCH_ROWS], batch_size=embedding.BATCH_ROWS, show_progress_bar=False)
    shards = [texts[start : start + embedding.SHARD_ROWS] for start in range(0, len(texts), embedding.SHARD_ROWS)]
    began = time.perf_counter()
    vectors = embedding.embed(shards, options, 0, bench.scratch / f"vectors-{dtype}")
    seconds = time.perf_counter() - began
    assert vectors.shape[0] == len(texts)
    return {
        "rows_per_second": len(texts) / seconds,
        "tokens_of_a_row_at_most": tokens,
        "minutes_for_196279_rows": DRAWN * seconds / len(texts) / 60,
        "device": str(model.device),
    }
