"""The demonstration shows what it is about, and nobody's warnings."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import checkpoint


@pytest.mark.slow
def test_the_demonstration_begins_without_a_word_of_others(tmp_path):
    root = Path(checkpoint.__file__).parents[1]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{root}{os.pathsep}{root / 'examples'}",
        "XDG_CACHE_HOME": str(tmp_path),  # where ArviZ notes that it warned today
    }
    environment.pop("PYTHONWARNINGS", None)
    done = subprocess.run(
        [sys.executable, "-c", "import demo"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("", "")
