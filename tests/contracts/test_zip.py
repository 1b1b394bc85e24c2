"""A zip file that is cut, torn, damaged, huge, hostile or made by others."""

import contextlib
import os
import shutil
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pymc as pm
import pytest
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import checkpoint
from checkpoint import errors
from checkpoint.hierarchy import read_root
from checkpoint.recording.recovery import recover
from checkpoint.stores import ZipStore
from checkpoint.stores.zip import archive as zip_archive
from checkpoint.stores.zip import records
from checkpoint.stores.zip.records import Entry, pack_directory, pack_local
from checkpoint.stores.zip.scan import scan
from compare import unequal
from folders import SUPPORT
from models import eight_schools, positive
from settings import SMALL

ARGUMENTS = {
    "draws": 10,
    "tune": 8,
    "chains": 2,
    "cores": 1,
    "random_seed": 4,
    "draws_per_chunk": 6,
    "discard_tuned_samples": False,
    **SMALL,
}


def sample(store, model=positive, **arguments):
    with model():
        return checkpoint.sample(store, **{**ARGUMENTS, **arguments})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return sample(tmp_path_factory.mktemp("whole") / "fit.zarr")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("finished") / "fit.zip"
    sample(path, draws_per_chunk=4)
    return path


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """Return a file as it is in the middle of a run, with chunks and log entries."""
    folder = tmp_path_factory.mktemp("live")

    def stop(trace, draw):
        if (draw.chain, draw.draw_idx) == (1, 12):
            shutil.copy(folder / "fit.zip", folder / "live.zip")
            raise KeyboardInterrupt

    sample(folder / "fit.zip", commit_interval=0, callback=stop)
    return folder / "live.zip"


@pytest.fixture
def archive(tmp_path):
    return tmp_path / "fit.zip"


def listed(path):
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return archive.namelist()


def test_headers_with_long_extra_fields_are_read(archive):
    """As others may write them; compacting writes headers of ours."""
    info = zipfile.ZipInfo("a/b")
    info.extra = struct.pack("<2H", 0x7075, 40_000) + bytes(40_000)
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(info, b"value")
        file.writestr("c", b"other" * 1000, compress_type=zipfile.ZIP_DEFLATED)
    for _ in range(2):
        file = zip_archive.Archive(archive, writable=True)
        assert file.read("a/b") == b"value"
        assert file.read("c") == b"other" * 1000
        file.compact()
        file.close()
    assert archive.stat().st_size < 1000


# What others see.


def test_a_finished_file_opens_everywhere_without_a_warning(finished, whole):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = zarr.storage.ZipStore(finished, mode="r")
        assert zarr.open_group(store, mode="r")["posterior/x"].shape == (2, 10, 2)
        posterior = xr.open_zarr(store, group="posterior")
        assert posterior["x"].values.tobytes() == whole.posterior["x"].values.tobytes()
    assert not [name for name in listed(finished) if "/log/c/" in name]
    unzip = shutil.which("unzip")
    if unzip:
        done = subprocess.run([unzip, "-t", finished], capture_output=True, text=True, check=True)
        assert "No errors detected" in done.stdout
        assert done.stderr == ""


def test_a_finished_file_holds_nothing_superseded(finished):
    archive = zip_archive.Archive(finished, writable=False)
    assert archive.n_superseded < 200  # the end record
    assert not archive.found.has_walked


def test_a_live_file_opens_with_zarr_at_every_draw(archive):
    seen = []

    def look(trace, draw):
        store = zarr.storage.ZipStore(archive, mode="r")
        seen.append(zarr.open_group(store, mode="r")["posterior/x"].shape)
        store.close()

    sample(archive, commit_interval=0, callback=look)
    assert len(seen) == 36
    assert {shape[::2] for shape in seen} == {(2, 2)}  # as long as what all chains have sealed


