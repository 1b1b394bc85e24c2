"""A worker reports where its chain is, and its errors reach the parent as they are."""

import pickle

import pytest

from checkpoint.chains.executors.local_worker import _numbers_of, _portable, _Reporter
from checkpoint.errors import ChainError, DamagedStoreError


class Pipe:
    def __init__(self):
        self.sent, self.received = [], 0

    def send(self, message):
        self.sent.append(message)

    def recv(self):
        self.received += 1


class Flag:
    value = 0


def test_a_worker_runs_free_and_says_where_it_is_now_and_then():
    pipe = Pipe()
    reporter = _Reporter(pipe, Flag(), step_by_step=False, n_rows=1000)
    for n_rows in range(1, 1001):
        reporter.saw(0, n_rows, {"x": 1}, [{"scale": 2.0, "warning": object()}])
    assert pipe.received == 0
    assert pipe.sent[0] == ("at", (1, None, [{"scale": 2.0, "warning": None}]))
    assert pipe.sent[-1][1][0] == 1000  # the last draw is always told
    assert len(pipe.sent) < 500


def test_with_a_callback_it_waits_for_the_parent_at_every_draw():
    pipe = Pipe()
    reporter = _Reporter(pipe, Flag(), step_by_step=True, n_rows=3)
    for n_rows in (1, 2, 3):
        reporter.saw(0, n_rows, {"x": n_rows}, [])
    assert pipe.received == 3
    assert [message[1] for message in pipe.sent] == [(n, {"x": n}, []) for n in (1, 2, 3)]


def test_it_stops_when_the_parent_says_so():
    flag = Flag()
    reporter = _Reporter(Pipe(), flag, step_by_step=False, n_rows=3)
    assert not reporter.should_stop()
    flag.value = 1
    assert reporter.should_stop()


def caught(error):
    try:
        raise error
    except Exception as found:
        return found


class OfTwoError(Exception):
    """An error that cannot be pickled and read again."""

    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


@pytest.mark.parametrize("error", [ValueError("odd"), OfTwoError(1, 2)])
def test_an_error_of_the_model_becomes_one_of_its_chain(error):
    found = pickle.loads(pickle.dumps(_portable(caught(error), 3)))
    assert isinstance(found, ChainError)
    assert found.chain == 3
    assert f"{type(error).__name__}: {error}" in str(found)


def test_an_error_of_the_package_stays_what_it_is_and_brings_its_traceback():
    found = _portable(caught(DamagedStoreError("a chunk is missing")), 1)
    assert isinstance(found, DamagedStoreError)
    assert any("In the worker of chain 1" in note for note in found.__notes__)
    assert pickle.loads(pickle.dumps(found)).args == ("a chunk is missing",)


def test_warnings_are_left_out_of_what_a_display_shows():
    assert _numbers_of({"a": 1, "warning": object()}) == {"a": 1, "warning": None}
