"""A store of somebody who means ill runs no code, takes no memory that it does not declare,
writes nothing to the terminal but text, and is not taken for whole when it is not."""

import json
import pickle
import shutil
import tarfile
import traceback
from pathlib import Path

import numcodecs
import numcodecs.pickles
import numpy as np
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner

import checkpoint
from checkpoint.cli import main
from checkpoint.errors import (
    ArgumentError,
    CheckpointError,
    CheckpointWarning,
    DamagedStoreError,
    RunLockedError,
    UnsupportedStepError,
)
from checkpoint.interop.importing.plain_zarr import PlainZarr
from checkpoint.interop.importing.trees import open_groups
from checkpoint.stores import as_store
from checkpoint.stores.holder import Holder
from folders import FIXTURES
from forging import forge

STORES = FIXTURES / "stores" / "2026-11-a"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Return a finished run in each Zarr format, in few files, to be copied and changed."""
    folder = tmp_path_factory.mktemp("small")
    with tarfile.open(STORES / "pymc6_zarr3_finished.tar.xz") as packed:
        packed.extractall(folder, filter="data")
    [place] = folder.iterdir()
    for zarr_format in (2, 3):
        target = folder / f"{zarr_format}.zarr"
        checkpoint.convert(place, target, zarr_format=zarr_format, draws_per_chunk=100)
    return folder


@pytest.fixture
def store(small, zarr_format, tmp_path):
    return shutil.copytree(small / f"{zarr_format}.zarr", tmp_path / "fit.zarr")


# Results of sampling that others keep.


@pytest.fixture(params=[2, 3])
def zarr_format(request):
    return request.param


def result() -> xr.DataTree:
    """Return what an import reads, with all kinds of arrays that xarray writes."""
    rng = np.random.default_rng(1)
    dims = ("chain", "draw")
    posterior = xr.Dataset(
        {
            "mu": (dims, rng.normal(size=(2, 50))),
            "k": (dims, rng.integers(0, 9, (2, 50))),
            "b": (dims, np.zeros((2, 50), bool)),
            "z": (dims, rng.normal(size=(2, 50)) * 1j),
            "t": ((*dims, "site"), rng.normal(size=(2, 50, 2)).astype("f4")),
        },
        {"site": ["a", "ü"], "when": ("draw", np.arange(50).astype("M8[ns]"))},
    )  # fmt: skip
    return xr.DataTree.from_dict(
        {
            "posterior": posterior,
            "sample_stats": xr.Dataset({"lp": (dims, rng.normal(size=(2, 50)))}),
        }
    )


ENCODINGS = {
    "as xarray does": lambda zarr_format: {},
    "without a compressor": lambda zarr_format: {"compressors": None},
    "blosc": lambda zarr_format: {
        "compressors": numcodecs.Blosc() if zarr_format == 2 else zarr.codecs.BloscCodec()
    },
    "two chunks": lambda zarr_format: {"chunks": (2, 20)},
}


def written(path: Path, zarr_format: int, encoding: str = "as xarray does") -> xr.DataTree:
    tree = result()
    settings = {"mu": ENCODINGS[encoding](zarr_format)}
    with pytest.warns() if zarr_format == 3 else _nothing():
        tree.to_zarr(path, zarr_format=zarr_format, encoding={"/posterior": settings})
    return tree


class _nothing:  # noqa: N801  # as the context managers of contextlib
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_result_that_nobody_forged_is_read_as_xarray_reads_it(encoding, zarr_format, tmp_path):
    tree = written(tmp_path / "idata.zarr", zarr_format, encoding)
    name, groups = open_groups(tmp_path / "idata.zarr", allow_pickle=False)
    assert name == str(tmp_path / "idata.zarr")
    assert sorted(groups) == ["posterior", "sample_stats"]
    for group, found in groups.items():
        assert found.identical(tree[group].to_dataset())
        assert {n: str(v.dtype) for n, v in found.data_vars.items()} == {
            n: str(v.dtype) for n, v in tree[group].data_vars.items()
        }


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """Return a file that code of a store would make, where numcodecs loads pickles."""
    monkeypatch.setattr(numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    with zarr.config.set({"array.allow_unsafe_pickle_decode": True}):  # of newer zarr
        yield tmp_path / "trap"


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def forged(path: Path, trap: Path, folder: str, place: str) -> None:
    """Add to a result of Zarr format 2 an array that runs code where it is decoded."""
    array = path / folder
    array.mkdir(parents=True, exist_ok=True)
    document = {
        "zarr_format": 2, "shape": [2, 50], "chunks": [2, 50], "dtype": "<f8", "fill_value": None,
        "order": "C", "filters": None, "compressor": None, "dimension_separator": ".",
    }  # fmt: skip
    document |= {
        "compressor": {
            "dtype": "|O",
            "compressor": {"id": "pickle"},
            "filters": [{"id": "vlen-utf8"}],
        },
        "filters": {"filters": [{"id": "delta", "dtype": "<f8"}, {"id": "pickle"}]},
        "object": {"dtype": "|O", "filters": [{"id": "pickle"}]},
        "after text": {"dtype": "|O", "filters": [{"id": "vlen-utf8"}, {"id": "pickle"}]},
    }[place]
    (array / ".zarray").write_text(json.dumps(document))
    (array / ".zattrs").write_text('{"_ARRAY_DIMENSIONS": ["chain", "draw"]}')
    (array / "0.0").write_bytes(pickle.dumps(Trap(trap)))


FOLDERS = ("posterior/.hid", "posterior/mu", "posterior/.hid/.hid", ".hid/x", "prior/x")


@pytest.mark.parametrize("place", ["compressor", "filters", "object", "after text"])
def test_no_array_of_a_result_runs_code_wherever_it_lies(place, trap, tmp_path):
    """Names with a dot are in no listing of ours, and in those of zarr."""
    written(tmp_path / "whole", 2)
    (tmp_path / "whole/.zmetadata").unlink()
    for i, folder in enumerate(FOLDERS):
        path = tmp_path / f"{i}.zarr"
        shutil.copytree(tmp_path / "whole", path)
        forged(path, trap, folder, place)
        try:
            groups = open_groups(path, allow_pickle=False)[1]
            assert i > 1  # what lies where no node is may be left out
            assert ".hid" not in groups
        except UnsupportedStepError as error:
            assert folder in str(error)  # noqa: PT017
    assert not trap.exists()


@pytest.mark.parametrize("place", ["compressor", "after text"])
def test_the_trap_is_one_where_nothing_is_checked(place, trap, tmp_path):
    path = tmp_path / "idata.zarr"
    written(path, 2)
    forged(path, trap, "posterior/.hid", place)
    (path / ".zmetadata").unlink()
    with pytest.raises(CheckpointError):  # of what the pickle is not
        open_groups(path, allow_pickle=True)
    assert trap.exists()


def test_a_document_that_only_the_copy_names_is_not_followed(trap, tmp_path):
    path = tmp_path / "idata.zarr"
    written(path, 2)
    forged(path, trap, "posterior/k", "compressor")
    harmful = json.loads((path / "posterior/k/.zarray").read_text())
    copies = json.loads((path / ".zmetadata").read_text())
    copies["metadata"]["posterior/k/.zarray"] = harmful
    (path / ".zmetadata").write_text(json.dumps(copies))
    edit(path / "posterior/k/.zarray", compressor=None, dtype="<f8", filters=None)
    with pytest.raises(ArgumentError):
        open_groups(path, allow_pickle=False)
    assert not trap.exists()


def test_what_another_spelling_of_a_name_leads_to_is_checked(trap, tmp_path, monkeypatch):
    """A file system without cases has `.ZARRAY` where zarr asks for `.zarray`."""
    path = tmp_path / "idata.zarr"
    written(path, 2)
    forged(path, trap, "posterior/mu", "compressor")
    (path / "posterior/mu/.zarray").rename(path / "posterior/mu/.ZARRAY")
    store = as_store(path)
    read, has = store.read, store.has

    def spelt(key: str) -> str:
        return key.replace("mu/.zarray", "mu/.ZARRAY")

    monkeypatch.setattr(store, "read", lambda key: read(spelt(key)))
    monkeypatch.setattr(store, "has", lambda key: has(spelt(key)))
    with pytest.raises(UnsupportedStepError, match=r"posterior/mu/\.zarray"):
        open_groups(store, allow_pickle=False)
    assert not trap.exists()


HARMFUL_V3 = {
    "pickle": {"codecs": [{"name": "bytes"}, {"name": "numcodecs.pickle"}]},
    "astype": {"codecs": [{"name": "numcodecs.astype", "configuration": {
        "encode_dtype": "<f8", "decode_dtype": "S20000000"}}, {"name": "bytes"}]},
    "vlen-array": {"codecs": [{"name": "vlen-array"}]},
    "after zstd": {"codecs": ["bytes", "zstd", {"name": "numcodecs.packbits"}]},
    "sharding": {"codecs": [{"name": "sharding_indexed", "configuration": {
        "chunk_shape": [1, 1], "codecs": [{"name": "numcodecs.pickle"}], "index_codecs": []}}]},
    "no codecs": {"codecs": []},
    "objects": {"data_type": "object"},
    "a struct": {"data_type": {"name": "struct", "configuration": {"fields": []}}},
    "wide": {"data_type": {"name": "null_terminated_bytes", "configuration": {
        "length_bytes": 1 << 40}}},
    "a transformer": {"storage_transformers": [{"name": "x"}]},
    "a grid": {"chunk_grid": {"name": "rectilinear", "configuration": {"chunk_shape": [1, 1]}}},
    "a large chunk": {"chunk_grid": {"name": "regular", "configuration": {
        "chunk_shape": [1 << 20, 1 << 20]}}},
}  # fmt: skip


@pytest.mark.parametrize("change", HARMFUL_V3)
def test_what_is_not_known_of_format_3_is_refused(change, tmp_path):
    path = tmp_path / "idata.zarr"
    written(path, 3)
    for name in ("mu", ".hid"):
        document = json.loads((path / "posterior/mu/zarr.json").read_text())
        (path / "posterior" / name).mkdir(exist_ok=True)
        (path / "posterior" / name / "zarr.json").write_text(
            json.dumps(document | HARMFUL_V3[change])
        )
        plain = PlainZarr(as_store(path))
        assert plain.read(f"posterior/{name}/zarr.json") is None
        with pytest.raises(UnsupportedStepError, match=f"posterior/{name}/zarr.json"):
            plain.check()
    with pytest.raises(UnsupportedStepError, match="Nothing was loaded"):
        open_groups(path, allow_pickle=False)


def test_a_chunk_unpacks_to_no_more_than_its_document_has_room_for(zarr_format, tmp_path):
    path = tmp_path / "idata.zarr"
    written(path, zarr_format)
    [chunk] = [p for p in (path / "posterior/mu").rglob("*") if p.is_file() and p.name[-1] in "01"]
    if zarr_format == 2:
        edit(path / "posterior/mu/.zarray", compressor={"id": "zstd"})
    chunk.write_bytes(bytes(numcodecs.Zstd().encode(bytes(1 << 28))))
    with pytest.raises(ArgumentError, match=r"unpacks to 268435456 bytes, expected at most 800"):
        open_groups(path, allow_pickle=False)


def test_a_document_alone_makes_no_room(zarr_format, tmp_path):
    path = tmp_path / "idata.zarr"
    written(path, zarr_format)
    for name in ("k", "b"):
        document = path / "posterior" / name / (".zarray" if zarr_format == 2 else "zarr.json")
        edit(document, shape=[1 << 20, 1 << 20])
    with pytest.raises(ArgumentError):
        open_groups(path, allow_pickle=False)
    for group in ("posterior", "sample_stats"):
        for document in (path / group).glob("*/.zarray" if zarr_format == 2 else "*/zarr.json"):
            shape = json.loads(document.read_text())["shape"]
            grown = {50: 1 << 20, 2: 1 << 20}
            edit(document, shape=[grown.get(n, n) if len(shape) > 1 else n for n in shape])
    with pytest.raises(ArgumentError):
        open_groups(path, allow_pickle=False)


# Our own runs.


@pytest.mark.parametrize(
    "compressor",
    [
        {"name": "numcodecs.astype", "configuration": {
            "encode_dtype": "S1", "decode_dtype": "S20000000"}},
        {"name": "numcodecs.vlen-array", "configuration": {"dtype": "<i4"}},
        {"name": "numcodecs.pickle", "configuration": {}},
        {"name": "NUMCODECS.Pickle", "configuration": {}},
    ],
    ids=lambda compressor: compressor["name"],
)  # fmt: skip
def test_a_run_that_names_an_unknown_compressor_is_not_opened(compressor, store, tmp_path):
    forge(store, lambda found: found.update(compressor=compressor))
    for use in (checkpoint.open, lambda place: checkpoint.convert(place, tmp_path / "new.zarr")):
        with pytest.raises(DamagedStoreError, match="Nothing was loaded"):
            use(store)
    assert not checkpoint.verify(store).ok
    assert not (tmp_path / "new.zarr").exists()


def test_a_run_in_chunks_of_no_bounds_is_not_opened(store):
    forge(store, lambda found: found.update(chunk=10**9))
    with pytest.raises(DamagedStoreError, match=r"a chunk of .* would take"):
        checkpoint.open(store)


# What reaches a terminal.

EVIL = "\x1b[2J\x1b]0;owned\x07\u202elaw\u200e\x9b31m\r"


def shown_by(use) -> str:
    """Return what a person sees of an error: its traceback, with all that it came from."""
    try:
        return repr(use())
    except (CheckpointError, CheckpointWarning) as error:
        return "".join(traceback.format_exception(error, limit=0)) + str(error)


def assert_printable(text: str, *parts: str) -> None:
    assert [c for c in text if c != "\n" and not c.isprintable()] == []
    for part in parts:
        assert part in text


def with_evil_column(store: Path) -> None:
    """Give a variable a name that moves the cursor, wherever the manifest has it."""

    def change(found):
        text = json.dumps(found).replace("posterior/mu", json.dumps(f"posterior/{EVIL}")[1:-1])
        found.update(json.loads(text.replace('"mu"', json.dumps(EVIL))))

    forge(store, change)


def test_names_of_a_store_reach_a_terminal_escaped(store):
    with_evil_column(store)
    report = checkpoint.verify(store)
    assert not report.ok
    assert any(EVIL in finding.key + finding.reason for finding in report.findings)
    assert_printable(str(report), "x1b[2J", "u202e")
    for finding in report.findings:
        assert_printable(str(finding))
    result = CliRunner().invoke(main, ["verify", str(store)])
    assert_printable(result.output, "x1b[2J", "u202e")
    for use in (lambda: checkpoint.open(store).posterior, lambda: checkpoint.open(store)):
        assert_printable(shown_by(use))


@pytest.mark.parametrize("zarr_format", [3])
def test_a_refused_manifest_is_told_of_in_plain_text(store):
    forge(store, lambda found: found["columns"].append([f"posterior/{EVIL}", EVIL, [], False]))
    assert_printable(shown_by(lambda: checkpoint.open(store)), "x1b[2J")


@pytest.mark.parametrize("zarr_format", [3])
def test_a_line_of_a_report_is_one_finding(store):
    forge(store, lambda found: found["documents"].update({"x\nAll is as it was written.": 5}))
    lines = str(checkpoint.verify(store)).splitlines()
    assert "All is as it was written." not in lines


@pytest.mark.parametrize("zarr_format", [3])
def test_the_host_that_holds_a_run_is_escaped(store):
    place = as_store(store)
    place.lock()
    try:
        holder = Holder(EVIL, 1, 0.0, "", "", "")
        (store / "_sampling_state/log/.holder").write_text(json.dumps(holder.to_json()))
        assert_printable(str(holder), "x1b[2J")
        other = as_store(store)
        with pytest.raises(RunLockedError) as caught:
            other.lock()
        assert_printable(str(caught.value), "x1b[2J")
    finally:
        place.unlock()


def test_results_of_others_are_refused_in_plain_text(tmp_path):
    path = tmp_path / "idata.zarr"
    written(path, 2)
    shutil.copytree(path / "posterior/mu", path / "posterior" / EVIL)
    edit(path / "posterior" / EVIL / ".zarray", compressor={"id": EVIL})
    assert_printable(shown_by(lambda: open_groups(path, allow_pickle=False)), "x1b[2J")
    edit(path / "posterior" / EVIL / ".zarray", compressor=None, fill_value=EVIL)
    assert_printable(shown_by(lambda: open_groups(path, allow_pickle=False)))


# What a reader of Zarr follows is verified.


def damaged_copies(zarr_format: int) -> dict:
    """Return changes of the copy of all metadata, by what they do to xarray."""

    def put(old: str, new: str, start: str = ""):
        def change(text: str) -> str:
            at = text.index(start, text.find('"consolidated_metadata"') if zarr_format == 3 else 0)
            assert old in text[at:]
            return text[:at] + text[at:].replace(old, new, 1)

        return change

    node = '"posterior/mu"' if zarr_format == 3 else '"posterior/mu/.zarray"'
    start = '"posterior/theta"' if zarr_format == 3 else '"posterior/theta/.zattrs"'
    dtypes = ('"float64"', '"float16"') if zarr_format == 3 else ("<f8", "<f4")
    kind = ('"inline"', '"inlinf"') if zarr_format == 3 else ('_format": 1', '_format": 2')
    changes = {
        "another kind of copy": put(*kind),
        "another name": put(node, node.replace("mu", "mv")),
        "another dimension": put('"school"', '"schooi"', start),
        "another length": put("30", "90", node),
        "another dtype": put(*dtypes, node),
        "another chunk key": put(*(('"."', '"/"')), node),
        "a factor": put("{", '{"scale_factor": 0, ', start),
    }  # fmt: skip
    if zarr_format == 3:
        changes["a factor"] = put('"kind"', '"scale_factor": 0, "kind"', node)

    def left_out(text: str) -> str:
        document = json.loads(text)
        holder = document if zarr_format == 2 else document["consolidated_metadata"]
        del holder["metadata"][node.strip('"')]
        return json.dumps(document)

    return changes | {"a node left out": left_out}


CHANGES = sorted(damaged_copies(2).keys() | damaged_copies(3).keys())


@pytest.mark.parametrize("change", CHANGES)
def test_damage_in_the_copy_that_readers_follow_is_found(change, zarr_format, store):
    assert checkpoint.verify(store).ok
    path = store / ("zarr.json" if zarr_format == 3 else ".zmetadata")
    text = path.read_text()
    changed = damaged_copies(zarr_format)[change](text)
    assert changed != text
    path.write_text(changed)
    report = checkpoint.verify(store)
    assert [finding.key for finding in report.findings] == [path.name] * len(report.findings)
    assert not report.ok
    assert [chain.n_intact for chain in report.chains] == [55, 55]


def attributes_of(store: Path, path: str, **added) -> None:
    if (store / "zarr.json").exists():
        document = json.loads((store / path / "zarr.json").read_text())
        document["attributes"] |= added
        (store / path / "zarr.json").write_text(json.dumps(document))
        return
    edit(store / path / ".zattrs", **added)


MISLEADING = {
    "scale_factor": 0, "add_offset": 1.0, "_FillValue": "AAAAAAAA8D8=", "missing_value": 1.0,
    "dtype": "bool", "_Unsigned": "true", "units": "days since 2000-01-01",
}  # fmt: skip


@pytest.mark.parametrize("name", MISLEADING)
@pytest.mark.parametrize("path", ["posterior/mu", "posterior/draw", "_sampling_state/tuning_steps"])
def test_attributes_that_change_what_readers_show_are_found(name, path, store):
    attributes_of(store, path, **{name: MISLEADING[name]})
    report = checkpoint.verify(store)
    assert [finding.key.rpartition("/")[0] for finding in report.findings] == [path]
    assert name in report.findings[0].reason
    assert checkpoint.open(store).posterior["mu"].dtype == np.float64  # which does not follow them


def test_what_users_add_is_no_damage(zarr_format, store):
    attributes_of(store, "posterior/mu", units="kg", long_name="mean", valid_min=0)
    root = zarr.open_group(store, mode="a", zarr_format=zarr_format, use_consolidated=False)
    root.attrs["mine"] = "note"
    added = root["posterior"].create_array("mine", shape=(3,), dtype="f4")
    added.attrs["scale_factor"] = 2
    added[:] = 1
    with pytest.warns():  # of the folders that are no nodes, by zarr
        zarr.consolidate_metadata(str(store), zarr_format=zarr_format)
    report = checkpoint.verify(store)
    assert report.findings == ()
    shutil.rmtree(store / "posterior/mine")
    assert checkpoint.verify(store).ok
    assert "is not in the store" in str(checkpoint.verify(store))
