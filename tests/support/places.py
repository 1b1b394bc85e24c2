"""Places to keep a run: every kind of store, each as something that opens it anew."""

import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import obstore
import zarr.storage
from zarr.testing.store import LatencyStore

from checkpoint.stores import ObjectStore

Place = Callable[[], Any]
"""Returns what `checkpoint.sample` takes; each call as a new process would."""


def directory(tmp_path: Path) -> Place:
    return lambda: tmp_path / "fit.zarr"


def zip_file(tmp_path: Path) -> Place:
    return lambda: str(tmp_path / "fit.zip")


def zarr_local(tmp_path: Path) -> Place:
    return lambda: zarr.storage.LocalStore(tmp_path / "local.zarr")


def zarr_zip(tmp_path: Path) -> Place:
    return lambda: zarr.storage.ZipStore(tmp_path / "zarr.zip", mode="a")


def zarr_memory(tmp_path: Path) -> Place:
    memory: dict[str, Any] = {}
    return lambda: zarr.storage.MemoryStore(memory)


def plain_dict(tmp_path: Path) -> Place:
    memory: dict[str, Any] = {}
    return lambda: memory


def fsspec_memory(tmp_path: Path) -> Place:
    return lambda: zarr.storage.FsspecStore.from_url(f"memory://{tmp_path}/fit.zarr")


def fsspec_local(tmp_path: Path) -> Place:
    return lambda: zarr.storage.FsspecStore.from_url(f"file://{tmp_path}/fsspec.zarr")


def zarr_objects(tmp_path: Path) -> Place:
    memory = obstore.store.MemoryStore()
    return lambda: zarr.storage.ObjectStore(memory)


def obstore_itself(tmp_path: Path) -> Place:
    memory = obstore.store.MemoryStore()
    return lambda: memory


def memory_url(tmp_path: Path) -> Place:
    return lambda: f"memory://{tmp_path}"


def file_url(tmp_path: Path) -> Place:
    return lambda: f"file://{tmp_path}/url.zarr"


def wrapper(tmp_path: Path) -> Place:
    """Return a store that is none of those known by name."""
    memory: dict[str, Any] = {}
    return lambda: LatencyStore(
        zarr.storage.MemoryStore(memory), get_latency=0.0001, set_latency=0.0001
    )


KINDS = {
    "directory": directory,
    "zip": zip_file,
    "LocalStore": zarr_local,
    "zarr's ZipStore": zarr_zip,
    "MemoryStore": zarr_memory,
    "dict": plain_dict,
    "FsspecStore in memory": fsspec_memory,
    "FsspecStore of files": fsspec_local,
    "zarr's ObjectStore": zarr_objects,
    "obstore": obstore_itself,
    "memory://": memory_url,
    "file://": file_url,
    "another store of zarr": wrapper,
}


ONE_OF_EACH = ("directory", "zip", "MemoryStore", "FsspecStore in memory", "memory://")
"""Kinds that differ in what keeps the run; the others are other ways to name one of these."""


class S3Server:
    """A server that speaks S3, as a process of its own.

    moto's: it comes from PyPI and honours If-None-Match and If-Match; `test_s3.py` makes sure.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-p", str(self.port)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(self.url, timeout=1).close()
                break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.1)
        else:
            raise TimeoutError("the S3 server does not start")

    def make_bucket(self, name: str) -> None:
        request = urllib.request.Request(f"{self.url}/{name}", method="PUT")
        urllib.request.urlopen(request, timeout=5).close()

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop_answering(self) -> None:
        """Keep what it holds, and answer nobody, as a network that is away."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def answer_again(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def store(self, url: str, **options: Any) -> ObjectStore:
        return ObjectStore(
            url,
            **{
                "endpoint": self.url,
                "access_key_id": "user",
                "secret_access_key": "secret",
                "region": "us-east-1",
                "client_options": {"allow_http": True},
                **options,
            },
        )
