"""What the examples in docstrings find ready."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _folder_of_doctests(doctest_namespace: dict[str, object], tmp_path: Path) -> None:
    doctest_namespace["tmp"] = tmp_path
