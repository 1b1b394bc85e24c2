"""A run on a server that speaks S3: its commits, its faults, its rivals."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pymc as pm
import pytest
import zarr

import checkpoint
from checkpoint import errors
from checkpoint.format import layout
from checkpoint.stores import ObjectStore
from checkpoint.stores.base import KeyTakenError
from compare import unequal
from folders import SUPPORT
from models import eight_schools, positive
from places import S3Server
from settings import SMALL
from ways_to_sample import StopAfter

pytestmark = pytest.mark.slow  # a server is started; the same protocol is tried in memory

ARGUMENTS = {
    "draws": 60,
    "tune": 60,
    "chains": 2,
    "random_seed": 9,
    "draws_per_chunk": 25,
    "discard_tuned_samples": False,
    **SMALL,
}


@pytest.fixture(scope="module")
def server():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = S3Server(port)
    server.start()
    server.make_bucket("runs")
    yield server
    server.stop()


@pytest.fixture
def place(server, tmp_path):
    return lambda **options: server.store(f"s3://runs/{tmp_path.name}/fit.zarr", **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return sample(tmp_path_factory.mktemp("whole") / "fit.zarr")


def sample(store, cores=1, model=eight_schools, **arguments):
    with model():
        return checkpoint.sample(store, cores=cores, **{**ARGUMENTS, **arguments})


def recorded(store):
    try:
        return int(checkpoint.open(store).draw_idx.sum())
    except errors.RunNotFoundError:
        return 0


def test_the_server_honours_conditional_puts(place):
    """What the tests below rest on: of many that create a key, one succeeds."""
    store = place()
    for k in range(15):
        won = []

        def create(i, key=f"k{k}", won=won):
            with contextlib.suppress(KeyTakenError):
                store.create(key, bytes([i]) * 1000)
                won.append(bytes([i]) * 1000)

        threads = [threading.Thread(target=create, args=(i,)) for i in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [store.read(f"k{k}")] == won


@pytest.mark.parametrize("cores", [1, 2])
def test_resume_is_exact(cores, place, whole):
    for after in (30, 100):
        with contextlib.suppress(errors.TooFewDrawsError):
            sample(place(), cores, callback=StopAfter(after))
    assert unequal(sample(place(), cores, resume="must"), whole) == []
    assert zarr.open_group(place(), mode="r")["posterior/mu"].shape == (2, 60)
    assert not place().has(layout.CLAIM)


def test_a_status_tells_the_writer_while_there_is_one_and_why_it_stopped_after(place):
    seen = []

    def look(trace, draw):
        if not seen and draw.draw_idx == 30:
            seen.append(checkpoint.open(place()).status())

    sample(place(), callback=look)
    [during] = seen
    assert (during.writer.pid, during.writer.is_alive) == (os.getpid(), True)
    assert during.stopped is None
    after = checkpoint.open(place()).status()
    assert (after.phase, after.writer, after.stopped.how) == ("complete", None, "finished")
    assert [chain.recorded for chain in after.chains] == [120, 120]


@pytest.mark.parametrize("cores", [1, 2])
def test_what_pymc_draws_is_continued(cores, place, whole):
    arguments = {name: value for name, value in ARGUMENTS.items() if name not in ("quiet",)}
    chunk = arguments.pop("draws_per_chunk")
    with (
        eight_schools(),
        checkpoint.ZarrTrace(place(), draws_per_chunk=chunk, commit_interval=0) as trace,
        contextlib.suppress(errors.TooFewDrawsError, ValueError),
    ):
        pm.sample(cores=cores, trace=trace, callback=StopAfter(70), **arguments)
    assert 0 < recorded(place()) < 240
    assert not place().has(layout.CLAIM)
    assert unequal(sample(place(), 1, resume="must"), whole) == []


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import checkpoint, models
from checkpoint.stores import ObjectStore
store = ObjectStore({url!r}, stale_after=2, **{options!r})
with models.eight_schools():
    checkpoint.sample(store, cores=2, commit_interval=0.1,
                      **{arguments!r})
"""


