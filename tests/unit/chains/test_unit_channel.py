"""Messages between processes: whole, in order, and never waited for."""

import multiprocessing
import threading

import pytest

from checkpoint.chains.executors.channel import Channel

LARGE = b"x" * (5 << 20)


@pytest.fixture
def ends():
    connection, remote = multiprocessing.Pipe()
    channel = Channel(connection)
    yield channel, remote
    channel.close()
    remote.close()


def test_nothing_is_waited_for(ends):
    channel, _ = ends
    assert list(channel.receive()) == []
    channel.send(LARGE)
    assert channel.has_more_to_send
    assert not channel.has_ended


def test_large_messages_arrive_as_the_other_end_takes_them(ends):
    channel, remote = ends
    got = []
    thread = threading.Thread(target=lambda: got.extend(remote.recv() for _ in range(3)))
    thread.start()
    for message in (LARGE, "small", [LARGE]):
        channel.send(message)
    while channel.has_more_to_send:
        channel.send_more()
    thread.join()
    assert got == [LARGE, "small", [LARGE]]


def test_a_message_is_received_when_it_is_whole(ends):
    channel, remote = ends
    thread = threading.Thread(target=lambda: [remote.send(item) for item in (LARGE, 1)])
    thread.start()
    got = []
    while len(got) < 2:
        got.extend(channel.receive())
    thread.join()
    assert got == [LARGE, 1]


def test_what_was_said_before_the_end_is_received(ends):
    channel, remote = ends
    channel.send("never read")
    remote.send("last words")
    remote.close()
    assert list(channel.receive()) == ["last words"]
    assert channel.has_ended
    channel.send(LARGE)
    assert not channel.has_more_to_send