@pytest.mark.parametrize("n_bytes", [100, 1000, records.FINDABLE - 200])
def test_zipfile_finds_the_directory_after_every_change(archive, n_bytes, monkeypatch):
    monkeypatch.setattr(zip_archive, "_DIRECTORY_INTERVAL", float("inf"))
    file = zip_archive.Archive(archive, writable=True)
    n_changes = max(100, 150_000 // n_bytes)
    for i in range(n_changes):
        if i % 3 == 2:
            file.remove([f"key-{(i - 1) % 50}"])
        else:
            file.append([(f"key-{i % 50}", bytes(n_bytes))])
        zipfile.ZipFile(archive).close()
    file.close()


def test_an_extended_file_is_whole_again(finished, tmp_path):
    path = tmp_path / "fit.zip"
    shutil.copy(finished, path)
    longer = sample(path, draws=15, draws_per_chunk=4)
    assert unequal(longer, sample(tmp_path / "other.zarr", draws=15)) == []
    assert len(listed(path)) == len(set(listed(path)))


# Cuts.


def rows_in(path):
    """Return what each chain has recorded, or None if there is no run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.DamageWarning)
        try:
            return checkpoint.open(path).draw_idx.tolist()
        except errors.RunNotFoundError:
            return None


def entries_in(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return scan(descriptor).entries
    finally:
        os.close(descriptor)


def end_of_record(data, at):
    magic = data[at : at + 4]
    if magic == b"PK\x03\x04":
        n_packed, _, n_name, n_extra = struct.unpack_from("<2L2H", data, at + 18)
        return at + 30 + n_name + n_extra + n_packed
    if magic == b"PK\x01\x02":
        return at + 46 + sum(struct.unpack_from("<3H", data, at + 28))
    assert magic == b"PK\x05\x06"
    return at + 22 + struct.unpack_from("<H", data, at + 20)[0]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Return a run of few columns, live and finished, so that it can be cut at every byte."""
    folder = tmp_path_factory.mktemp("small")
    arguments = dict(ARGUMENTS, draws=7, tune=5, chains=2, draws_per_chunk=4, commit_interval=0)

    def look(trace, draw):
        if (draw.chain, draw.draw_idx) == (1, 9):
            shutil.copy(folder / "fit.zip", folder / "live.zip")

    with pm.Model():
        pm.Normal("x")
        checkpoint.sample(folder / "fit.zip", step=pm.Slice(), callback=look, **arguments)
    return {"live": folder / "live.zip", "finished": folder / "fit.zip"}


@pytest.mark.slow
@pytest.mark.parametrize("state", ["live", "finished"])
def test_a_cut_at_every_byte_loses_nothing_that_was_whole(state, small, tmp_path):
    data = small[state].read_bytes()
    path = tmp_path / "fit.zip"
    start, whole = 0, {}
    while start < len(data):
        end = min(len(data), end_of_record(data, start))
        path.write_bytes(data[:end])
        found = entries_in(path)
        for length in range(end - 1, start, -1):
            os.truncate(path, length)
            assert entries_in(path) == whole, length
        start, whole = end, found


@pytest.mark.slow
@pytest.mark.parametrize("state", ["live", "finished"])
def test_what_is_recorded_grows_with_the_file(state, request, tmp_path):
    source = request.getfixturevalue(state)
    data = source.read_bytes()
    path = tmp_path / "fit.zip"
    counts, end, n = [], 0, 0
    while end < len(data):
        end, n = min(len(data), end_of_record(data, end)), n + 1
        if n % 3 == 0 or end == len(data):
            path.write_bytes(data[:end])
            rows = rows_in(path)
            counts.append(-1 if rows is None else sum(rows))
    assert counts == sorted(counts)
    assert counts[-1] == sum(rows_in(source)) > 30
    assert len(set(counts)) > 6


@pytest.mark.slow
@pytest.mark.parametrize("state", ["live", "finished"])
def test_a_run_that_was_cut_continues_exactly(state, request, tmp_path, whole):
    data = request.getfixturevalue(state).read_bytes()
    path = tmp_path / "fit.zip"
    n_lost = set()
    for length in np.linspace(0, len(data) - 1, 25).astype(int).tolist():
        path.write_bytes(data[:length])
        n_lost.add(str(rows_in(path)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", errors.DamageWarning)
            again = sample(path, draws_per_chunk=None)
        assert unequal(again, whole) == [], length
        assert len(listed(path)) == len(set(listed(path)))
    assert len(n_lost) > 4


def test_a_torn_end_is_cut_off_before_more_is_written(live, tmp_path, whole):
    path = tmp_path / "fit.zip"
    torn = pack_local("posterior/x/c.0.0.0", 0, 5000) + bytes(4000)
    path.write_bytes(live.read_bytes() + torn)
    assert rows_in(path) == rows_in(live)
    store = ZipStore(path)
    store.lock()
    assert path.stat().st_size == live.stat().st_size
    store.unlock()
    assert unequal(sample(path), whole) == []


def test_damage_in_the_middle_does_not_cost_what_is_behind_it(archive):
    store = ZipStore(archive)
    store.write({f"k{i}": os.urandom(5000) for i in range(10)})
    before = {key: store.read(key) for key in [*store.keys()]}
    descriptor = os.open(archive, os.O_RDONLY)
    places = {key: entry.offset for key, entry in scan(descriptor).entries.items()}
    os.close(descriptor)
    data = bytearray(archive.read_bytes())
    data[places["k3"] + 2500] ^= 1  # a value
    archive.write_bytes(data[: len(data) - 30])  # and no directory
    after = ZipStore(archive, read_only=True)
    with pytest.raises(errors.DamagedStoreError, match="k3, at byte"):
        after.read("k3")
    for key in set(before) - {"k3"}:
        assert after.read(key) == before[key]


def local_headers(path):
    data = path.read_bytes()
    at, found = data.find(b"PK\x03\x04"), {}
    while data[at : at + 4] == b"PK\x03\x04":
        end = end_of_record(data, at)
        n_name = struct.unpack_from("<H", data, at + 26)[0]
        found[data[at + 30 : at + 30 + n_name].decode()] = at
        at = end
    return found


@pytest.mark.parametrize(
    ("at", "flip"), [(19, 0x40), (29, 0x10), (22, 1), (14, 1), (8, 8), (30, 1)]
)
def test_a_flipped_bit_of_a_header_costs_what_follows_which_is_kept(at, flip, archive):
    """Packed size, length of the extra field, size, checksum, method, name.

    What it was is not known then: any value before it may be one that it replaced.
    """
    store = ZipStore(archive)
    store.write({f"k{i:02d}": os.urandom(3000) for i in range(20)})
    values = {key: store.read(key) for key in [*store.keys()]}
    data = bytearray(archive.read_bytes())
    data[local_headers(archive)["k04"] + at] ^= flip
    archive.write_bytes(data[: data.find(b"PK\x01\x02")])
    torn = archive.read_bytes()
    after = ZipStore(archive)
    assert after.noticed()
    keys = [*after.keys()]
    assert keys == sorted(values)[:4]
    store.repair()
    assert [ZipStore(archive).read(key) for key in keys] == [values[key] for key in keys]
    [kept] = archive.parent.glob(f"{archive.name}.damaged-*")
    assert torn.endswith(kept.read_bytes())
    assert b"k19" in kept.read_bytes()


@pytest.mark.parametrize("at", [14, 36, 40])
def test_a_damaged_list_of_removed_keys_removes_nothing(at, archive):
    store = ZipStore(archive)
    store.write({"a": b"1", "b": b"2"})
    store.remove(["a"])
    store.write({"c": b"3"})
    data = bytearray(archive.read_bytes())
    data[data.find(b"PK\x03\x04", data.find(b".removed") - 31) + at] ^= 0x80
    archive.write_bytes(data[: data.rfind(b"PK\x01\x02") - 1 - 46 * 2])
    with contextlib.suppress(errors.CheckpointError):
        assert ZipStore(archive).read("b") == b"2"


def test_a_torn_last_value_is_never_accepted(archive):
    store = ZipStore(archive)
    store.write({"a": b"old"})
    torn = pack_local("a", zlib.crc32(b"new"), 3) + b"\0\0\0"
    archive.write_bytes(archive.read_bytes() + torn)
    reader = ZipStore(archive, read_only=True)
    for _ in range(3):
        assert reader.read("a") == b"old"


def test_a_reader_gets_over_what_a_writer_took_back(archive):
    writer, reader = ZipStore(archive), ZipStore(archive, read_only=True)
    writer.write({"a": b"1"})
    assert reader.read("a") == b"1"
    size = archive.stat().st_size
    with archive.open("ab") as file:  # written, seen, and never synced
        file.write(pack_local("b", zlib.crc32(b"22"), 2) + b"22")
    assert reader.read("b") == b"22"
    os.truncate(archive, size)
    writer.write({"c": b"3" * 500})
    writer.write({"b": b"4"})
    assert [reader.read(key) for key in ("a", "b", "c")] == [b"1", b"4", b"3" * 500]


def test_names_that_latex_likes_are_kept(archive):
    def model():
        with pm.Model() as named:
            pm.Normal(r"$\mu$")
        return named

    result = sample(archive, model=model)
    assert r"$\mu$" in checkpoint.open(archive).posterior
    assert unequal(result, sample(archive, model=model)) == []


def test_a_link_and_its_target_have_one_lock(archive, tmp_path):
    link = tmp_path / "link.zip"
    link.symlink_to(archive)
    store, other = ZipStore(archive), ZipStore(link)
    store.lock()
    with pytest.raises(errors.RunLockedError):
        other.lock()
    store.unlock()
    other.write({"a": b"1"})
    other.compact()
    assert link.is_symlink()
    assert ZipStore(archive).read("a") == b"1"


def test_temporary_files_of_others_are_left_alone(archive, tmp_path):
    for name in (".tmp-1-1-model-fit.zip", ".tmp-1-1-fit.zip.old"):
        (tmp_path / name).write_bytes(b"1")
    (tmp_path / ".tmp-1-1-fit.zip").write_bytes(b"1")
    ZipStore(archive).write({"a": b"1"})
    left = {name for name in os.listdir(tmp_path) if name.startswith(".tmp")}
    assert left == {".tmp-1-1-model-fit.zip", ".tmp-1-1-fit.zip.old"}


# Kills in the middle of compacting.


@pytest.mark.parametrize("step", ["write_at", "sync", "publish"])
@pytest.mark.parametrize("after", [False, True])
def test_a_kill_during_compaction_leaves_the_old_or_the_new_file(
    step, after, live, tmp_path, monkeypatch, whole
):
    path = tmp_path / "fit.zip"
    shutil.copy(live, path)
    store = ZipStore(path)
    store.lock()
    real = getattr(zip_archive.durability, step)

    def die(*arguments):
        if after:
            real(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(zip_archive.durability, step, die)
    monkeypatch.setattr(zip_archive.durability, "remove", lambda path, within=None: None)
    with pytest.raises(KeyboardInterrupt):
        store.compact()
    monkeypatch.undo()
    store._archive.close()  # as the system does when a process dies
    store._lock.release()
    store._lock = None
    assert rows_in(path) == rows_in(live)
    assert unequal(sample(path), whole) == []
    assert [name for name in os.listdir(tmp_path) if name.startswith(".tmp")] == []


def test_no_space_for_compacting_is_a_warning_and_the_run_is_whole(archive, monkeypatch, whole):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zip_archive.durability, "publish", full)
    with pytest.warns(errors.CheckpointWarning, match="could not be compacted: No space left"):
        result = sample(archive)
    monkeypatch.undo()
    assert unequal(result, whole) == []
    assert checkpoint.open(archive).finished
    assert zipfile.ZipFile(archive).testzip() is None


def test_what_follows_a_rename_that_was_not_synced_is_in_the_file(archive, monkeypatch):
    store = ZipStore(archive)
    store.lock()
    store.write({"a": b"1"})
    replace = os.replace

    def fails_after(temporary, path, within):
        replace(temporary, path, src_dir_fd=within, dst_dir_fd=within)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(zip_archive.durability, "publish", fails_after)
    with pytest.raises(errors.StoreWriteError):
        store.compact()
    monkeypatch.undo()
    store.write({"b": b"2"})
    store.unlock()
    assert [ZipStore(archive).read(key) for key in ("a", "b")] == [b"1", b"2"]


# Growth.


def test_a_million_draws_stay_in_proportion(archive):
    """Commits, chunks and counts as a run of 1,000,000 draws of a small model writes them."""
    rng = np.random.default_rng(3)
    store = ZipStore(archive)
    store.lock()
    columns, n_chunks, n_commits = 12, 125, 8  # 8,000 draws a chunk, a commit each 1,000
    chunk, entry = rng.bytes(4_000), rng.bytes(12_000)
    most = 0
    for k in range(n_chunks):
        keys = [f"_sampling_state/log/c/0/{k:06d}{i:06d}" for i in range(n_commits)]
        for key in keys:
            store.create(key, entry)
            most = max(most, _bytes_beside(archive) - 2.5 * k * columns * len(chunk))
        store.write({f"posterior/x{i}/c.0.{k}": chunk for i in range(columns)})
        store.write({"_sampling_state/draw_idx/c.0": str(k).encode()})
        store.remove(keys)
    store.finish()
    store.unlock()
    size = archive.stat().st_size
    assert size < 1.1 * n_chunks * columns * len(chunk)
    assert most < 3 * zip_archive._SLACK
    assert len(listed(archive)) == n_chunks * columns + 1


def _bytes_beside(path):
    return sum(file.stat().st_size for file in path.parent.iterdir())


# ZIP64.


@pytest.mark.slow
def test_more_than_65_535_entries(archive):
    store = ZipStore(archive)
    store.lock()
    for i in range(0, 70_000, 5_000):
        store.write({f"k{j}": str(j).encode() for j in range(i, i + 5_000)})
    store.unlock()
    assert len(listed(archive)) == 70_000
    assert ZipStore(archive).read("k69999") == b"69999"
    data = archive.read_bytes()
    archive.write_bytes(data[:-10])
    again = ZipStore(archive)
    assert len([*again.keys()]) == 70_000
    again.compact()
    assert len(listed(archive)) == 70_000


@pytest.mark.slow
def test_more_than_four_gibibytes(archive):
    """Entries behind 4 GiB, and one that is larger; the bytes between are a hole."""
    large = 5 << 30
    crc = _crc_of_zeros(large)
    header = pack_local("large", crc, large)
    with archive.open("wb") as file:
        file.write(header)
        file.seek(large, os.SEEK_CUR)
        end = file.tell()
        file.truncate(end)
        file.write(pack_directory({"large": Entry(0, 0, crc, large, large)}, end))
    store = ZipStore(archive)
    store.write({"behind": b"four gibibytes"})
    with zipfile.ZipFile(archive) as found:
        assert {i.filename: i.file_size for i in found.infolist()} == {"large": large, "behind": 14}
        assert found.read("behind") == b"four gibibytes"
    with archive.open("r+b") as file:
        file.truncate(archive.stat().st_size - 5)
    walked = ZipStore(archive)
    assert walked.read("behind") == b"four gibibytes"
    assert sorted(walked.keys()) == ["behind", "large"]


def _crc_of_zeros(n):
    block, crc = bytes(1 << 24), 0
    for _ in range(n >> 24):
        crc = zlib.crc32(block, crc)
    return zlib.crc32(bytes(n & 0xFFFFFF), crc)


# Made by others, or to do harm.


@pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_directory_that_was_zipped_is_continued(how, tmp_path):
    sample(tmp_path / "fit.zarr")
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(path, "w", how) as archive:
        for file in sorted((tmp_path / "fit.zarr").rglob("*")):
            archive.write(file, file.relative_to(tmp_path / "fit.zarr"))
    longer = sample(path, draws=14)
    assert unequal(longer, sample(tmp_path / "fit.zarr", draws=14)) == []


def flagged(data: bytes, flag: int) -> bytes:
    """Set a flag of all entries, in their headers and the directory."""
    out = bytearray(data)
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = out.find(magic)
        while start >= 0:
            out[start + at] |= flag
            start = out.find(magic, start + 1)
    return bytes(out)


def zip_of(path: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as archive:
        warnings.simplefilter("ignore")
        for name, value in entries.items():
            archive.writestr(name, value)
    return path.read_bytes()


def encrypted(path: Path) -> bytes:
    return flagged(zip_of(path, {"zarr.json": b"{}" * 900}), 1)


HOSTILE = {
    "encrypted, with a byte behind it": (lambda path: encrypted(path) + b"\n", "is encrypted"),
    "encrypted, without its end": (lambda path: encrypted(path)[:-30], "is encrypted"),
    "half a download": (
        lambda path: zip_of(path, {"holiday.mp4": bytes(9000)})[:4000],
        "was not begun by checkpoint",
    ),
    "no zip": (lambda path: b"\x89PNG\r\n\x1a\n" + bytes(500), "is not a zip file"),
    "encrypted": (lambda path: flagged(zip_of(path, {"zarr.json": b"{}"}), 1), "is encrypted"),
    "several disks": (
        lambda path: (
            zip_of(path, {"a": b"1"})[:-22]
            + b"PK\x05\x06\x01\x00\x00\x00"
            + zip_of(path, {"a": b"1"})[-14:]
        ),
        "several disks",
    ),
    "absolute": (lambda path: zip_of(path, {"/etc/passwd": b"1"}), "leads out of the store"),
    "upwards": (lambda path: zip_of(path, {"a/../../b": b"1"}), "leads out of the store"),
    "drive": (lambda path: zip_of(path, {"C:/b": b"1"}), "leads out of the store"),
    "lzma": (lambda path: zip_of(path, {"a": b"1" * 99}, zipfile.ZIP_LZMA), "method 14"),
    "photos": (lambda path: zip_of(path, {"photo.jpg": b"1"}), "holds something other"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_cannot_be_a_store_is_refused_and_left_alone(kind, archive):
    make, words = HOSTILE[kind]
    data = make(archive)
    archive.write_bytes(data)
    for attempt in (checkpoint.open, sample):
        with pytest.raises(errors.NotARunError, match=words):
            attempt(archive)
    assert archive.read_bytes() == data


def test_a_bomb_is_not_unpacked(archive):
    zip_of(archive, {"zarr.json": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    data = bytearray(archive.read_bytes())
    for magic, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<L", data, data.find(magic) + at, 0xF0000000)
    archive.write_bytes(data)
    with pytest.raises(errors.NotARunError, match="has an impossible size"):
        checkpoint.open(archive)
    for magic, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<L", data, data.find(magic) + at, 1000)
    archive.write_bytes(data)
    with pytest.raises(errors.DamagedStoreError, match="does not unpack to 1000 bytes"):
        checkpoint.open(archive)


def test_a_directory_in_the_way_is_left_alone(tmp_path):
    (tmp_path / "fit.zip").mkdir()
    with pytest.raises(errors.NotARunError, match="is a directory, not a zip file"):
        sample(tmp_path / "fit.zip")


def test_a_store_of_zarr_that_is_open_for_writing_is_refused(archive):
    store = zarr.storage.ZipStore(archive, mode="w")
    zarr.open_group(store, mode="w")
    with pytest.raises(errors.ArgumentError, match="is open for writing"):
        sample(store)
    store.close()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_bytes_raise_anything_but_our_errors(data, live, tmp_path):
    source = bytearray(live.read_bytes())
    n = len(source)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, n - 1) | st.integers(n - 400, n - 1))
        source[at : at + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    path = tmp_path / "fuzzed.zip"
    path.write_bytes(source[: data.draw(st.integers(0, n) | st.just(n))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.DamageWarning)
        try:
            run = checkpoint.open(path)
            run.to_inferencedata(save_warmup=True)
        except errors.CheckpointError:
            pass


# Readers and processes.


def test_a_reader_follows_a_file_that_is_replaced(archive):
    reader = ZipStore(archive, read_only=True)
    assert reader.read("a") is None
    writer = ZipStore(archive)
    writer.lock()
    for i in range(5):
        writer.write({"a": str(i).encode(), f"b{i}": b""})
        assert reader.read("a") == str(i).encode()
        writer.compact()
        assert reader.read("a") == str(i).encode()
        assert len([*reader.keys()]) == i + 2
    writer.remove(["b1"])
    assert not reader.has("b1")
    writer.unlock()
    assert not ZipStore(archive).has("b1")


@pytest.mark.slow
def test_workers_hand_their_commits_to_one_process(archive):
    code = f"""
import sys; sys.path.insert(0, {str(SUPPORT)!r})
import checkpoint, models
if __name__ == "__main__":
    with models.eight_schools():
        checkpoint.sample({str(archive)!r}, mp_ctx=sys.argv[1], **{dict(ARGUMENTS, cores=2)!r})
"""
    script = archive.with_name("script.py")
    script.write_text(code)
    for method in ("spawn", "forkserver"):
        archive.unlink(missing_ok=True)
        subprocess.run([sys.executable, "-W", "ignore", script, method], check=True)
        again = sample(archive, model=eight_schools)
        other = sample(archive.with_name(f"{method}.zarr"), model=eight_schools)
        assert unequal(again, other) == []


def read_so_far() -> int:
    """Return the bytes that this process has asked the system for."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="needs /proc")
def test_recovery_reads_each_byte_at_most_once(archive):
    store = ZipStore(archive)
    store.write({f"k{i}": os.urandom(300_000) for i in range(60)})
    size = archive.stat().st_size
    os.truncate(archive, size - 3)
    before = read_so_far()
    assert len(ZipStore(archive, read_only=True).names("")) == 60
    # The search for an end record looks at the last 128 KiB, in vain.
    assert size <= read_so_far() - before <= size + (192 << 10)


def test_a_recovered_file_gives_each_chain_its_prefix(live):
    store = ZipStore(live)
    manifest = read_root.read_manifest(store)
    records = [recover(store, manifest, chain) for chain in range(2)]
    assert [record.n_rows for record in records] == [18, 13]


@pytest.mark.parametrize("back", [1, 2, 6])
def test_a_flipped_name_shows_no_older_value_in_its_place(back, live, whole, tmp_path):
    """Behind the last directory; what the file was before it is what is shown and gone on with."""
    path = tmp_path / "fit.zip"
    data = bytearray(live.read_bytes())
    data = data[: data.rfind(b"PK\x01\x02")]
    at = [at for at in range(len(data) - 4) if data[at : at + 4] == b"PK\x03\x04"][-1 - back]
    data[at + 30] ^= 1
    path.write_bytes(data)
    with pytest.warns(errors.DamageWarning, match="what follows is not used"):
        before = checkpoint.open(path).draw_idx
    assert (before <= rows_in(live)).all()
    with pytest.warns(errors.DamageWarning, match="drawn again"):
        assert unequal(sample(path), whole) == []
    [kept] = tmp_path.glob("fit.zip.damaged-*")
    assert data.endswith(kept.read_bytes())
