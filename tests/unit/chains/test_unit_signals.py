"""Signals as a flag between draws: the first asks, a second ends, and all is as before."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from checkpoint.chains import signals
from checkpoint.chains.signals import (
    PREEMPT_SIGNALS,
    Interrupts,
    exit_code_of,
    postponed,
    signal_numbers,
    withheld,
)
from checkpoint.errors import ArgumentError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", PREEMPT_SIGNALS, ids=lambda n: signal.Signals(n).name)
def test_the_first_signal_asks_to_stop_and_the_handler_before_is_back_afterwards(number):
    before = signal.getsignal(number)
    with Interrupts() as interrupts:
        assert not interrupts.should_stop()
        send(number)
        assert interrupts.should_stop()
        assert interrupts.is_preempted
        assert interrupts.received == number
    assert signal.getsignal(number) is before


def test_ctrl_c_stops_and_does_not_preempt_unless_asked():
    with Interrupts() as interrupts:
        send(signal.SIGINT)
    assert interrupts.should_stop()
    assert not interrupts.is_preempted
    with Interrupts([signal.SIGINT]) as interrupts:
        send(signal.SIGINT)
    assert interrupts.is_preempted


def test_a_second_signal_ends_at_once(monkeypatch):
    with Interrupts():
        send(signal.SIGTERM)
        with pytest.raises(SystemExit) as caught:
            send(signal.SIGUSR1)
    assert caught.value.code == 128 + signal.SIGUSR1
    with Interrupts():
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    with Interrupts(exit_code=85):
        send(signal.SIGTERM)
        monkeypatch.setattr(signals, "_SAME", 0.0)
        with pytest.raises(SystemExit) as caught:
            send(signal.SIGTERM)
    assert caught.value.code == 85


def test_a_signal_that_the_process_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            send(signal.SIGHUP)
            assert not interrupts.should_stop()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_handler_before_is_called_once_all_is_done():
    called = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: called.append(number))
    try:
        with Interrupts() as interrupts:
            send(signal.SIGUSR2)
            assert called == []
        interrupts.pass_on()
        assert called == [signal.SIGUSR2]
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_outside_the_main_thread_nothing_is_changed():
    before = [signal.getsignal(number) for number in PREEMPT_SIGNALS]
    seen = []

    def look():
        with Interrupts():
            seen.extend(signal.getsignal(number) for number in PREEMPT_SIGNALS)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == before


def test_a_signal_that_comes_by_two_ways_at_once_is_one(monkeypatch):
    with Interrupts() as interrupts:
        interrupts.take_from_worker(signal.SIGUSR1)
        assert interrupts.is_preempted
        send(signal.SIGUSR1)  # it was sent to the whole group
        monkeypatch.setattr(signals, "_SAME", 0.0)
        with pytest.raises(SystemExit):
            send(signal.SIGUSR1)
    with Interrupts() as interrupts:
        send(signal.SIGTERM)
        interrupts.take_from_worker(signal.SIGUSR1)
        assert interrupts.received == signal.SIGTERM


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="needs signal masks")
def test_a_process_takes_what_came_before_it_had_a_handler(tmp_path):
    code = (
        "import signal\n"
        "from checkpoint.chains.signals import let_through\n"
        "signal.signal(signal.SIGUSR1, lambda *_: print('taken'))\n"
        "input()\n"
        "let_through([signal.SIGUSR1])\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with withheld([signal.SIGUSR1]):
        process = subprocess.Popen([sys.executable, "-c", code], **pipes)
    process.send_signal(signal.SIGUSR1)  # it has only begun
    assert process.communicate("go on\n", timeout=60)[0] == "taken\n"
    with withheld([signal.SIGUSR1]):
        assert signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert signal.SIGUSR1 not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_the_signals_it_takes_are_those_that_are_not_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            assert set(interrupts.taken) == set(PREEMPT_SIGNALS) - {signal.SIGHUP}
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_grace_that_runs_out_ends_the_process_and_says_so():
    code = (
        "import os, signal, time\n"
        "from checkpoint.chains.signals import Interrupts\n"
        "with Interrupts(grace=0.05):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 128 + signal.SIGTERM
    assert "SIGTERM arrived 0.05 s ago and the current draw has not ended" in done.stderr


def test_ctrl_c_is_postponed_to_the_end_of_a_block():
    steps = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012  # what is tested is where it comes
        with postponed():
            send(signal.SIGINT)
            steps.append("in the block")
        steps.append("after it")
    assert steps == ["in the block"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [(["SIGTERM", "int", 15], (15, 2, 15)), ("hup", (1,)), ([signal.SIGUSR1], (10,)), ([], ())],
)
def test_signals_are_named_or_numbered(given, expected):
    assert signal_numbers(given) == expected


@pytest.mark.parametrize("given", ["SIGKILL", "STOP", "SIGNONE", 0, 4711, -2])
def test_signals_that_do_not_exist_or_cannot_be_taken_are_refused(given):
    with pytest.raises(ArgumentError, match="Expected some of SIGHUP"):
        signal_numbers([given])


def test_an_exit_code_is_that_of_a_shell_unless_given():
    assert exit_code_of(15, None) == 143
    assert exit_code_of(15, 0) == 0
