"""How like a reference an answer is."""

import re
from collections.abc import Sequence

WORD = re.compile(r"\w+")


class _Words:
    """Words of any script: rouge-score's own tokenizer keeps ASCII only."""

    def tokenize(self, text: str) -> list[str]:
        return WORD.findall(text.lower())


def chrf(answers: Sequence[str], references: Sequence[str]) -> float:
    """chrF++ of the corpus, 0 to 100 (Popović, WMT 2017), by sacrebleu."""
    from sacrebleu.metrics import CHRF

    return CHRF(word_order=2).corpus_score(list(answers), [list(references)]).score


def rouge_l(answers: Sequence[str], references: Sequence[str]) -> float:
    """Mean F-measure of ROUGE-L, 0 to 1 (Lin, 2004), by rouge-score."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], tokenizer=_Words())
    scores = [scorer.score(reference, answer) for answer, reference in zip(answers, references, strict=True)]
    return sum(score["rougeL"].fmeasure for score in scores) / len(scores)
