"""The table of the sessions of a run."""

from dataclasses import replace

from checkpoint.hierarchy.sessions import MAX_SESSIONS, History, Session
from checkpoint.reading.history_table import history_table
from checkpoint.reading.tables import as_text
from checkpoint.stores.holder import clock_time

VERSIONS = {"pymc": "6.4.0", "numpy": "2.4.1", "python": "3.13.1", "pytensor": "3.1.2"}
SESSION = Session(
    began=1e9,
    host="node17.cluster.example.org",
    pid=7,
    versions=VERSIONS,
    cores=64,
    seconds_before=0.0,
    n_before=0,
    ended=1e9 + 60,
    how="signal",
    detail="SIGTERM",
    seconds=60.0,
    n_gained=1_234_567,
)


def shown(*sessions):
    history = History()
    for session in sessions:
        history = history.with_session(session)
    return as_text(history_table("fit.zarr", history))


def words(text):
    return " ".join(text.split())


def test_each_session_says_how_it_ended_and_what_it_drew():
    found = shown(
        SESSION,
        replace(SESSION, how="error", detail="ValueError: no"),
        replace(SESSION, how="killed", detail=""),
        replace(SESSION, how="finished", detail=""),
        replace(SESSION, how="", detail="", ended=None),
    )
    assert "Session 2: ValueError: no" in found
    for word in ("node17 ", "SIGTERM", "killed", "finished", "running", "1,234,567"):
        assert word in found
    assert "5 sessions drew 6,172,835 draws in 5 min" in found
    assert clock_time(1e9).split()[0] in found


def test_it_fits_into_80_columns_and_no_word_is_cut_off():
    found = shown(*[replace(SESSION, how="error", detail="ValueError: " + "no " * 60)] * 3)
    assert max(map(len, found.splitlines())) <= 80
    assert "…" not in found


def test_changes_of_versions_are_told_once():
    later = replace(SESSION, versions=VERSIONS | {"pymc": "6.5.0", "numba": "1"})
    found = words(shown(SESSION, SESSION, later, later))
    assert "Versions in session 1: numpy 2.4.1, pymc 6.4.0" in found
    assert "From session 3 on: numba - -> 1, pymc 6.4.0 -> 6.5.0" in found
    assert "From session 4" not in found


def test_of_the_oldest_sessions_the_sums_are_shown():
    found = words(shown(*[SESSION] * (MAX_SESSIONS + 7)))
    assert "107 sessions" in found
    assert "Of the first 7 only sums are kept: 7 signal; 8,641,969 draws" in found


def test_a_run_from_before_sessions_says_so():
    assert shown() == "fit.zarr: when it was sampled is not recorded."


def test_json_has_every_session_and_the_sums():
    history = History().with_session(SESSION)
    document = history.to_json()
    assert document["sessions"] == [SESSION.to_json()]
    assert document["n_older"] == 0
