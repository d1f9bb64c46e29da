"""Measures of answers: their similarity to a reference, and typical failures (docs/evaluation-answers.md).

A line is a line of `answers.jsonl`. A row may have several, from several seeds. Shapes: R rows.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from topeng.evaluate.breakage import Line, breakage
from topeng.evaluate.right_answers import share_right

WORD = re.compile(r"\w+")
RESAMPLES = 1000


class _Words:
    """Tokenizer for words in any script, because rouge-score's own only keeps ASCII."""

    def tokenize(self, text: str) -> list[str]:
        return WORD.findall(text.lower())


def score_answers(
    lines: Sequence[Line], languages: Sequence[str], bertscore_model: str | None = None, device: str | None = None
) -> dict[str, Any]:
    """The figures of `scores.json` for the answers of one model in one language.

    Args:
        lines: at least one line.
        languages: expected languages (ISO 639-1). If empty, the language of most references.
        bertscore_model: folder or model id of an encoder, or None to omit `bertscore`.
        device: device of the encoder, by default a GPU if there is one.

    Returns:
        `rows`; `chrf` and `bleu` (0 to 100) of the corpus; `rouge_l` and `bertscore` (means). `chrf` and `rouge_l` have
        a 95 % interval from `_low` to `_high`. Also the results of `share_right` and `breakage`.

    Raises:
        CorpusError: one of `languages` cannot be identified.
        ModelError: `bertscore_model` cannot be loaded.
    """
    answers, references = [line["answer"] for line in lines], [line["reference"] for line in lines]
    row = np.unique([line["row_id"] for line in lines], return_inverse=True)[1]
    metric, rouge = _chrf(), rouge_l(answers, references)
    # statistics that are summed over a corpus: n-grams of the answer, the reference and both; a sum and a count
    ngrams = np.array(metric._extract_corpus_statistics(answers, [references]))
    measures = np.stack([rouge, np.ones(len(rouge))], axis=1)
    scores = {
        "rows": int(row.max()) + 1,
        **_with_interval("chrf", ngrams, row, metric._compute_f_score),
        **_with_interval("rouge_l", measures, row, lambda sums: sums[0] / sums[1]),
        "bleu": _bleu().corpus_score(answers, [references]).score,
        "bertscore": None,
        **share_right(lines),
        **breakage(lines, languages),
    }
    if bertscore_model:
        from topeng.evaluate.bertscore import bertscore

        scores["bertscore"] = float(bertscore(answers, references, bertscore_model, device).mean())
    return scores


def signatures() -> dict[str, str]:
    """How `chrf` and `bleu` are computed, in sacrebleu's words."""
    found = {}
    for name, metric in {"chrf": _chrf(), "bleu": _bleu()}.items():
        metric.corpus_score(["-"], [["-"]])  # a signature contains the number of references, so it needs some
        found[name] = str(metric.get_signature())
    return found


def _chrf() -> Any:
    """chrF++ (Popović, WMT 2017)."""
    from sacrebleu.metrics import CHRF

    return CHRF(word_order=2)


def _bleu() -> Any:
    """BLEU (Papineni et al., ACL 2002) as in sacrebleu (Post, WMT 2018)."""
    from sacrebleu.metrics import BLEU

    return BLEU()


def rouge_l(answers: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """F-measure of ROUGE-L of each answer (Lin, 2004), by rouge-score."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], tokenizer=_Words())
    pairs = zip(references, answers, strict=True)
    return np.array([scorer.score(reference, answer)["rougeL"].fmeasure for reference, answer in pairs])


def _with_interval(
    name: str, statistics: np.ndarray, row: np.ndarray, score: Callable[[np.ndarray], float]
) -> dict[str, float]:
    """A score of summed statistics, and its percentiles over 1,000 corpora of R rows drawn with replacement.

    A row is drawn with all its answers, because answers of several seeds to one row are not independent.

    Args:
        statistics: statistics of each answer.
        row: row of each answer, 0 to R - 1.
    """
    count = int(row.max()) + 1
    of_row = np.zeros((count, statistics.shape[1]))
    np.add.at(of_row, row, statistics)
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    low, high = np.percentile([score(sums) for sums in drawn @ of_row], [2.5, 97.5])
    return {name: float(score(of_row.sum(axis=0))), f"{name}_low": float(low), f"{name}_high": float(high)}
