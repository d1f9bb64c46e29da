"""Indonesian benchmarks as tasks of lm-evaluation-harness, with the score of chance next to each score.

The files in `tasks` define the questions and metrics (docs/harness.md), and use the class here. Rows come from local
files if an environment variable names their folder, and otherwise from the Hub.
"""

import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean
from lm_eval.api.task import ConfigurableTask
from lm_eval.utils import apply_template

from topeng.errors import HarnessError

FOLDER = "TOPENG_BENCHMARKS"
"""Environment variable with the folder of local files."""


class IndonesianTask(ConfigurableTask):
    """A task, whose file has these entries in `metadata` besides its version:

    Attributes:
        files: the local file of each split.
        headline: the metric to compare models by.
        blank: the prompt without content. `acc_mutual_info` divides the probability of a label by the one after this
            prompt (Zhao et al., arXiv 2102.09690), where the harness would use no prompt at all.
        copied: template of the text that is to be translated.

    The results name the rows of each task (`metadata.rows`, places in the source from 0) and where they came from
    (`metadata.source`).
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config={name: value for name, value in config.items() if name != "class"})
        if self.OUTPUT_TYPE == "multiple_choice":
            self._aggregation_list |= {"chance": mean, "one_label": _most_common}
        else:
            self._aggregation_list |= {"chance": _chrf}

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Reads the rows in the order of hashes of their prompts, so that `--limit` selects the same ones everywhere.

        Raises:
            HarnessError: a local file is missing, or the Hub cannot be reached.
        """
        metadata, folder = self.config.metadata, os.environ.get(FOLDER)
        if folder:
            found = {split: _read(Path(folder) / name) for split, name in metadata["files"].items()}
            metadata["source"] = {split: _digest(Path(folder) / name) for split, name in metadata["files"].items()}
        else:
            found = self._from_hub(dataset_kwargs)
            metadata["source"] = f"{self.DATASET_PATH}, {self.DATASET_NAME}"
        self.dataset = {split: datasets.Dataset.from_list(self._ordered(rows)) for split, rows in found.items()}

    def _from_hub(self, dataset_kwargs: dict[str, Any] | None) -> dict[str, list[dict[str, Any]]]:
        try:
            super().download(dataset_kwargs)
        except (OSError, ValueError) as error:
            files, told = " and ".join(self.config.metadata["files"].values()), " ".join(str(error).split())
            raise HarnessError(
                f"{self.config.task}: {self.DATASET_PATH} cannot be read from the Hub ({told}). "
                f"To read local files, set {FOLDER} to a folder that contains {files}."
            ) from error
        return {split: list(self.dataset[split]) for split in self.config.metadata["files"]}

    def _ordered(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        def key(row: dict[str, Any]) -> bytes:
            return hashlib.blake2b(apply_template(self.config.doc_to_text, row).encode()).digest()

        return sorted(({"row": place, **_flat(row)} for place, row in enumerate(rows)), key=key)

    def build_all_requests(self, **kwargs: Any) -> None:
        super().build_all_requests(**kwargs)
        asked = self.doc_iterator(limit=kwargs.get("limit"), samples=kwargs.get("samples"))
        self.config.metadata["rows"] = [doc["row"] for _, doc in asked]

    def construct_requests(self, doc: dict[str, Any], ctx: str, **kwargs: Any) -> list[Instance] | Instance:
        requests = super().construct_requests(doc, ctx, **kwargs)
        if "acc_mutual_info" in self._metric_fn_list:
            before, prompt, after = ctx.rpartition(self.doc_to_text(doc))
            if not prompt:
                raise HarnessError(
                    f"{self.config.task}: the chat template changes the prompt. Leave it out, or fix it."
                )
            for request in requests[len(requests) // 2 :]:
                request.arguments = (before + self.config.metadata["blank"] + after, request.arguments[1])
        return requests

    def process_results(self, doc: dict[str, Any], results: list[Any]) -> dict[str, Any]:
        scores = super().process_results(doc, results)
        gold = self.doc_to_target(doc)
        if self.OUTPUT_TYPE == "multiple_choice":
            return scores | {"chance": 1 / len(self.doc_to_choice(doc)), "one_label": gold}
        return scores | {"chance": (gold, apply_template(self.config.metadata["copied"], doc))}


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            if path.suffix == ".csv":
                return list(csv.DictReader(file))
            return [json.loads(line) for line in file]
    except OSError as error:
        raise HarnessError(
            f"{FOLDER}={path.parent}, but {path.name} cannot be read there ({error.strerror}). "
            "Copy it there, or unset the variable to read the Hub's copy."
        ) from error


def _digest(path: Path) -> dict[str, str]:
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Flattens a row of Global-MMLU-Lite, which is nested in SEA-HELM's file but not on the Hub."""
    return row | row["prompts"][0] if "prompts" in row else row


def _most_common(labels: Sequence[int]) -> float:
    """The score of always giving the most frequent label."""
    return max(Counter(labels).values()) / len(labels)


def _chrf(pairs: Sequence[tuple[str, str]]) -> float:
    """chrF++ of a corpus of references and translations (Popović, WMT 2017)."""
    import sacrebleu

    references, translations = zip(*pairs, strict=True)
    return sacrebleu.corpus_chrf(translations, [references], word_order=2).score
