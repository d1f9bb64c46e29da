"""What is measured of answers: how like a reference they are, and what breaks (docs/evaluation-answers.md).

A line is one of `answers.jsonl`; rows may have several, from several seeds. Shapes: R rows.
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
    """Words of any script: rouge-score's own tokenizer keeps ASCII only."""

    def tokenize(self, text: str) -> list[str]:
        return WORD.findall(text.lower())


def score_answers(
    lines: Sequence[Line], languages: Sequence[str], bertscore_model: str | None = None, device: str | None = None
) -> dict[str, Any]:
    """What `scores.json` says of one model's answers in one language.

    Args:
        lines: one at least.
        languages: that are asked for (ISO 639-1); none: the language of most references.
        bertscore_model: folder or model id of an encoder; None: `bertscore` is None.
        device: that it runs on; a GPU if there is one, without it.

    Returns:
        `rows`; `chrf`, `bleu` (0 to 100) of the corpus, `rouge_l`, `bertscore` (means); the first and the third with
        `_low` and `_high`, a 95 % interval; and what `share_right` and `breakage` say.

    Raises:
        CorpusError: one of `languages` cannot be identified.
        ModelError: `bertscore_model` cannot be loaded.
    """
    answers, references = [line["answer"] for line in lines], [line["reference"] for line in lines]
    row = np.unique([line["row_id"] for line in lines], return_inverse=True)[1]
    metric, rouge = _chrf(), rouge_l(answers, references)
    # what sums over a corpus to its score: n-grams of answer, of reference and in both; a sum and a count
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
        metric.corpus_score(["-"], [["-"]])  # a signature counts references, so it wants to have seen some
        found[name] = str(metric.get_signature())
    return found


def _chrf() -> Any:
    """chrF++ (Popović, WMT 2017)."""
    from sacrebleu.metrics import CHRF

    return CHRF(word_order=2)


def _bleu() -> Any:
    """BLEU (Papineni et al., ACL 2002) as sacrebleu has it (Post, WMT 2018)."""
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
    """A score of summed statistics, and the percentiles of 1,000 corpora of R rows drawn with replacement.

    A row is drawn with all its answers: several seeds' answers to one row are not independent.

    Args:
        statistics: of each answer.
        row: of each answer, 0 to R - 1.
    """
    count = int(row.max()) + 1
    of_row = np.zeros((count, statistics.shape[1]))
    np.add.at(of_row, row, statistics)
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    low, high = np.percentile([score(sums) for sums in drawn @ of_row], [2.5, 97.5])
    return {name: float(score(of_row.sum(axis=0))), f"{name}_low": float(low), f"{name}_high": float(high)}
