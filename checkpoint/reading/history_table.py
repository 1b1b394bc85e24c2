"""The table that shows the sessions of a run, and where their versions changed."""

from collections.abc import Iterator, Sequence

from rich.console import Group
from rich.text import Text

from checkpoint.hierarchy.sessions import History, Session
from checkpoint.printable import printable
from checkpoint.reading.tables import NOTHING, duration, table
from checkpoint.stores.holder import clock_time

__all__ = ["history_table"]

_HEADINGS = ("session", "began", "ended", "how", "host", "cores", "draws", "time")

_WORDS = {"signal": "", "error": "", "finished": "finished", "killed": "killed", "": "running"}


def history_table(name: str, history: History) -> Group:
    """Return the sessions of a run for a terminal; one without an end is shown as running.

    Parameters
    ----------
    name : str
        Name of the store.
    history : History
    """
    if not history.sessions:
        return Group(Text(f"{printable(name)}: when it was sampled is not recorded."))
    first = history.n_older + 1
    rows = [_row(first + i, session) for i, session in enumerate(history.sessions)]
    shown = table(_HEADINGS, rows, left=("began", "ended", "how", "host"))
    errors = [
        Text(f"Session {first + i}: {printable(session.detail)}")
        for i, session in enumerate(history.sessions)
        if session.how == "error"
    ]
    below = [*errors, *_versions(first, history.sessions)]
    return Group(*_head(name, history), Text(), shown, Text(), *below)


def _head(name: str, history: History) -> Iterator[Text]:
    n = history.n_older + len(history.sessions)
    gained = history.older_gained + sum(session.n_gained for session in history.sessions)
    spent = history.older_seconds + sum(session.seconds for session in history.sessions)
    text = Text(f"{printable(name)}: ", style="bold")
    sessions = "session" if n == 1 else "sessions"
    yield text.append(
        f"{n:,} {sessions} drew {gained:,} draws in {duration(spent)}", style="not bold"
    )
    if history.n_older:
        how = ", ".join(f"{n:,} {how or 'unknown'}" for how, n in history.older_how.items())
        yield Text(
            f"Of the first {history.n_older:,} only sums are kept: {how}; "
            f"{history.older_gained:,} draws in {duration(history.older_seconds)}."
        )


def _row(number: int, session: Session) -> list[str | Text]:
    # The message of an error is below the table.
    how = _WORDS.get(session.how, session.how) or session.detail.partition(":")[0] or session.how
    is_bad = session.how in ("killed", "error")
    return [
        str(number),
        clock_time(session.began),
        _end(session),
        Text(printable(how), style="red" if is_bad else ""),
        printable(session.host).partition(".")[0],
        str(session.cores),
        f"{session.n_gained:,}",
        duration(session.seconds),
    ]


def _end(session: Session) -> str:
    """Return when a session ended, without the date if it began on that day."""
    if session.ended is None:
        return NOTHING
    (began, _), (day, time) = clock_time(session.began).split(), clock_time(session.ended).split()
    return time if day == began else f"{day} {time}"


def _versions(first: int, sessions: Sequence[Session]) -> Iterator[Text]:
    """Return the versions of the first session, and what later ones changed."""
    before = dict(sessions[0].versions)
    listed = ", ".join(f"{library} {version}" for library, version in sorted(before.items()))
    yield Text(f"Versions in session {first}: {printable(listed)}")
    for number, session in enumerate(sessions[1:], first + 1):
        now = dict(session.versions)
        changes = [
            f"{library} {before.get(library, NOTHING)} -> {now.get(library, NOTHING)}"
            for library in sorted(before.keys() | now.keys())
            if before.get(library) != now.get(library)
        ]
        if changes:
            yield Text(f"From session {number} on: {printable(', '.join(changes))}")
        before = now
