"""What embedding, clustering and diverse selection cost, and whether they are worth it.

Each part runs in a fresh process, so that its peak memory is its own; prints what it found and writes
`benchmarks/selection.json`. `kmeans` and `profile` need the drawn rows of `benchmarks/corpus.py --scale 1 --only write
ingest draw`; `meaning` and `study` need the real rows in ../shared.

    python benchmarks/selection.py [--folder /tmp/topeng-cendol] [--only kmeans profile encoder meaning study]
"""

import argparse
import json
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from machine import in_a_process, machine
from rich.console import Console

from topeng.corpus import stages
from topeng.corpus.cluster import STARTS, cluster, quotas
from topeng.corpus.diverse import coverage, take
from topeng.corpus.sample import rank_keys
from topeng.corpus.schema import DRAWN, EMBEDDED
from topeng.corpus.select import select_corpus
from topeng.corpus.settings import CorpusOptions, Embedding, Seeded, ingesting

SEED, CLUSTERS = 42, 10
SHARED = Path(__file__).resolve().parents[2] / "shared"
SUBSETS = ["identity_prompt", "safety_prompt", "smsa", "facqa", "berita", "nusax_mt_eng_ind"]
SUBSETS += [f"nusa_kalimat_{code}_ind" for code in ["bew", "btk", "jav", "mad", "mak", "min", "sun"]]
STUDY = {"rows": 1_000, "seeds": [1, 2, 3], "steps": 250, "batch_rows": 8, "learning_rate": 2e-3, "max_length": 96}
DRAWS = 4
"""Of the likelihood bound, a test row: the same masks for every arm."""
QUIET = Console(quiet=True)
Facts = dict[str, Any]


def kmeans(folder: Path) -> Facts:
    """Rows × 768, K = 10: ours, and scikit-learn's Lloyd on all rows from as many starts, in turn."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score

    vectors = _wide(np.load(folder / EMBEDDED / "vectors.npy"))
    order = np.random.default_rng(1).permutation(len(vectors))

    def lloyd() -> tuple[np.ndarray, np.ndarray]:
        fitted = KMeans(CLUSTERS, n_init=STARTS, random_state=SEED).fit(vectors)
        return fitted.labels_, fitted.cluster_centers_

    found, seconds = _in_turn({"topeng": lambda: cluster(vectors, CLUSTERS, SEED), "scikit-learn": lloyd}, rounds=3)
    inertia = {name: _inertia(vectors, *result) for name, result in found.items()}
    permuted, _ = cluster(vectors[order], CLUSTERS, SEED)
    return {
        "shape": list(vectors.shape),
        "seconds": seconds,
        "inertia over scikit-learn's": inertia["topeng"] / inertia["scikit-learn"],
        "adjusted Rand index against scikit-learn's": adjusted_rand_score(found["topeng"][0], found["scikit-learn"][0]),
        "the same partition of permuted rows": bool((permuted == found["topeng"][0][order]).all()),
    }


def profile(folder: Path) -> Facts:
    """From the drawn rows to the interactive page, with the offline embedder."""
    from topeng.report.map import write_map

    options = CorpusOptions(files=["drawn before"])
    seconds, started = {}, time.perf_counter()
    steps: dict[str, Callable[[], Any]] = {
        "embed": lambda: stages.embed_corpus(Embedding(options, SEED), folder, folder, QUIET),
        "select": lambda: select_corpus(Seeded(options, SEED), folder, folder, QUIET),
        "map": lambda: write_map(folder / "corpus", folder / "corpus" / "map.html", "Topeng"),
    }
    for name, step in steps.items():
        step()
        seconds[name] = round(time.perf_counter() - started, 1)
        started = time.perf_counter()
    rows = pq.read_metadata(folder / DRAWN / "pool.parquet").num_rows
    return {"rows": rows, "seconds": seconds, "page_megabytes": (folder / "corpus" / "map.html").stat().st_size / 1e6}


def encoder(folder: Path) -> Facts:
    """A BERT of IndoBERT's shape, weights at random, on real rows: fp32, bf16, int8; clusters against those of fp32."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sklearn.metrics import adjusted_rand_score
    from torch.ao.quantization import quantize_dynamic

    path, table = folder / "bert", _pool()
    if not path.exists():
        _new_bert(path, table)
    texts = [f"{row['input']}\n{row['output']}".lower() for row in table.slice(0, 2_000).to_pylist()]
    kinds = {"real rows": texts[:320], "rows of 512 tokens": [" ".join(texts[n : n + 60]) for n in range(0, 960, 60)]}
    models = {}
    for dtype in ("fp32", "bf16", "int8"):
        torch_dtype = torch.bfloat16 if dtype == "bf16" else torch.float32
        models[dtype] = SentenceTransformer(str(path), model_kwargs={"dtype": torch_dtype})
        models[dtype].max_seq_length = 512
    models["int8"] = quantize_dynamic(models["int8"], {torch.nn.Linear}, torch.qint8)
    facts: Facts = {}
    for kind, rows in kinds.items():
        variants = {
            dtype: lambda model=model, rows=rows: model.encode(rows, batch_size=32) for dtype, model in models.items()
        }
        found, seconds = _in_turn(variants, rounds=3)
        lengths = [len(ids) for ids in models["fp32"].tokenizer(rows, truncation=True, max_length=512)["input_ids"]]
        facts[kind] = {
            "rows": len(rows),
            "tokens a row": float(np.mean(lengths)),
            "rows a second": {dtype: len(rows) / value for dtype, value in seconds.items()},
            "hours for 196,279": {dtype: 196_279 / len(rows) * value / 3600 for dtype, value in seconds.items()},
        }
        if kind == "real rows":
            labels = {dtype: cluster(vectors.astype(np.float32), CLUSTERS, SEED)[0] for dtype, vectors in found.items()}
            facts["adjusted Rand index against fp32"] = {
                d: adjusted_rand_score(labels["fp32"], labels[d]) for d in labels
            }
    return facts


