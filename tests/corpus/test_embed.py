import multiprocessing
import shutil
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console

from topeng.corpus import embed as embedding
from topeng.corpus import stages
from topeng.corpus.schema import DRAWN, EMBEDDED
from topeng.corpus.settings import CorpusOptions
from topeng.errors import ModelError
from topeng.options import results
from topeng.recipe import parse, slices

TEXTS = ["Kucing itu tidur di kursi.", "Kucing itu tidur di kursi kayu.", "What is the capital of Indonesia?"] * 4


@pytest.fixture
def embed(tmp_path):
    def vectors(texts, embedder="tfidf", tokens=512, lower_case=None, shard=5, **more):
        options = CorpusOptions(embedder=embedder, embedding_tokens=tokens, lower_case=lower_case, **more)
        shards = [texts[start : start + shard] for start in range(0, len(texts), shard)]
        return embedding.embed(shards, options, 0, tmp_path / "shards")

    return vectors


def check(vectors):
    assert vectors.dtype == np.float32 and len(vectors) == len(TEXTS)
    np.testing.assert_allclose(vectors[0], vectors[3], atol=1e-5)


def test_tfidf_needs_nothing_and_knows_likeness(embed):
    vectors = embed(TEXTS)
    check(vectors)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    np.testing.assert_array_equal(vectors, embed(TEXTS, shard=7))


@pytest.fixture
def bert(tmp_path_factory):
    """A BERT of random weights in IndoBERT's layout: its tokenizer config says nothing."""
    from transformers import BertConfig, BertModel, BertTokenizer

    tmp_path = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "kucing", "itu", "tidur", "di", "kursi", "kayu", ".", "what"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=100, **shape)).save_pretrained(tmp_path)
    BertTokenizer(vocab=str(tmp_path / "vocab.txt"), do_lower_case=False).save_pretrained(tmp_path)
    return tmp_path


def test_a_plain_bert_is_mean_pooled(bert, embed):
    from transformers import AutoModel, AutoTokenizer

    vectors = embed(TEXTS, str(bert), 512, True)
    check(vectors)
    tokens = AutoTokenizer.from_pretrained(bert)(TEXTS[0].lower(), return_tensors="pt")
    with torch.no_grad():
        mean = AutoModel.from_pretrained(bert)(**tokens).last_hidden_state[0].mean(dim=0).numpy()
    np.testing.assert_allclose(vectors[0], mean, atol=1e-5)


def test_lower_case_is_ours_to_set(bert, embed):
    upper = [text.upper() for text in TEXTS]
    np.testing.assert_allclose(embed(upper, str(bert), 512, True), embed(TEXTS, str(bert), 512, True), atol=1e-6)
    assert not np.allclose(embed(upper, str(bert)), embed(TEXTS, str(bert)), atol=1e-3)


def test_rows_are_cut(bert, embed):
    long = [text + " tidur" * 600 for text in TEXTS]
    cut = embed(long, str(bert), 8, True)
    np.testing.assert_allclose(
        cut[0], embed([text + " kayu" * 600 for text in TEXTS], str(bert), 8, True)[0], atol=1e-5
    )


def test_a_model_that_cannot_be_loaded_is_named(tmp_path, embed):
    with pytest.raises(ModelError, match=r"cannot load corpus\.embedder = .*nowhere"):
        embed(TEXTS, str(tmp_path / "nowhere"))


def test_rows_are_embedded_with_input_and_output():
    pool = pa.table({"input": ["a", "b", "c"], "output": ["x", "y", "z"]})
    assert list(embedding.shards(pool, np.array([2, 0, 1]))) == [["c\nz", "a\nx", "b\ny"]]


def test_bfloat16_is_near(bert, embed):
    whole, half = (embed(TEXTS, str(bert), embedding_dtype=dtype) for dtype in ("float32", "bfloat16"))
    assert half.dtype == np.float32 and not np.array_equal(whole, half)
    np.testing.assert_allclose(half, whole, atol=0.05)


def test_the_recipe_s_device_embeds_where_there_is_a_gpu_too(bert, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    recipe = parse({"corpus": {"embedder": str(bert)}, "base": {"device": "cpu"}})
    asked = slices.embedding(recipe)
    pool = {"content_hash": [text.encode() for text in TEXTS], "input": TEXTS, "output": TEXTS}
    (tmp_path / DRAWN).mkdir(parents=True)
    pq.write_table(pa.table(pool), tmp_path / DRAWN / "pool.parquet")
    stages.embed_corpus(asked, tmp_path, tmp_path, Console(quiet=True))
    assert np.load(tmp_path / EMBEDDED / "vectors.npy").shape == (len(TEXTS), 32)
    assert "device" not in results(asked)  # it is no matter of the vectors


def test_shards_that_are_there_are_not_embedded_again(bert, embed, tmp_path):
    first = embed(TEXTS, str(bert))
    shards = list((tmp_path / "shards").glob("*.npy"))
    times = [path.stat().st_mtime_ns for path in shards]
    np.testing.assert_array_equal(embed(TEXTS, str(bert)), first)
    assert [path.stat().st_mtime_ns for path in shards] == times
    embed(TEXTS, str(bert), lower_case=True)  # other settings have other shards
    assert len(list((tmp_path / "shards").glob("*.npy"))) == 2 * len(shards)


def test_other_weights_have_another_digest(bert, tmp_path):
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(bert)
    AutoTokenizer.from_pretrained(bert).save_pretrained(tmp_path)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[5, 0] += 1
    model.save_pretrained(tmp_path)
    settings = (None, 512, "float32")
    assert embedding.encoder_digest(str(bert), *settings) != embedding.encoder_digest(str(tmp_path), *settings)


def test_a_kill_loses_a_shard_at_most(bert, tmp_path, embed):
    texts = [f"kucing {row} tidur di kursi kayu" for row in range(1500)]

    def killed():
        torch.set_num_threads(1)  # OpenMP's threads are not there after a fork
        embed(texts, str(bert), shard=50)

    embed(texts[:1], str(bert))  # imports, for both
    shutil.rmtree(tmp_path / "shards")
    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    while len(list((tmp_path / "shards").glob("*.npy"))) < 3:
        assert process.is_alive()
        time.sleep(0.001)
    process.kill()
    process.join()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "shards").glob("*.npy")}
    assert 3 <= len(kept) < 30
    after_a_kill = embed(texts, str(bert), shard=50)
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    shutil.rmtree(tmp_path / "shards")
    np.testing.assert_array_equal(after_a_kill, embed(texts, str(bert), shard=50))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer has 5 tokens"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"half"), "cannot load corpus.embedder"),
    ],
)
def test_half_a_model_is_an_error(bert, embed, tmp_path, spoil, message):
    shutil.copytree(bert, tmp_path / "half")
    (tmp_path / "half" / "vocab.txt").unlink()
    spoil(tmp_path / "half")
    with pytest.raises(ModelError, match=message):
        embed(TEXTS, str(tmp_path / "half"))
