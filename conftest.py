"""What the examples in docstrings find ready, and options of the suite."""

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add an option that makes a test slower than a suite may be."""
    parser.addoption(
        "--every-byte", action="store_true", help="cut files at every byte, where a sample would do"
    )


@pytest.fixture(autouse=True)
def _folder_of_doctests(doctest_namespace: dict[str, object], tmp_path: Path) -> None:
    doctest_namespace["tmp"] = tmp_path