def meaning(folder: Path) -> Facts:
    """Clusters against subsets of real rows, and what k-center covers against chance."""
    from sklearn.metrics import normalized_mutual_info_score

    run = _real_run(folder)
    pool, vectors = pq.read_table(run / DRAWN / "pool.parquet"), np.load(run / EMBEDDED / "vectors.npy")
    labels, _ = cluster(vectors, CLUSTERS, SEED)
    covering = {}
    for selection in ("random", "k-center"):
        rows = _rows(pool, vectors, labels, selection, 1_000, SEED)
        covering[selection] = coverage(vectors, rows)
    shuffled = np.random.default_rng(0).permutation(labels)
    return {
        "rows": pool.num_rows,
        "normalised mutual information of cluster and subset": normalized_mutual_info_score(
            pool["subset_name"].to_pylist(), labels
        ),
        "of cluster and template": normalized_mutual_info_score(pool["template_name"].to_pylist(), labels),
        "of shuffled clusters and template": normalized_mutual_info_score(pool["template_name"].to_pylist(), shuffled),
        "distance of a row to the nearest of 1,000 selected": covering,
    }


def study(folder: Path) -> Facts:
    """Held-out loss of `kecil-en` adapted on as many rows: drawn at random, clustered, clustered and diverse."""
    run = _real_run(folder)
    test = pq.read_table(run / "corpus" / "test.parquet")
    pool, vectors = pq.read_table(run / DRAWN / "pool.parquet"), np.load(run / EMBEDDED / "vectors.npy")
    labels, _ = cluster(vectors, CLUSTERS, SEED)
    everything = np.zeros(pool.num_rows, int)
    arms = {
        "random": (everything, "random"),
        "clustered": (labels, "random"),
        "clustered-diverse": (labels, "k-center"),
    }
    losses: dict[str, list[np.ndarray]] = {name: [] for name in arms}
    for seed in STUDY["seeds"]:
        for name, (groups, selection) in arms.items():
            kept = folder / "study" / f"{name}-{seed}.npy"
            if not kept.exists():
                rows = _rows(pool, vectors, groups, selection, STUDY["rows"], seed)
                kept.parent.mkdir(exist_ok=True)
                np.save(kept, _adapted_loss(run, pool.take(pa.array(rows)), test, folder / "study" / "run", seed))
            losses[name].append(np.load(kept))
            print(f"{name}, seed {seed}: {losses[name][-1].mean():.4f}", file=sys.stderr, flush=True)
    subsets = np.array(test["subset_name"].to_pylist())
    means = {
        "all rows": np.ones(len(subsets)) / len(subsets),
        "subsets alike": np.array([1 / (subsets == s).sum() for s in subsets]) / len(set(subsets.tolist())),
    }
    return {"test rows": test.num_rows, "draws": DRAWS, **STUDY} | {
        f"nats a token, {name}": _compared({arm: np.stack(values) for arm, values in losses.items()}, weights)
        for name, weights in means.items()
    }


def _compared(losses: dict[str, np.ndarray], weights: np.ndarray) -> Facts:
    """Means by arm and seed; differences to `random` with a 95 % interval, bootstrapped over seeds and rows."""
    random = np.random.default_rng(0)
    found: Facts = {
        arm: {"mean": float((x @ weights).mean()), "seeds": (x @ weights).tolist()} for arm, x in losses.items()
    }
    for arm, values in losses.items():
        if arm == "random":
            continue
        difference = values - losses["random"]  # [seeds, rows]
        draws = []
        for _ in range(4_000):
            seeds = random.integers(len(difference), size=len(difference))
            rows = random.integers(difference.shape[1], size=difference.shape[1])
            draws.append(np.average(difference[seeds].mean(axis=0)[rows], weights=weights[rows]))
        low, high = np.quantile(draws, [0.025, 0.975])
        mean = float((difference @ weights).mean())
        found[arm] |= {"less random": mean, "interval": [float(low), float(high)], "significant": bool(low * high > 0)}
    return found


