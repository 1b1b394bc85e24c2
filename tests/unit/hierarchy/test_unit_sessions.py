"""The record of a run's sessions: bounded, checked, and fit to be shown."""

import json

import pytest

from checkpoint.errors import DamagedStoreError
from checkpoint.format import layout
from checkpoint.hierarchy.sessions import (
    MAX_SESSIONS,
    History,
    Session,
    encode_history,
    read_history,
)
from checkpoint.stores import as_store

SESSION = Session(
    began=10.0,
    host="node",
    pid=7,
    versions={"pymc": "6"},
    cores=2,
    seconds_before=1.5,
    n_before=100,
    ended=14.0,
    how="signal",
    detail="SIGTERM",
    seconds=3.5,
    n_gained=20,
)


def store_with(data: bytes):
    store = as_store({})
    store.write({layout.SESSIONS: data})
    return store


def test_a_history_is_read_as_it_was_written():
    history = History().with_session(SESSION)
    [data] = encode_history(history).values()
    assert read_history(store_with(data)) == history


def test_a_store_from_before_sessions_has_an_empty_history():
    assert read_history(as_store({})) == History()


def test_thousands_of_restarts_take_bounded_room_and_nothing_is_left_out_of_the_sums():
    history = History()
    for _ in range(3000):
        history = history.with_session(SESSION)
    [data] = encode_history(history).values()
    assert len(data) < 100_000
    found = read_history(store_with(data))
    assert (len(found.sessions), found.n_older) == (MAX_SESSIONS, 3000 - MAX_SESSIONS)
    assert found.older_gained == 20 * found.n_older
    assert found.older_seconds == 3.5 * found.n_older
    assert found.older_how == {"signal": found.n_older}


def test_the_last_session_is_replaced_by_itself_with_its_end():
    history = History().with_session(SESSION).with_last(SESSION)
    assert history.sessions == (SESSION,)


@pytest.mark.parametrize("at", [0, 20, -2])
def test_a_changed_byte_is_noticed(at):
    [data] = encode_history(History().with_session(SESSION)).values()
    changed = bytearray(data)
    changed[at] ^= 1
    with pytest.raises(DamagedStoreError, match="No draw is affected"):
        read_history(store_with(bytes(changed)))


@pytest.mark.parametrize(
    "change",
    [
        {"began": "now"},
        {"ended": float("nan")},
        {"pid": -1},
        {"versions": {"pymc": 6}},
        {"how": None},
        {"seconds": 1e300},
        {"n_gained": True},
    ],
)
def test_a_forged_session_is_refused(change):
    [data] = encode_history(History().with_session(SESSION)).values()
    document = json.loads(data)
    document["sessions"][0] |= change
    with pytest.raises(ValueError, match="of a session"):
        Session.from_json(document["sessions"][0])


def test_what_is_shown_at_a_terminal_cannot_steer_it():
    forged = Session.from_json(SESSION.to_json() | {"detail": "a\x1b[2J\nb" + "c" * 10_000})
    assert forged.detail.isprintable()
    assert len(forged.detail) <= 300
