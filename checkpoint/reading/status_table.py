"""The table that shows the status of a run: a few lines, then a line for each chain."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group
from rich.text import Text

from checkpoint.printable import printable
from checkpoint.reading.tables import NOTHING, duration, speed, table
from checkpoint.stores.holder import clock_time

__all__ = ["status_table", "stop_text", "writer_text"]

_HEADINGS = (
    "chain",
    "recorded",
    "asked",
    "phase",
    "draws/s",
    "left",
    "step size",
    "divergences",
    "last commit",
)


def status_table(status: Mapping[str, Any]) -> Group:
    """Return the status of a run, as `Status.as_dict` has it, for a terminal.

    A line for each chain comes last, so that the lines above stay in view.
    """
    rows = [_row(chain) for chain in status["chains"]]
    return Group(*_lines(status), Text(), table(_HEADINGS, rows, left=("phase",)))


def _lines(status: Mapping[str, Any]) -> Iterator[Text]:
    done = status["recorded"] / max(1, status["asked"])
    head = Text(f"{printable(status['name'])}: ", style="bold")
    head.append(status["phase"], style="green" if status["phase"] == "complete" else "cyan")
    yield head.append(
        f", {int(100 * done)} % of {status['asked']:,} draws, {status['tune']:,} of each chain "
        "for warm-up",
        style="not bold",
    )
    if status["writer"] is not None:
        is_dead = status["writer"]["is_alive"] is False
        yield Text(writer_text(status["writer"]), style="red" if is_dead else "")
    elif status["recorded_by"] == "ZarrTrace":
        yield Text("PyMC's ZarrTrace recorded it, without its writer and the times of draws.")
    elif status["phase"] != "complete":
        yield Text("No process writes it. The same call of checkpoint.sample continues it.")
    if status["stopped"] is not None:
        yield Text(stop_text(status["stopped"]))
    if status["draws_per_second"] is not None and status["seconds_left"] is not None:
        yield Text(
            f"{speed(status['draws_per_second'])} draws/s; about "
            f"{duration(status['seconds_left'])} left."
        )
    yield from _convergence_lines(status["convergence"])
    if status["clock_of"]:
        clock = printable(status["clock_of"])
        yield Text(f"Ages of commits compare the clock of {clock} with that of this machine.")
    for note in status["notes"]:
        yield Text(printable(note), style="red")


def writer_text(writer: Mapping[str, Any]) -> str:
    """Return which process writes a run, and whether it lives, as a sentence."""
    process = f"process {writer['pid']} on {printable(writer['host'])}"
    since = clock_time(writer["since"])
    if writer["is_alive"]:
        return f"Written by {process}, alive, since {since}."
    if writer["is_alive"] is None:
        return f"Written by {process} since {since}; only that machine can tell if it is alive."
    return (
        f"Its writer, {process} since {since}, is dead: it was killed. "
        "The same call of checkpoint.sample continues the run."
    )


def stop_text(stop: Mapping[str, Any]) -> str:
    """Return when the last session ended, and how, as a sentence."""
    at = f"{clock_time(stop['ended'])} on {printable(stop['host'])}"
    match stop["how"]:
        case "killed":
            return f"It was last killed, or its machine failed; its last commit: {at}."
        case "finished":
            return f"It last finished {at}."
        case "signal":
            return f"It was last stopped {at} by {printable(stop['detail'])}."
        case "deadline":
            return f"It was last stopped {at}, in time for {printable(stop['detail'])}."
        case "error":
            return f"It last stopped {at} with {printable(stop['detail'])}"
    return f"It last stopped {at}; why is not recorded."


def _convergence_lines(found: Mapping[str, Any] | None) -> Iterator[Text]:
    if found is None:
        return
    parts = []
    if found["rhat"] is not None:
        parts.append(f"R-hat at most {found['rhat']:.3f} ({found['rhat_of']})")
    if found["ess"] is not None:
        parts.append(f"ESS at least {found['ess']:,.0f} ({found['ess_of']})")
    if not parts:
        return
    n, n_of = found["n_quantities"], found["n_of"]
    over = f"all {n:,}" if n == n_of else f"{n:,} of {n_of:,}"
    numbers = "number" if n_of == 1 else "numbers"
    yield Text(
        f"{', '.join(parts)}, over {over} {numbers} recorded, {found['chains']} x "
        f"{found['draws']:,} draws."
    )


def _row(chain: Mapping[str, Any]) -> list[str | Text]:
    divergences, size = chain["divergences"], chain["step_size"]
    is_complete = chain["phase"] == "complete"
    return [
        str(chain["chain"]),
        str(chain["recorded"]),
        str(chain["asked"]),
        Text(chain["phase"], style="green" if is_complete else "cyan"),
        speed(chain["draws_per_second"]),
        duration(chain["seconds_left"]),
        NOTHING if size is None else f"{size:.3g}",
        NOTHING if divergences is None else Text(str(divergences), "red" if divergences else ""),
        duration(chain["seconds_since_commit"]),
    ]