def start(server, url):
    options = {
        "endpoint": server.url,
        "access_key_id": "user",
        "secret_access_key": "secret",
        "region": "us-east-1",
        "client_options": {"allow_http": True},
    }
    code = SCRIPT.format(
        tests=str(SUPPORT),
        url=url,
        options=options,
        arguments=dict(ARGUMENTS, tune=200, draws=600),
    )
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code],
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_killed_run_is_taken_over_at_once_and_is_exact(server, place, tmp_path):
    url = f"s3://runs/{tmp_path.name}/fit.zarr"
    for target in (60, 400):
        process = start(server, url)
        while recorded(place()) < target:
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()
    assert place().has(layout.CLAIM)  # of a process that is certainly dead
    arguments = {"tune": 200, "draws": 600}
    again = sample(place(), resume="must", **arguments)
    assert unequal(again, sample(tmp_path / "other.zarr", **arguments)) == []


@pytest.mark.slow
def test_of_two_processes_one_history_survives(server, place, tmp_path):
    """The first is stopped until it seems dead; the second finishes; the first wakes up."""
    url = f"s3://runs/{tmp_path.name}/fit.zarr"
    process = start(server, url)
    while recorded(place()) < 100:
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGSTOP)
    arguments = {"tune": 200, "draws": 600}
    other = place(stale_after=0)  # as from another machine, after the heartbeat is stale
    again = sample(other, resume="must", **arguments)
    os.killpg(process.pid, signal.SIGCONT)
    _, said = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "RunLockedError" in said
    assert "nothing recorded is lost" in said.replace("\n", " ")
    whole = sample(tmp_path / "other.zarr", **arguments)
    assert unequal(again, whole) == []
    assert unequal(sample(place(), resume="must", **arguments), whole) == []


@pytest.mark.slow
def test_sampling_goes_on_while_the_network_is_away(server, place, whole):
    drawn_while_away = []
    is_away = threading.Event()

    def look(trace, draw):
        if (draw.chain, draw.draw_idx) == (0, 70):
            server.stop_answering()
            is_away.set()
        if is_away.is_set():
            drawn_while_away.append(draw.draw_idx)
            time.sleep(0.15)  # longer in all than the client waits
        if (draw.chain, draw.draw_idx) == (0, 95):
            is_away.clear()
            server.answer_again()

    with pytest.warns(
        errors.CheckpointWarning, match="Sampling continues, with draws kept in memory"
    ):
        result = sample(
            place(retry_config={"max_retries": 0}, client_options=IMPATIENT),
            commit_interval=0,
            draws_per_chunk=1000,
            callback=look,
        )
    assert len(drawn_while_away) >= 20
    assert unequal(result, whole) == []
    assert checkpoint.open(place()).finished


IMPATIENT = {"allow_http": True, "timeout": "1s", "connect_timeout": "1s"}


def test_bad_addresses_are_named(server, place):
    with pytest.raises(errors.StoreWriteError, match="not found, bucket or container"):
        sample(server.store("s3://nobucket/fit.zarr"))
    with pytest.raises(errors.StoreUnreachableError, match="does not answer"):
        checkpoint.open(
            ObjectStore(
                "s3://runs/x",
                endpoint="http://127.0.0.1:9",
                access_key_id="user",
                secret_access_key="secret",
                region="us-east-1",
                client_options=IMPATIENT,
                retry_config={"max_retries": 0},
            )
        )
    with pytest.raises(errors.ArgumentError, match="is not a URL of an object store"):
        sample("nonsense://runs/x")
    with pytest.raises(errors.ArgumentError, match="not a URL"):
        ObjectStore("s3://runs/x", regoin="us-east-1")


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (401, "Unauthorized")])
def test_wrong_credentials_are_named(status, code):
    with (
        refusing(status, code) as url,
        pytest.raises(errors.StoreWriteError, match="access denied, check the credentials"),
    ):
        checkpoint.open(
            ObjectStore(
                "s3://runs/x",
                endpoint=url,
                access_key_id="user",
                secret_access_key="wrong",
                region="us-east-1",
                client_options={"allow_http": True},
            )
        )


def test_a_server_that_ignores_conditions_is_refused(place, monkeypatch):
    import obstore

    put = obstore.put
    monkeypatch.setattr(
        obstore, "put", lambda *a, mode="overwrite", **k: put(*a, mode="overwrite", **k)
    )
    with pytest.raises(errors.StoreWriteError, match="does not support conditional puts"):
        sample(place(), model=positive)


@contextlib.contextmanager
def refusing(status, code):
    """Serve nothing but one answer, as a service does that knows nobody."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            body = f"<Error><Code>{code}</Code></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    for method in ("GET", "HEAD", "PUT"):
        setattr(Handler, f"do_{method}", Handler.answer)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
