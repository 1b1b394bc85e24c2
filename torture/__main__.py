"""`python -m torture`: run the bench and print the table of guarantees."""

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import click

from folders import ROOT
from torture.report import Effort, Row, table

TRIALS = (
    "crash_points",
    "power_loss",
    "kills",
    "preemption",
    "damage",
    "full_disk",
    "state_machine",
    "fuzzing",
    "hostile",
    "moved",
    "long_run",
)

DOCS = ROOT / "docs"
FIGURES = DOCS / "guarantees.json"
PAGE = DOCS / "guarantees.md"
BEGIN, END = "<!-- table -->", "<!-- end of table -->"


@click.command()
@click.argument("trials", nargs=-1, type=click.Choice(TRIALS))
@click.option("--long", "is_long", is_flag=True, help="Take hours, not minutes.")
@click.option("--seed", default=0, show_default=True, help="Of all that is chosen at random.")
@click.option("--record", is_flag=True, help="Keep the figures, and put them into docs/.")
@click.option("--show", is_flag=True, help="Print the figures that were kept; try nothing.")
def main(trials: tuple[str, ...], is_long: bool, seed: int, record: bool, show: bool) -> None:
    """Do to runs what may happen to them, in all TRIALS or those named, and print what survived."""
    chosen = trials or TRIALS
    if show:
        click.echo(_table_of(_kept(), chosen))
        return
    effort = Effort.LONG if is_long else Effort.QUICK
    rows: list[Row] = []
    for name in chosen:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="torture-") as folder:
            of_trial = import_module(f"torture.{name}").trial(effort, seed, Path(folder))
        click.echo(f"{name}: {time.monotonic() - began:.0f} s", err=True)
        for row in of_trial:
            for line in row.broken:
                click.echo(f"  BROKEN: {line}", err=True)
        rows += of_trial
        if record:
            _record(name, of_trial)
    click.echo(table(rows))
    sys.exit(any(row.broken for row in rows))


def _kept() -> dict[str, list[dict]]:
    return json.loads(FIGURES.read_text()) if FIGURES.exists() else {}


def _table_of(kept: dict[str, list[dict]], names: Sequence[str]) -> str:
    return table([Row(**row) for name in names for row in kept.get(name, [])])


def _record(name: str, rows: list[Row]) -> None:
    kept = {**_kept(), name: [asdict(row) for row in rows]}
    FIGURES.write_text(json.dumps(kept, indent=1) + "\n")
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{_table_of(kept, TRIALS)}\n\n{END}{after}")


if __name__ == "__main__":
    main()
