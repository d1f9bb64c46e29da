import numpy as np
import pytest
import torch

from topeng.corpus.embed import embed
from topeng.errors import ModelError

TEXTS = ["Kucing itu tidur di kursi.", "Kucing itu tidur di kursi kayu.", "What is the capital of Indonesia?"] * 4


def check(vectors):
    assert vectors.dtype == np.float32 and len(vectors) == len(TEXTS)
    np.testing.assert_allclose(vectors[0], vectors[3], atol=1e-5)


def test_tfidf_needs_nothing_and_knows_likeness():
    vectors = embed(TEXTS, "tfidf", 512, None, seed=0)
    check(vectors)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    np.testing.assert_array_equal(vectors, embed(TEXTS, "tfidf", 512, None, seed=0))


@pytest.fixture
def bert(tmp_path):
    """A BERT of random weights in IndoBERT's layout: its tokenizer config says nothing."""
    from transformers import BertConfig, BertModel, BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "kucing", "itu", "tidur", "di", "kursi", "kayu", ".", "what"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(words), **shape)).save_pretrained(tmp_path)
    BertTokenizer(vocab=str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    return tmp_path


def test_a_plain_bert_is_mean_pooled(bert):
    from transformers import AutoModel, AutoTokenizer

    vectors = embed(TEXTS, str(bert), 512, True, seed=0)
    check(vectors)
    tokens = AutoTokenizer.from_pretrained(bert)(TEXTS[0].lower(), return_tensors="pt")
    with torch.no_grad():
        mean = AutoModel.from_pretrained(bert)(**tokens).last_hidden_state[0].mean(dim=0).numpy()
    np.testing.assert_allclose(vectors[0], mean, atol=1e-5)


def test_lower_case_is_ours_to_set(bert):
    upper = [text.upper() for text in TEXTS]
    np.testing.assert_allclose(embed(upper, str(bert), 512, True, 0), embed(TEXTS, str(bert), 512, True, 0), atol=1e-6)


def test_rows_are_cut(bert):
    long = [text + " tidur" * 600 for text in TEXTS]
    cut = embed(long, str(bert), 8, True, 0)
    np.testing.assert_allclose(
        cut[0], embed([text + " kayu" * 600 for text in TEXTS], str(bert), 8, True, 0)[0], atol=1e-5
    )


def test_a_model_that_cannot_be_loaded_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"cannot load corpus\.embedder = .*nowhere"):
        embed(TEXTS, str(tmp_path / "nowhere"), 512, None, 0)
