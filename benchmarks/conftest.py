"""Pairs: what is measured and what it is measured against run in turn, and their ratio is kept."""

import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROWS: list[tuple[str, str, str]] = []


@pytest.fixture
def report() -> Callable[[str, str, str], None]:
    """Return a function that adds a line to the table at the end: what, measured, budget."""
    return lambda what, measured, budget: ROWS.append((what, measured, budget))


@pytest.fixture
def paired(benchmark: Any, report: Any) -> Callable[..., float]:
    """Return a function that times `run` against `reference`, round by round."""

    def measure(what: str, run: Any, reference: Any, budget: str, rounds: int = 7) -> float:
        seconds: list[float] = []

        def before() -> None:
            began = time.perf_counter()
            reference()
            seconds.append(time.perf_counter() - began)

        run()  # compiled, and imported, before anything is timed
        reference()
        benchmark.pedantic(run, setup=before, rounds=rounds, iterations=1)
        ratios = [a / b for a, b in zip(benchmark.stats.stats.data, seconds, strict=True)]
        ratio = statistics.median(ratios)
        benchmark.extra_info["ratio"] = ratio
        spread = f"{min(ratios):.2f} .. {max(ratios):.2f}"
        report(what, f"{ratio:.2f}  ({spread}, {rounds} pairs)", budget)
        return ratio

    return measure


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[[], Path]:
    """Return a function that returns a path where nothing is."""

    def path() -> Path:
        shutil.rmtree(tmp_path / "fit.zarr", ignore_errors=True)
        return tmp_path / "fit.zarr"

    return path


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not ROWS:
        return
    terminalreporter.section("figures")
    width = max(len(what) for what, _, _ in ROWS)
    for what, measured, budget in ROWS:
        terminalreporter.write_line(f"{what:{width}}  {measured:42}  budget {budget}")
