"""The fast tests that touch models, training, caches and decoding, on the device: first of all, is it right?"""

import os
from collections import Counter

import pytest
from bench import Bench
from rows import ROOT

FILES = [
    "tests/models/test_llada.py",
    "tests/generate/test_decode.py",
    "tests/generate/test_cache.py",
    "tests/adapt/test_methods.py",
    "tests/adapt/test_trainer.py",
    "tests/diffusion",
    "tests/adapt/test_callbacks.py",
    "tests/generate/test_answer.py",
]
SMALL = FILES[1:3]


class Outcomes:
    """A plugin of pytest that counts tests by how they ended, and keeps the first line of what failed."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.failures: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.passed:
            return
        self.counts[report.outcome] += 1
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            text = crash.message if crash else str(report.longrepr)
            self.failures[report.nodeid.rpartition("::")[2]] = " ".join(text.split())[:200]


def tests(bench: Bench) -> None:
    """File by file, in one process."""
    os.chdir(ROOT)
    os.environ |= {"TOPENG_TEST_DEVICE": bench.device, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}  # products that repeat
    for file in SMALL if bench.small else FILES:
        outcomes = Outcomes()
        arguments = [file, "-m", "not slow", "-q", "-p", "no:cacheprovider", "--no-header"]
        code = pytest.main([*arguments, "--tb", "short"], plugins=[outcomes])
        figures = {"passed": outcomes.counts["passed"], "failed": outcomes.counts["failed"]}
        figures |= {"skipped": outcomes.counts["skipped"]}
        if code or outcomes.failures:
            figures |= {"error": f"pytest ended with {int(code)}", "failures": outcomes.failures}
        bench.record(file, figures)