def _adapted_loss(run: Path, train: pa.Table, test: pa.Table, folder: Path, seed: int) -> np.ndarray:
    """Of each test row, nats a token after adaptation on `train`."""
    from topeng import load
    from topeng.adapt.train import train_adapter
    from topeng.diffusion import response_nll
    from topeng.recipe import parse, slices
    from topeng.text.tokens import tokenize_rows

    shutil.rmtree(folder, ignore_errors=True)
    (folder / "corpus").mkdir(parents=True)
    pq.write_table(train, folder / "corpus" / "train.parquet")
    shutil.copy(run / "corpus" / "validation.parquet", folder / "corpus")
    settings = {name: STUDY[name] for name in ("steps", "batch_rows", "learning_rate")} | {"eval_steps": STUDY["steps"]}
    recipe = parse(
        {
            "seed": seed,
            "base": {"model": str(SHARED / "models" / "kecil-en")},
            "adapter": {"rank": 32, "alpha": 64},
            "text": {"max_length": STUDY["max_length"], "eos": "one"},
            "train": settings,
        }
    )
    train_adapter(slices.adapting(recipe, "lora"), "lora", folder, folder, QUIET)
    model, tokenizer = load(recipe.base.model, folder / "adapters" / "lora")
    examples, dropped = tokenize_rows(tokenizer, test.to_pylist(), STUDY["max_length"])
    assert not dropped, dropped
    nll = response_nll(model, examples, DRAWS, 0)[:, 0]
    return nll / np.array([example.response_length for example in examples])


def _rows(pool: pa.Table, vectors: np.ndarray, labels: np.ndarray, selection: str, count: int, seed: int) -> np.ndarray:
    asked, shares = quotas(labels, labels.max() + 1, count)
    return take(vectors, labels, rank_keys(pool["row_id"].to_numpy(), seed), asked, shares, selection)[0]


def _real_run(folder: Path) -> Path:
    """The corpus stages on real rows, done once."""
    run = folder / "real-rows"
    if not (run / "corpus" / "train.parquet").exists():
        options = CorpusOptions(
            files=[str(SHARED / "data" / "indonesian.parquet")], subsets=SUBSETS, sample_fraction=0.5
        )
        run.mkdir(parents=True, exist_ok=True)
        stages.ingest_corpus(ingesting(options, SEED), run, QUIET)
        for stage in (stages.draw_corpus, stages.embed_corpus, select_corpus):
            stage(Embedding(replace(options, umap_rows=50), SEED), run, run, QUIET)
    return run


def _pool() -> pa.Table:
    """Real rows in an order drawn at random."""
    table = pq.read_table(SHARED / "data" / "indonesian.parquet")
    return table.take(pa.array(np.random.default_rng(SEED).permutation(table.num_rows)))


def _new_bert(path: Path, table: pa.Table) -> None:
    """IndoBERT-base's shape: 12 layers, width 768, 124 M parameters, a vocabulary of 30,522 (here of real words)."""
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    tokenizer = BertWordPieceTokenizer(lowercase=True)
    tokenizer.train_from_iterator(table["output"].to_pylist(), vocab_size=30_522, show_progress=False)
    path.mkdir(parents=True)
    tokenizer.save_model(str(path))
    BertTokenizerFast(vocab=str(path / "vocab.txt")).save_pretrained(path)
    torch.manual_seed(SEED)
    BertModel(BertConfig(vocab_size=30_522)).save_pretrained(path)


def _wide(vectors: np.ndarray) -> np.ndarray:
    """Real clusters at a BERT's width: through a random layer, with noise."""
    random = np.random.default_rng(0)
    layer = random.normal(0, 2, (vectors.shape[1], 768)).astype(np.float32)
    wide = np.tanh(vectors @ layer)
    for start in range(0, len(wide), 10_000):
        wide[start : start + 10_000] += random.normal(0, 0.2, wide[start : start + 10_000].shape).astype(np.float32)
    return wide


def _inertia(vectors: np.ndarray, labels: np.ndarray, centres: np.ndarray) -> float:
    return float(sum(((vectors[labels == k] - centre) ** 2).sum(dtype=np.float64) for k, centre in enumerate(centres)))


def _in_turn(variants: dict[str, Callable[[], Any]], rounds: int) -> tuple[dict[str, Any], dict[str, float]]:
    """What each variant gives, and its median seconds."""
    found: dict[str, Any] = {}
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, variant in variants.items():
            started = time.perf_counter()
            found[name] = variant()
            seconds[name].append(time.perf_counter() - started)
    return found, {name: round(statistics.median(values), 2) for name, values in seconds.items()}


PARTS = {function.__name__: function for function in (kmeans, profile, encoder, meaning, study)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("/tmp/topeng-cendol"))
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.part:
        started = time.perf_counter()
        facts = PARTS[options.part](options.folder)
        total = round(time.perf_counter() - started, 1)
        peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
        print(json.dumps({"gigabytes": peak, "total_seconds": total} | facts))
        return
    path = Path(__file__).parent / "selection.json"
    report = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name in options.only:
        report[name] = machine() | in_a_process(__file__, name, "--folder", str(options.folder))
        print(name, json.dumps(report[name], indent=1, ensure_ascii=False), flush=True)
        path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
