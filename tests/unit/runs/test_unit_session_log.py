"""How a session is closed, and what is said of it."""

import pytest

from checkpoint.hierarchy.sessions import Session
from checkpoint.runs.session_log import describe_session
from checkpoint.stores.holder import clock_time

OPEN = Session(1000.0, "node", 7, {}, 2, seconds_before=5.0, n_before=100)


def test_a_session_without_an_end_was_killed_at_its_last_commit():
    closed = OPEN.so_far(35.0, 160).killed()
    assert (closed.how, closed.ended, closed.seconds, closed.n_gained) == ("killed", 1030, 30, 60)


@pytest.mark.parametrize(
    ("session", "expected"),
    [
        (None, "is not recorded"),
        (OPEN.so_far(35.0, 160).killed(), "was killed, or its machine failed"),
        (Session(0, "n", 1, {}, 1, 0, 0, 60, "signal", "SIGTERM"), "by SIGTERM"),
        (Session(0, "n", 1, {}, 1, 0, 0, 60, "error", "ChainError: no"), "with ChainError: no"),
        (Session(0, "n", 1, {}, 1, 0, 0, 60, "finished"), "finished; it drew 0 draws"),
        (Session(0, "n", 1, {}, 1, 0, 0, 60, "swallowed"), "swallowed"),
    ],
)
def test_how_a_session_ended_is_said(session, expected):
    text = describe_session(session)
    assert expected in text
    if session is not None:
        assert clock_time(session.ended) in text
