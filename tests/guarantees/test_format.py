"""Stores are as `docs/format-v1.md` says: a reader written from it alone reads them, as Zarr does.

The reader uses json, struct, zlib, numpy and zstd. From `checkpoint` come only the stores, and
what they are compared with.
"""

import base64
import contextlib
import json
import pickle
import re
import shutil
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm
import pytest
import xarray
import zarr
from numcodecs.zstd import decompress

import checkpoint
from models import categorical, coal_disasters, eight_schools, normals, positive
from settings import SMALL, slowly
from ways_to_sample import StopAfter

# The reader.

_CRC32C_TABLE = list(range(256))
for _ in range(8):
    _CRC32C_TABLE = [n >> 1 ^ 0x82F63B78 * (n & 1) for n in _CRC32C_TABLE]
_HEADER = struct.Struct("<8sHHIQQQIQQ")


class RejectedError(Exception):
    """Bytes that a reader must reject."""


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC32C_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def checksum(value: Any) -> int:
    """Return the checksum of a JSON value (section 4)."""
    return crc32c(json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii"))


def bare(value: Any) -> Any:
    """Return a JSON value without members that are null or empty (section 4)."""
    if isinstance(value, list):
        return [bare(item) for item in value]
    if not isinstance(value, dict):
        return value
    members = {name: bare(item) for name, item in value.items()}
    members = {name: item for name, item in members.items() if item not in (None, [], {})}
    return members["name"] if list(members) == ["name"] else members


def is_of_dates(attributes: dict[str, Any]) -> bool:
    """Return whether an array holds dates or spans of time (section 3)."""
    units = {"seconds": "s", "milliseconds": "ms", "microseconds": "us", "nanoseconds": "ns"}
    word, since, _ = str(attributes.get("units")).partition(" since 1970-01-01")
    if since:
        return word in units
    dtype = attributes.get("dtype", "timedelta64[ns]")
    return word in units and dtype == f"timedelta64[{units[word]}]"


_MEMBERS_3 = (
    "zarr_format node_type shape data_type chunk_grid chunk_key_encoding fill_value codecs "
    "dimension_names"
)
_MEMBERS_2 = (
    "zarr_format shape chunks dtype compressor fill_value order filters dimension_separator"
)


class Reader:
    """A store, read as the document says; section numbers are those of the document."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.is_v3 = (root / "zarr.json").exists()
        attributes = self._json("zarr.json")["attributes"] if self.is_v3 else self._json(".zattrs")
        self.run = attributes["checkpoint"]
        assert self.run["format_version"] == 1
        without = {name: value for name, value in self.run.items() if name != "checksum"}
        if checksum(without) != self.run["checksum"]:
            raise RejectedError("the root")
        self.tune, self.total = self.run["tune"], self.run["tune"] + self.run["draws"]
        self.columns = {path: column for path, *column in self.run["columns"]}
        self.chains = [self._chain(chain) for chain in range(self.run["chains"])]

    def n_rows(self, chain: int) -> int:
        n_sealed, entries = self.chains[chain]
        return entries[-1][0] + entries[-1][1] if entries else n_sealed

    def values(self, path: str, chain: int) -> np.ndarray:
        """Return all recorded rows of a column that is not per commit (section 2, step 7)."""
        dtype, shape, _ = self.columns[path]
        n_sealed, entries = self.chains[chain]
        rows = [self.sealed(path, chain, r) for r in range(n_sealed)]
        rows += [row for _, _, data in entries for row in data[path]]
        values = np.empty((len(rows), *shape), dtype=object if dtype == "text" else dtype)
        for r, row in enumerate(rows):
            values[r] = row
        return values

    def sealed(self, path: str, chain: int, row: int) -> Any:
        """Return one sealed row (section 6)."""
        _, shape, per_commit = self.columns[path]
        start, size = (0, "warmup_chunk") if row < self.tune else (self.tune, "chunk")
        if row < self.tune:
            path = re.sub("^(_sampling_state/)?", r"\1warmup_", path)
        k, offset = divmod(row - start, self.run[size])
        return self.chunk(path, chain, k, *(0 for _ in shape))[0, 0 if per_commit else offset]

    def chunk(self, path: str, *index: int) -> np.ndarray:
        """Return one chunk (section 5); no index for the only chunk of an array."""
        if (path, index) not in self.__dict__.setdefault("_chunks", {}):
            self._chunks[path, index] = self._read_chunk(path, index)
        return self._chunks[path, index]

    def _read_chunk(self, path: str, index: tuple[int, ...]) -> np.ndarray:
        document = self._json(f"{path}/{'zarr.json' if self.is_v3 else '.zarray'}")
        grid = document["chunk_grid"]["configuration"] if self.is_v3 else {}
        shape = document["chunks"] if not self.is_v3 else grid["chunk_shape"]
        index = index or (0,) * len(shape)
        key = ".".join([*(["c"] if self.is_v3 else []), *map(str, index)]) or "0"
        data = (self.root / path / key).read_bytes()
        if self.is_v3:
            codecs = [codec["name"] for codec in document["codecs"]]
            data, crc = data[:-4], data[-4:]
            if codecs[-1] != "crc32c" or struct.unpack("<I", crc)[0] != crc32c(data):
                raise RejectedError(f"{path}/{key}")
            is_text, dtype = codecs[0] == "vlen-utf8", document["data_type"]
        else:
            codecs = [(document["compressor"] or {}).get("id")]
            is_text, dtype = bool(document["filters"]), document["dtype"]
        data = decompress(data) if "zstd" in codecs else data
        if not is_text:
            return np.frombuffer(data, np.dtype(dtype).newbyteorder("<")).reshape(shape)
        texts, at = [], 4
        for _ in range(struct.unpack_from("<I", data)[0]):
            [length] = struct.unpack_from("<I", data, at)
            texts.append(data[at + 4 : at + 4 + length].decode())
            at += 4 + length
        return np.array(texts, dtype=object).reshape(shape)

    def _chain(self, chain: int) -> tuple[int, list[tuple[int, int, dict[str, Any]]]]:
        """Return sealed draws and log entries (section 2, steps 2 to 5)."""
        n_sealed = int(self.chunk("_sampling_state/draw_idx", chain)[0])
        if not 0 <= n_sealed <= self.total:
            raise RejectedError(f"draw_idx {n_sealed}")
        while n_sealed and any(not self._has_row(p, chain, n_sealed - 1) for p in self.columns):
            start, size = (0, "warmup_chunk") if n_sealed <= self.tune else (self.tune, "chunk")
            n_sealed -= (n_sealed - 1 - start) % self.run[size] + 1
        folder = self.root / f"_sampling_state/log/c/{chain}"
        files = sorted(folder.iterdir()) if folder.exists() else []
        names = [file.name for file in files if re.fullmatch("[0-9]{12}", file.name)]
        entries, expected = [], n_sealed
        for name in (name for name in names if int(name) >= n_sealed):
            if int(name) < expected:
                continue
            if int(name) > expected:
                break
            try:
                n, data = self.entry((folder / name).read_bytes(), chain, int(name))
            except RejectedError:
                break
            entries.append((expected, n, data))
            expected += n
        return n_sealed, entries

    def _has_row(self, path: str, chain: int, row: int) -> bool:
        try:
            self.sealed(path, chain, row)
        except FileNotFoundError:
            return False
        return True

    def entry(self, data: bytes, chain: int, first: int) -> tuple[int, dict[str, Any]]:
        """Return the number of rows of a log entry, and its rows by column (section 9)."""
        if len(data) < 64 or len(data) != 64 + struct.unpack_from("<Q", data, 52)[0]:
            raise RejectedError("length")
        if zlib.crc32(data[:-4]) != struct.unpack("<I", data[-4:])[0]:
            raise RejectedError("checksum")
        *start, n, n_list, n_body, _ = _HEADER.unpack_from(data)
        if (
            start[:2] != [b"PMCKLOG\x01", 1]
            or start[3:] != [chain, self.run["run_id"], first]
            or n < 1
        ):
            raise RejectedError("header")
        body = decompress(data[60:-4])
        if len(body) != n_body or json.loads(body[:n_list]) != self.run["columns"]:
            raise RejectedError("body")
        rows, at = {}, n_list
        for path, (dtype, shape, per_commit) in self.columns.items():
            shape = (1 if per_commit else n, *shape)
            count = int(np.prod(shape))
            items = np.frombuffer(body, "<u4" if dtype == "text" else dtype, count, at)
            at += items.nbytes
            if dtype == "text":
                ends = [at, *(at + np.cumsum(items, dtype=int)).tolist()]
                texts = [body[a:b].decode() for a, b in pairwise(ends)]
                items, at = np.array(texts, dtype=object), ends[-1]
            rows[path] = items.reshape(shape)
        if at != len(body):
            raise RejectedError("rows")
        return n, rows

    def state(self, step_idx: int, chain: int, row: int) -> dict[str, Any]:
        """Return the state of a step method by dotted path (section 8)."""
        group, schema = f"_sampling_state/step_{step_idx}/", self.run["schemas"][step_idx]
        state = {
            path: self.chunk(group + path.replace(".", "/")) if text is None else plain(text)
            for path, text in schema["constants"].items()
        }
        for item in schema["fields"]:
            at = group + item["path"].replace(".", "/")
            if item["kind"] == "diagonal":
                state |= _diagonal(self, item, state, at, chain, row)
                continue
            state[item["path"]] = _KINDS[item["kind"]](self, item, at, chain, row)
        return state

    def at(self, path: str, chain: int, row: int) -> Any:
        key = ("row", path, chain)
        if key not in self._chunks:
            self._chunks[key] = self._unpacked(path, chain)
        return self._chunks[key][row]

    def _unpacked(self, path: str, chain: int) -> np.ndarray:
        """Return the rows of a column, which may be packed with others (section 8)."""
        for schema in self.run["schemas"]:
            group = f"_sampling_state/step_{schema['step_idx']}/"
            for pack, _, members in schema.get("packs", []):
                start = 0
                for member, dtype, shape in members:
                    stop = start + (shape[0] if shape else 1)
                    if group + member == path:
                        rows = self.values(group + pack, chain)[:, start:stop].astype(dtype)
                        return rows if shape else rows[:, 0]
                    start = stop
        return self.values(path, chain)

    def _json(self, key: str) -> Any:
        document = json.loads((self.root / key).read_text())
        if "/" in key and checksum(self.essential(key, document)) != self.run["documents"][key]:
            raise RejectedError(key)
        return document

    def essential(self, key: str, document: dict[str, Any]) -> Any:
        """Return what the checksum of a metadata document is of (section 4)."""
        path, name = key.rsplit("/", 1)
        attributes = document if name == ".zattrs" else document.get("attributes", {})
        of_ours = {}
        if attributes.get("kind") in ("freeRV", "deterministic"):
            of_ours["kind"] = attributes["kind"]
        if is_of_dates(attributes):
            of_ours |= {n: attributes.get(n) for n in ("units", "calendar", "dtype")}
        if name == ".zattrs":
            return bare({**of_ours, "dims": document.get("_ARRAY_DIMENSIONS")})
        names = _MEMBERS_3 if name == "zarr.json" else _MEMBERS_2
        found = {n: document.get(n) for n in names.split()}
        groups = {p.split("/")[0] for p in self.columns} - {"_sampling_state"}
        if self.run.get("grows"):  # of warm-up too
            path = re.sub("^(_sampling_state/)?warmup_", r"\1", path)
        if path in self.columns:
            found["shape"] = [None if i == 1 else n for i, n in enumerate(found["shape"])]
        if path in {f"{group}/draw" for group in groups}:
            found["shape"] = [None]
        return bare({**found, "attributes": of_ours} if name == "zarr.json" else found)


def _growing(reader: Reader, item: dict[str, Any], at: str, chain: int, row: int) -> list[Any]:
    length = reader.at(f"{at}/length", chain, row)
    return [reader.at(f"{at}/last", chain, r) for r in range(row + 1 - length, row + 1)]


def _generator(reader: Reader, item: dict[str, Any], at: str, chain: int, row: int) -> Any:
    high, low, inc_high, inc_low, has_uint32, uinteger = map(
        int, reader.at(f"{at}/state", chain, row)
    )
    n_children, *spawn_key = map(int, reader.at(f"{at}/seed_sequence", chain, row))
    return {
        "bit_generator": item["bit_generator"],
        "state": {"state": high * 2**64 + low, "inc": inc_high * 2**64 + inc_low},
        "has_uint32": has_uint32,
        "uinteger": uinteger,
        "entropy": json.loads(item["entropy"]),
        "spawn_key": tuple(spawn_key),
        "pool_size": item["pool_size"],
        "n_children_spawned": n_children,
    }


def _estimator(reader: Reader, item: dict[str, Any], at: str, chain: int, row: int) -> Any:
    if not reader.at(f"{at}/is_set", chain, row):
        return None
    names = ("_mean", "_variance")
    return {"_alpha": item["alpha"], **{n: reader.at(f"{at}/{n}", chain, row) for n in names}}


def _diagonal(
    reader: Reader, item: dict[str, Any], constants: dict[str, Any], at: str, chain: int, row: int
) -> dict[str, Any]:
    """Return the vectors of a mass matrix, by running all updates from the first draw on."""
    initial = {name: constants[f"{item['path']}.{name}"] for name in (
        "_initial_mean", "_initial_diag", "_initial_weight", "_discard_window", "_early_update",
        "adaptation_window_multiplier",
    )}  # fmt: skip
    points = [reader.at(path, chain, slice(None)) for path in item["points"]]
    samples = np.concatenate([point.reshape(len(point), -1) for point in points], axis=1)
    zeros, window = np.zeros(samples.shape[1]), item["window"]
    weight = float(initial["_initial_weight"])
    fore = [weight, initial["_initial_mean"] + zeros, initial["_initial_diag"] * weight]
    back = [0.0, zeros, zeros]
    var = np.asarray(initial["_initial_diag"], item["dtypes"][0])
    stds = np.sqrt(var)
    for k in range(reader.at(f"{at}/_n_samples", chain, row)):
        if k > initial["_discard_window"]:
            for one in (fore, back):
                difference = samples[k] - one[1]
                one[0] += 1
                one[1] = one[1] + difference / one[0]
                one[2] = one[2] + difference * (samples[k] - one[1])
        if initial["_early_update"] or k > window:
            var = np.clip((fore[2] / fore[0]).astype(var.dtype), 1e-12, 1e12)
            stds = np.sqrt(var)
        if k > 0 and k % window == 0:
            fore, back = back, [0.0, zeros, zeros]
            window = int(window * initial["adaptation_window_multiplier"])
    vectors = {"_var": var, "_stds": stds, "_inv_stds": 1 / stds}
    for name, one in (("_foreground_var", fore), ("_background_var", back)):
        vectors |= {f"{name}.mean": one[1], f"{name}.raw_var": one[2]}
    return {f"{item['path']}.{name}": vector for name, vector in vectors.items()}


def _varying(reader: Reader, item: dict[str, Any], at: str, chain: int, row: int) -> Any:
    length = reader.at(f"{at}/length", chain, row)
    return reader.at(f"{at}/values", chain, row)[:length]


def _one_column(reader: Reader, item: dict[str, Any], at: str, chain: int, row: int) -> Any:
    return reader.at(at, chain, row)


def _text(reader: Reader, item: dict[str, Any], at: str, chain: int, row: int) -> Any:
    return plain(reader.at(at, chain, row))


def plain(text: str) -> Any:
    """Return the value of a plain text, as far as states have such values (section 10)."""
    return json.loads(text, object_hook=_plain_object)


def _plain_object(value: dict[str, Any]) -> Any:
    kind, content = next(iter(value.items()), ("", None))
    if kind == "$tuple":
        return tuple(content)
    if kind in ("$array", "$scalar"):
        dtype, shape, data = content
        return np.frombuffer(base64.b64decode(data), dtype).reshape(shape)
    if kind == "$dict":
        return dict(content)
    assert not kind.startswith("$"), f"no state of the tests has a {kind}"
    return value


_KINDS: dict[str, Callable[..., Any]] = {
    "scalar": _one_column,
    "array": _one_column,
    "numbers": _one_column,
    "varying": _varying,
    "growing": _growing,
    "generator": _generator,
    "estimator": _estimator,
    "text": _text,
}

# The stores.

TUNE, DRAWS = 11, 13


@dataclass(frozen=True)
class Case:
    """A model and a way to sample it, with the kinds of state fields that it is here for."""

    model: Callable[[], pm.Model]
    kinds: set[str]
    step: Callable[[], Any] | None = None
    arguments: dict[str, Any] = field(default_factory=dict)

    def sample(self, root: Path, **extra: Any) -> Path:
        keywords = {
            "draws": DRAWS,
            "tune": TUNE,
            "chains": 2,
            "cores": 1,
            "random_seed": 5,
            "draws_per_chunk": 4,
            **SMALL,
            **self.arguments,
            **extra,
        }
        with self.model(), contextlib.suppress(checkpoint.errors.TooFewDrawsError):
            step = {"step": self.step()} if self.step else {}
            checkpoint.sample(root, **keywords, **step)
        return root


CASES = {
    "NUTS": Case(eight_schools, {"scalar", "diagonal", "growing", "generator"}),
    "past two windows": Case(
        positive, {"diagonal"}, arguments={"tune": 210, "draws": 5, "draws_per_chunk": 60}
    ),
    "compound": Case(coal_disasters, {"varying"}),
    "some variables": Case(positive, set(), arguments={"var_names": ["x"], "compressor": None}),
    "CategoricalGibbsMetropolis": Case(categorical, {"numbers"}),
    "DEMetropolisZ": Case(normals, {"growing"}, step=lambda: pm.DEMetropolisZ()),
    "dense mass matrix": Case(positive, {"array", "text"}, arguments={"init": "adapt_full"}),
    # PyMC cannot run this one in one process.
    "mass matrix from gradients": Case(
        positive, {"estimator"}, arguments={"init": "jitter+adapt_diag_grad", "cores": 2}
    ),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return what makes a finished store, once for each case and format."""
    made: dict[tuple[str, int], Path] = {}

    def make(name: str = "NUTS", zarr_format: int = 3) -> Path:
        if (name, zarr_format) not in made:
            root = tmp_path_factory.mktemp("finished") / "fit.zarr"
            made[name, zarr_format] = CASES[name].sample(root, zarr_format=zarr_format)
        return made[name, zarr_format]

    return make


@pytest.fixture(scope="module")
def _interrupted_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("interrupted") / "fit.zarr"
    at = TUNE + DRAWS + TUNE + 7  # with two rows of chain 1 in a chunk that is not full
    return CASES["NUTS"].sample(root, callback=StopAfter(at), commit_interval=0)


@pytest.fixture
def interrupted(_interrupted_once: Path, tmp_path: Path) -> Path:
    """Return a store with sealed chunks, and with log entries of one row each behind them."""
    return Path(shutil.copytree(_interrupted_once, tmp_path / "fit.zarr"))


def entries_of(root: Path, chain: int) -> list[Path]:
    return sorted((root / f"_sampling_state/log/c/{chain}").glob("0*"))


# The comparisons.

ARVIZ_NAMES = {
    "model_logp": "lp",
    "mean_tree_accept": "acceptance_rate",
    "depth": "tree_depth",
    "tree_size": "n_steps",
}


def assert_same(found: Any, expected: Any) -> None:
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    if expected.dtype == object:
        assert found.tolist() == expected.tolist()
        return
    assert found.dtype == expected.dtype
    assert found.tobytes() == expected.tobytes()  # not a number equals itself, -0.0 is not 0.0


def assert_reads_as_open(root: Path) -> None:
    """Hold that the reader finds every variable, stat and state that `open` does."""
    reader, run = Reader(root), checkpoint.open(root)
    assert [reader.n_rows(chain) for chain in range(run.chains)] == run.draw_idx.tolist()
    for prefix, phase in (("warmup_", slice(0, reader.tune)), ("", slice(reader.tune, None))):
        for group in ("posterior", "unconstrained_posterior", "sample_stats"):
            compare_group(reader, getattr(run, prefix + group), group, phase)
    for chain in range(run.chains):
        for row in range(reader.n_rows(chain)):
            for step_idx, expected in enumerate(run.sampling_state(chain, row)):
                compare_state(reader.state(step_idx, chain, row), expected)


def compare_group(reader: Reader, dataset: Any, group: str, phase: slice) -> None:
    by_name: dict[str, list[str]] = {}
    for path, (dtype, _, _) in reader.columns.items():
        if path.startswith(f"{group}/") and dtype != "text":
            name = path.removeprefix(f"{group}/").split("__", 1 if group == "sample_stats" else 0)
            by_name.setdefault(ARVIZ_NAMES.get(name[-1], name[-1]), []).append(path)
    if group == "sample_stats":
        by_name.pop("tune", None)
    assert set(by_name) == set(dataset.data_vars)
    for name, paths in by_name.items():
        for chain in dataset["chain"].values.tolist() if "chain" in dataset.coords else []:
            expected = dataset[name].sel(chain=chain).values
            found = [reader.values(path, chain)[phase][: len(expected)] for path in paths]
            assert_same(found[0] if len(found) == 1 else np.stack(found, axis=-1), expected)


def compare_state(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for path, value in found.items():
        inner: Any = expected
        for name in path.split("."):
            inner = inner[name]
        # The class of an owner is beside its attributes.
        assert_equal(
            value, inner["class"] if isinstance(inner, dict) and "class" in inner else inner
        )


def assert_equal(found: Any, expected: Any) -> None:
    if isinstance(expected, np.random.Generator):
        bit_generator = expected.bit_generator
        assert found == {**bit_generator.state, **bit_generator.seed_seq.state}
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_equal(found[key], value)
    elif expected is None or isinstance(expected, str):
        assert found == expected
    else:
        assert np.array_equal(found, expected, equal_nan=True)


# The promises.

FAST = ("past two windows", "dense mass matrix", "DEMetropolisZ")
"""Cases that are tried at every change; the others with the slow tests."""


def test_crc32c_gives_the_known_value():
    assert crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize("name", [*FAST, *slowly(*(name for name in CASES if name not in FAST))])
def test_a_reader_written_from_the_document_reads_a_finished_run_as_open_does(name, finished):
    root = finished(name)
    schemas = Reader(root).run["schemas"]
    assert CASES[name].kinds <= {item["kind"] for s in schemas for item in s["fields"]}
    assert not any(entries_of(root, chain) for chain in range(2))
    assert_reads_as_open(root)


@pytest.mark.parametrize("name", ["NUTS", "compound"])
def test_the_reader_reads_zarr_format_2_as_open_does(name, finished):
    assert_reads_as_open(finished(name, 2))


def test_the_reader_reads_rows_that_are_only_in_the_log_as_open_does(interrupted):
    reader = Reader(interrupted)
    n_sealed, entries = reader.chains[1]
    assert n_sealed == TUNE + 4
    assert len(entries) == 3
    assert reader.n_rows(1) == n_sealed + 3
    assert_reads_as_open(interrupted)


@pytest.mark.parametrize("at", [1, 3, TUNE, TUNE + 2, TUNE + DRAWS + 6])
def test_the_reader_reads_a_run_interrupted_anywhere_as_open_does(at, tmp_path):
    root = tmp_path / "fit.zarr"
    CASES["DEMetropolisZ"].sample(root, callback=StopAfter(at), zarr_format=2 + at % 2)
    assert Reader(root).n_rows(0) == min(at, TUNE + DRAWS)
    assert_reads_as_open(root)


def test_the_reader_sees_a_run_continued_and_extended(interrupted):
    CASES["NUTS"].sample(interrupted, draws=DRAWS + 6)
    assert Reader(interrupted).n_rows(1) == TUNE + DRAWS + 6
    assert_reads_as_open(interrupted)


def test_a_row_of_the_log_equals_the_same_row_sealed(interrupted, finished):
    part, whole = Reader(interrupted), Reader(finished("NUTS"))
    for path in part.columns:
        if "perf_counter" not in path and "process_time" not in path and "/clock/" not in path:
            n = part.n_rows(1)
            assert_same(part.values(path, 1), whole.values(path, 1)[:n])


@pytest.mark.filterwarnings("ignore::checkpoint.errors.DamageWarning")
def test_a_missing_entry_ends_what_is_recorded(interrupted):
    first, second, _ = entries_of(interrupted, 1)
    second.unlink()
    reader = Reader(interrupted)
    assert reader.n_rows(1) == int(first.name) + 1
    assert reader.n_rows(0) == TUNE + DRAWS
    assert_reads_as_open(interrupted)


def test_a_stale_entry_is_passed_over(interrupted):
    first = entries_of(interrupted, 1)[0]
    shutil.copy(first, first.with_name(f"{int(first.name) - 2:012d}"))
    assert Reader(interrupted).n_rows(1) == int(first.name) + 3
    assert_reads_as_open(interrupted)


@pytest.fixture
def merged(tmp_path):
    """Return a run with so many commits that they were merged, and the entries before that."""
    path, before = tmp_path / "fit.zarr", {}

    def look(trace, draw):
        if draw.draw_idx == 130:
            raise KeyboardInterrupt
        folder = path / "_sampling_state/log/c/0"
        if folder.exists():
            before.update({f.name: f.read_bytes() for f in folder.glob("0*")})

    with positive():
        checkpoint.sample(
            path, draws=60, tune=90, chains=1, cores=1, commit_interval=0, callback=look,
            random_seed=1, draws_per_chunk=1000, **SMALL,
        )  # fmt: skip
    return path, before


def test_merged_entries_are_read_as_one(merged):
    path, _ = merged
    names = [int(file.name) for file in entries_of(path, 0)]
    assert 0 < len(names) < 64
    assert_reads_as_open(path)


def test_entries_inside_the_one_before_them_are_passed_over(merged):
    path, before = merged
    first = int(entries_of(path, 0)[0].name)
    inside = {name: data for name, data in before.items() if int(name) > first}
    for name, data in inside.items():
        target = path / "_sampling_state/log/c/0" / name
        if not target.exists():
            target.write_bytes(data)
    assert len(entries_of(path, 0)) > 35
    assert_reads_as_open(path)


@pytest.mark.filterwarnings("ignore::checkpoint.errors.DamageWarning")
def test_a_chunk_missing_at_the_end_ends_what_is_recorded(tmp_path):
    path = tmp_path / "fit.zarr"
    with positive():
        checkpoint.sample(
            path, draws=20, tune=60, chains=2, cores=1, random_seed=1, draws_per_chunk=8, **SMALL
        )
    (path / "sample_stats/sampler_0__energy/c.1.2").unlink()
    assert [Reader(path).n_rows(chain) for chain in range(2)] == [80, 76]
    assert_reads_as_open(path)


@pytest.mark.filterwarnings("ignore::checkpoint.errors.DamageWarning")
def test_an_entry_under_another_name_ends_what_is_recorded(interrupted):
    first, second, _ = entries_of(interrupted, 1)
    shutil.copy(first, second)
    assert Reader(interrupted).n_rows(1) == int(first.name) + 1
    assert_reads_as_open(interrupted)


def test_every_flipped_byte_of_a_log_entry_is_detected(interrupted):
    reader = Reader(interrupted)
    first = entries_of(interrupted, 1)[0]
    data = first.read_bytes()
    assert reader.entry(data, 1, int(first.name))[0] == 1
    for at in range(len(data)):
        flipped = data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]
        with pytest.raises(RejectedError):
            reader.entry(flipped, 1, int(first.name))


@pytest.mark.filterwarnings("ignore::checkpoint.errors.DamageWarning")
def test_a_damaged_entry_ends_what_is_recorded(interrupted):
    first, second, _ = entries_of(interrupted, 1)
    data = bytearray(second.read_bytes())
    data[len(data) // 2] ^= 1
    second.write_bytes(data)
    assert Reader(interrupted).n_rows(1) == int(first.name) + 1
    assert_reads_as_open(interrupted)


def test_damaged_entries_are_set_aside_when_the_run_is_continued(interrupted):
    _, second, third = entries_of(interrupted, 1)
    data = second.read_bytes()[:-1]
    second.write_bytes(data)
    with pytest.warns(checkpoint.errors.DamageWarning):
        CASES["NUTS"].sample(interrupted)
    damaged = interrupted / "_sampling_state/log/damaged"
    assert {file.name for file in damaged.iterdir()} == {f"1-{second.name}", f"1-{third.name}"}
    assert (damaged / f"1-{second.name}").read_bytes() == data
    assert_reads_as_open(interrupted)


def test_a_flipped_byte_of_a_chunk_is_detected(interrupted):
    chunk = interrupted / "posterior/mu/c.0.1"
    data = bytearray(chunk.read_bytes())
    data[3] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(RejectedError):
        Reader(interrupted).values("posterior/mu", 0)
    with pytest.raises(checkpoint.errors.DamagedStoreError):
        _ = checkpoint.open(interrupted).posterior


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_every_document_has_the_checksum_that_the_reader_finds(zarr_format, finished):
    root = finished("NUTS", zarr_format)
    reader = Reader(root)
    names = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
    keys = {path.relative_to(root).as_posix() for name in names for path in root.rglob(name)}
    essential = {key: reader.essential(key, json.loads((root / key).read_text()))
                 for key in keys if "/" in key}  # fmt: skip
    assert reader.run["documents"] == {
        key: checksum(value) for key, value in essential.items() if value
    }
    assert len(reader.run["documents"]) > 80


def test_a_changed_digit_in_the_root_is_detected(interrupted):
    path = interrupted / "zarr.json"
    path.write_text(path.read_text().replace(f'"tune": {TUNE},', f'"tune": {TUNE - 1},', 1))
    with pytest.raises(RejectedError, match="the root"):
        Reader(interrupted)
    with pytest.raises(checkpoint.errors.DamagedStoreError, match=r"zarr\.json.*checksum"):
        checkpoint.open(interrupted)


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_a_changed_name_in_the_metadata_of_an_array_is_detected(zarr_format, finished, tmp_path):
    root = shutil.copytree(finished("NUTS", zarr_format), tmp_path / "fit.zarr")
    key = f"posterior/theta/{'zarr.json' if zarr_format == 3 else '.zattrs'}"
    (root / key).write_text((root / key).read_text().replace('"school"', '"schoom"'))
    with pytest.raises(RejectedError, match=key):
        Reader(root)._json(key)
    with pytest.raises(checkpoint.errors.DamagedStoreError, match=key):
        _ = checkpoint.open(root).posterior


# Zarr and xarray.


def arrays_of_phase(reader: Reader) -> Iterator[tuple[str, str, slice]]:
    for path in reader.columns:
        yield path, path, slice(TUNE, TUNE + DRAWS)
        yield path, re.sub("^(_sampling_state/)?", r"\1warmup_", path), slice(0, TUNE)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("consolidated", [True, False])
def test_zarr_reads_the_same_values_without_a_warning(zarr_format, consolidated, finished):
    root = finished("NUTS", zarr_format)
    reader = Reader(root)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        group = zarr.open_group(root, mode="r", use_consolidated=consolidated)
        members = dict(group.members(max_depth=None))
        arrays = {path: members[path][...] for _, path, _ in arrays_of_phase(reader)}
    assert group.metadata.zarr_format == zarr_format
    for column, path, phase in arrays_of_phase(reader):
        assert_equal_draws(reader, arrays[path], column, phase)


@pytest.mark.parametrize("name", ["NUTS", "compound"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_xarray_reads_the_same_values_without_a_warning(name, zarr_format, finished):
    root = finished(name, zarr_format)
    reader = Reader(root)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with xarray.open_datatree(root, engine="zarr") as tree:
            arrays = {path: tree[path].values for _, path, _ in arrays_of_phase(reader)}
            assert tree["posterior"].dims["draw"] == DRAWS
            assert tree["warmup_posterior"].dims["draw"] == TUNE
            if name == "NUTS":
                assert tree["posterior/theta"].dims == ("chain", "draw", "school")
                assert tree["posterior"]["school"].values.tolist() == list("ABCDEFGH")
    for column, path, phase in arrays_of_phase(reader):
        assert_equal_draws(reader, arrays[path], column, phase)


def test_zarr_and_xarray_open_an_interrupted_run_without_a_warning(interrupted):
    reader = Reader(interrupted)
    n = reader.chains[1][0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mu = zarr.open_group(interrupted, mode="r")["posterior/mu"][1]
        with xarray.open_datatree(interrupted, engine="zarr") as tree:
            again = tree["posterior/mu"].values[1]
    assert_same(mu[: n - TUNE], reader.values("posterior/mu", 1)[TUNE:n])
    assert_same(mu, again)


def assert_equal_draws(reader: Reader, array: Any, column: str, phase: slice) -> None:
    for chain, found in enumerate(array):
        if reader.columns[column][0] == "text":
            # xarray takes the fill value of format 2 for a missing item.
            found = [text if isinstance(text, str) else "" for text in found.tolist()]
            found = np.array(found, dtype=object)
        assert_same(found, reader.values(column, chain)[phase])


# No pickle.


def pickles_in(data: bytes) -> int:
    """Count the pickles of protocol 4 or 5: opcodes of version and frame, and a frame that fits."""
    starts = [match.start() for match in re.finditer(rb"(?=\x80[\x04\x05]\x95)", data)]
    lengths = [int.from_bytes(data[at + 3 : at + 11], "little") for at in starts]
    return sum(at + 11 + length <= len(data) for at, length in zip(starts, lengths, strict=True))


def contents(root: Path) -> Iterator[bytes]:
    """Yield every file, and what is packed in it."""
    for file in root.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            yield data
            at = 52 if data.startswith(b"PMCKLOG") else 0
            if data[at:].startswith(b"\x28\xb5\x2f\xfd"):
                yield decompress(data[at:-4])


@pytest.mark.slow
def test_no_file_of_a_store_holds_a_pickle(interrupted, finished):
    for root in (interrupted, *map(finished, CASES)):
        found = list(contents(root))
        assert len(found) > 100
        assert sum(map(pickles_in, found)) == 0


@pytest.mark.parametrize("protocol", [4, 5])
def test_the_search_for_pickles_finds_one(protocol):
    data = pickle.dumps({"mu": np.zeros(3)}, protocol=protocol)
    assert pickles_in(b"some bytes" + data + b"others") == 1


class Undeclared(pm.Metropolis):
    """A step method that declares no state."""

    _state_class = pm.step_methods.state.DataClassState


def test_a_step_method_without_a_state_is_text_of_each_commit(tmp_path):
    case = Case(normals, set(), lambda: Undeclared(), {"allow_pickle": True, "commit_interval": 0})
    root = case.sample(tmp_path / "fit.zarr", callback=StopAfter(TUNE + DRAWS + TUNE + 6))
    reader, path = Reader(root), "_sampling_state/step_0/pickle"
    assert reader.columns[path] == ["text", [], True]
    assert [schema["is_pickled"] for schema in reader.run["schemas"]] == [True]
    ends = [3, 7, TUNE - 1, TUNE + 3]
    texts = [reader.sealed(path, 1, row) for row in ends]
    texts += [data[path][0] for _, _, data in reader.chains[1][1]]
    assert len(texts) == len(ends) + 2
    assert all(re.fullmatch("[A-Za-z0-9+/]+=*", text) for text in texts)
    assert sum(map(pickles_in, contents(root))) == 0
    with pytest.raises(checkpoint.errors.UnsupportedStepError):
        checkpoint.open(root).sampling_state(1, 0)
