"""What `--help` shows: every verb whole, and the one table of exit codes."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from checkpoint import cli, errors
from checkpoint.cli import main


def text_of_help():
    return CliRunner().invoke(main, ["--help"], terminal_width=80).output


def test_no_summary_is_cut_off():
    assert "..." not in text_of_help().partition("Commands:")[2]
    assert all(len(line) <= 80 for line in text_of_help().splitlines())


def test_every_verb_is_listed_with_its_summary():
    context = click.Context(main)
    names = main.list_commands(context)
    files = {path.stem for path in Path(cli.__file__).parent.glob("*.py")}
    assert set(names) == files - {
        "__init__",
        "folder",
        "models",
        "supervisor",
        "tables",
        "text",
        "verbs",
    }
    for name in names:
        assert f"{name} " in text_of_help()
        assert main.get_command(context, name).short_help in text_of_help()


def test_an_unknown_verb_is_refused():
    done = CliRunner().invoke(main, ["drink"])
    assert done.exit_code == 2
    assert "No such command 'drink'" in done.output


def test_the_exit_codes_are_listed():
    for code, meaning in errors.EXIT_CODES.items():
        assert f"{code}  {meaning}" in text_of_help()


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_ends_with_a_code_of_the_table(name):
    kind = getattr(errors, name)
    if issubclass(kind, errors.CheckpointError):
        assert kind.exit_code in errors.EXIT_CODES


def test_python_m_checkpoint_is_the_command_line():
    command = [sys.executable, "-m", "checkpoint", "--help"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert found.startswith("Usage: python -m checkpoint")
