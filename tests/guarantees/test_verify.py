"""`verify` finds whatever is not as it was written, says what is intact, and changes nothing."""

import errno
import itertools
import json
import os
import shutil
import threading
import warnings
from pathlib import Path

import numpy as np
import pymc as pm
import pytest
import zarr
from click.testing import CliRunner

import checkpoint
from checkpoint import errors
from checkpoint.cli import main
from checkpoint.format.digests import RowDigest
from checkpoint.hierarchy import read_root
from checkpoint.recording.digesting import digest_keys
from checkpoint.recording.recovery import recover
from checkpoint.stores import ZipStore, as_store
from folders import FIXTURES
from forging import forge
from models import coal_disasters, eight_schools, normals
from places import KINDS
from settings import SMALL, slowly
from torture.damage import ARGUMENTS, CHAINS, CHUNK, DRAWS, TUNE, make_case, sample, small_model

TOTAL = TUNE + DRAWS


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return what makes a run, once for each kind."""
    found = {}

    def make(zarr_format=3, kind="zarr", interrupted=False):
        at = (zarr_format, kind, interrupted)
        if at not in found:
            folder = tmp_path_factory.mktemp("made")
            found[at] = make_case(zarr_format, kind == "zip", interrupted, folder).place
        return found[at]

    return make


@pytest.fixture
def store(made, tmp_path):
    """Return what copies such a run, to be changed."""

    def copy(zarr_format=3, kind="zarr", interrupted=False):
        source, target = made(zarr_format, kind, interrupted), tmp_path / f"fit.{kind}"
        return (shutil.copytree if source.is_dir() else shutil.copy)(source, target)

    return copy


def verify(place, replay=0, **arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.DamageWarning)
        run = checkpoint.open(place)
    if not replay:
        return run.verify()
    with small_model():
        step = pm.Metropolis()
        return run.verify(replay, random_seed=1, step=step, **arguments)


def files_of(place):
    paths = sorted(place.rglob("*")) if place.is_dir() else [place]
    return {path: path.read_bytes() for path in paths if path.is_file()}


def flip(path, at=-3):
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


# What is whole.


@pytest.mark.parametrize(
    ("kind", "zarr_format", "interrupted"),
    [
        ("zarr", 3, False),
        ("zip", 2, True),
        *(
            pytest.param(kind, zarr_format, interrupted, marks=pytest.mark.slow)
            for kind, zarr_format, interrupted in itertools.product(
                ("zarr", "zip"), (3, 2), (False, True)
            )
        ),
    ],
)
def test_a_whole_run_is_whole_and_nothing_is_written(kind, zarr_format, interrupted, store):
    place = store(zarr_format, kind, interrupted)
    before = files_of(place)
    found = verify(place, replay=1000)
    assert found.ok, str(found)
    assert not found.findings
    n_rows = [chain.n_rows for chain in found.chains]
    assert n_rows == ([TOTAL, TUNE + 4] if interrupted else [TOTAL] * CHAINS)
    assert [chain.n_intact for chain in found.chains] == n_rows
    assert found.n_replayed == sum(n_rows) - CHAINS  # all but the first of each
    assert found.n_values > 100
    assert "All is as it was written." in str(found)
    assert files_of(place) == before


@pytest.mark.parametrize(
    "kind",
    [
        "MemoryStore",
        pytest.param("FsspecStore in memory", marks=pytest.mark.slow),
        pytest.param("memory://", marks=pytest.mark.slow),
    ],
)
def test_a_run_in_other_stores_is_whole(kind, tmp_path):
    place = KINDS[kind](tmp_path)
    sample(place())
    assert checkpoint.open(place()).verify().ok


@pytest.mark.parametrize("kind", ["zarr", *slowly("zip")])
def test_a_run_is_whole_at_every_draw_while_it_is_written(kind, tmp_path):
    place, seen = tmp_path / f"fit.{kind}", []

    def look(trace, draw):
        seen.append(checkpoint.open(place).verify())

    sample(place, callback=look)
    assert len(seen) == CHAINS * TOTAL
    assert [str(found) for found in seen if found.findings] == []
    assert seen[-1].chains[1].n_rows >= TOTAL - 1


@pytest.mark.slow
@pytest.mark.parametrize("zarr_format", [3, 2])
@pytest.mark.parametrize("kind", ["zarr", "zip"])
def test_a_run_is_whole_beside_a_writer_that_does_not_wait(kind, zarr_format, tmp_path):
    place, seen, done = tmp_path / f"fit.{kind}", [], threading.Event()

    def look():
        while not done.is_set():
            try:
                seen.append(checkpoint.open(place).verify())
            except errors.RunNotFoundError:
                continue  # not yet

    thread = threading.Thread(target=look)
    thread.start()
    try:
        sample(place, draws=40, zarr_format=zarr_format)
        sample(place, draws=60)  # extended
    finally:
        done.set()
        thread.join()
    assert seen
    assert [str(found) for found in seen if found.findings] == []


@pytest.mark.parametrize("zarr_format", [3, *slowly(2)])
def test_an_extension_that_was_interrupted_is_no_damage(zarr_format, store):
    place = store(zarr_format)
    expected = checkpoint.open(place).posterior
    manifest = read_root.existing_manifest(as_store(place))
    keys = {path for path in files_of(place) if path.parent != place}
    root = {path: data for path, data in files_of(place).items() if path.parent == place}
    sample(place, draws=DRAWS + 20)
    # The documents of the longer run, and the root of the shorter: where a kill leaves it.
    for path in files_of(place):
        if path not in keys and path not in root:
            path.unlink()
    for path, data in root.items():
        path.write_bytes(data)
    for chain in range(CHAINS):
        spec = manifest.draw_idx_spec()
        as_store(place).write({spec.chunk_key(chain): spec.encode([TOTAL])})
    assert checkpoint.open(place).posterior.equals(expected)
    found = verify(place)
    assert found.ok, str(found)
    assert "was interrupted" in str(found)


@pytest.mark.parametrize("zarr_format", [3, *slowly(2)])
def test_what_users_add_with_zarr_is_no_damage(zarr_format, store):
    place = store(zarr_format)
    expected = checkpoint.open(place).posterior
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of zarr's, of format 3 with consolidated metadata
        root = zarr.open_group(place, mode="a", use_consolidated=False)
        root.attrs["author"] = "me"
        for _, node in root.members(max_depth=None):
            node.attrs["remark"] = "mine"
            node.attrs["units"] = "cm"
        root.create_group("mine").create_array("a", shape=(3,), dtype="f8")[:] = 1
        root["posterior"].create_array("mine", shape=(3,), dtype="f8")
        assert verify(place).ok
        zarr.consolidate_metadata(place)
    found = verify(place)
    assert found.ok, str(found)
    assert checkpoint.open(place).posterior.equals(expected)


def test_a_store_from_before_the_checksums_of_metadata_is_whole(store):
    place = store()
    path = place / "zarr.json"
    document = json.loads(path.read_text())
    for name in ("documents", "checksum"):
        del document["attributes"]["checkpoint"][name]
    path.write_text(json.dumps(document))
    found = verify(place)
    assert found.ok
    assert "without checksums of metadata" in str(found)
    flip(place / "posterior/s/c.1.0")
    assert not verify(place).ok


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::checkpoint.errors.ExactnessWarning")
def test_an_imported_run_is_whole_and_its_own_draws_are_made_again(tmp_path):
    arguments = {"draws": 40, "tune": 60, "chains": 2, "cores": 1, "random_seed": 3, **SMALL}
    with normals() as model:
        result = checkpoint.sample(
            tmp_path / "first.zarr", discard_tuned_samples=False, **arguments
        )
        checkpoint.convert(result, tmp_path / "fit.zarr", model=model, random_seed=5)
        assert checkpoint.open(tmp_path / "fit.zarr").verify().ok
        del arguments["random_seed"]
        checkpoint.sample(tmp_path / "fit.zarr", **(arguments | {"draws": 44}))
        found = checkpoint.open(tmp_path / "fit.zarr").verify(100)
    assert found.ok, str(found)
    assert found.n_replayed == 2 * 4  # those after the imported ones


@pytest.mark.slow
@pytest.mark.parametrize("step", ["DEMetropolis", "DEMetropolisZ", None])
@pytest.mark.parametrize("model", [eight_schools, coal_disasters, normals])
def test_draws_of_all_kinds_of_step_methods_are_made_again(model, step, tmp_path):
    if step and model is coal_disasters:
        pytest.skip("not for counts")
    with model():
        given = {"step": getattr(pm, step)()} if step else {}
        checkpoint.sample(
            tmp_path / "fit.zarr", draws=12, tune=12, chains=4, cores=1, **given, **SMALL
        )
        given = {"step": getattr(pm, step)()} if step else {}
        found = checkpoint.open(tmp_path / "fit.zarr").verify(40, random_seed=1, **given)
    assert found.ok, str(found)
    assert found.n_replayed == 40


# What is not.


def remove(path):
    path.unlink()


def put(before, after):
    def change(path):
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after))

    return change


def in_chain(chain, start, stop):
    return (chain, (start, stop))


NOWHERE = (None, None)

STATE = "_sampling_state/step_0/packed_i8/c.0.0.0"

DAMAGES = {
    "node": ("posterior/s/zarr.json", put('"freeRV"', '"freeRX"'), NOWHERE),
    "no document": ("constant_data/at/zarr.json", remove, NOWHERE),
    "group": ("observed_data/zarr.json", put('"group"', '"groop"'), NOWHERE),
    "stat's node": ("sample_stats/sampler_0__accept/zarr.json", put('"chain"', '"chaim"'), NOWHERE),
    "length": ("posterior/s/zarr.json", put(f"    {DRAWS}\n", "    2\n"), NOWHERE),
    "variable": ("posterior/s/c.1.1", flip, in_chain(1, TUNE + CHUNK, TOTAL)),
    "chunk cut short": ("posterior/s/c.1.0", lambda p: p.write_bytes(p.read_bytes()[:9]),
                        in_chain(1, TUNE, TUNE + CHUNK)),
    "stat": ("warmup_sample_stats/sampler_0__accept/c.0.0", flip, in_chain(0, 0, TUNE)),
    "state": (STATE, flip, in_chain(0, TUNE, TUNE + CHUNK)),
    "a column lacks rows": (STATE, remove, in_chain(0, TUNE, TUNE + CHUNK)),
    "coordinate": ("constant_data/place/c.0", flip, NOWHERE),
    "draw": ("posterior/draw/c.1", flip, NOWHERE),
    "data": ("observed_data/y/c.0", flip, NOWHERE),
    "initial point": ("_sampling_state/initial_point/s_log__/c.0", flip, NOWHERE),
    "clock": ("_sampling_state/sampling_time/c", remove, NOWHERE),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named_with_the_draws_that_it_affects(name, store):
    key, damage, (chain, draws) = DAMAGES[name]
    place = store()
    assert (place / key).exists()
    damage(place / key)
    found = verify(place)
    assert [(f.key, f.chain, f.draws) for f in found.findings] == [(key, chain, draws)]
    assert not found.ok
    for of_chain in found.chains:
        expected = (draws,) if of_chain.chain == chain else ()
        assert of_chain.lost == expected
        assert of_chain.n_intact == TOTAL - sum(b - a for a, b in expected)
    assert key in str(found)
    assert "Restore" in str(found)


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_one_damage_does_not_hide_another(zarr_format, store):
    place = store(zarr_format)
    c, document = ("c.", "zarr.json") if zarr_format == 3 else ("", ".zarray")
    keys = [
        f"constant_data/at/{document}",
        f"constant_data/place/{c}0",
        f"posterior/s/{c}0.0",
        f"posterior/s/{document}",
        f"sample_stats/sampler_0__accept/{c}1.1",
    ]
    for key in keys:
        flip(place / key)
    assert sorted(finding.key for finding in verify(place).findings) == sorted(keys)


def test_a_chunk_that_is_missing_at_the_end_is_damage(store):
    place = store()
    (place / "posterior/s/c.1.1").unlink()
    found = verify(place)
    assert [f.key for f in found.findings] == ["posterior/s/c.1.1"]
    assert [chain.n_rows for chain in found.chains] == [TOTAL, TUNE + CHUNK]


@pytest.mark.parametrize("change", ["tune", "lost checksum", "node type"])
def test_damage_in_the_root_is_named(change, store):
    place = store()
    path = place / "zarr.json"
    document = json.loads(path.read_text())
    if change == "tune":
        document["attributes"]["checkpoint"]["tune"] += 1
    elif change == "lost checksum":
        del document["attributes"]["checkpoint"]["checksum"]
    else:
        document["node_type"] = "grovp"
    path.write_text(json.dumps(document))
    done = CliRunner().invoke(main, ["verify", str(place)])
    assert done.exit_code == errors.DamagedStoreError.exit_code
    assert "zarr.json" in done.output
    if change == "tune":
        with pytest.raises(errors.DamagedStoreError, match=r"zarr\.json.*fails its checksum"):
            checkpoint.open(place)
        with pytest.raises(errors.DamagedStoreError):
            sample(place)


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_a_copy_of_metadata_that_differs_is_named(zarr_format, store):
    place = store(zarr_format)
    path = place / ("zarr.json" if zarr_format == 3 else ".zmetadata")
    document = json.loads(path.read_text())
    copies = (document["consolidated_metadata"] if zarr_format == 3 else document)["metadata"]
    copies["posterior/s" if zarr_format == 3 else "posterior/s/.zarray"]["shape"][0] = 7
    path.write_text(json.dumps(document))
    [finding] = verify(place).findings
    assert finding.key == path.name
    assert "posterior/s" in finding.reason


@pytest.mark.parametrize("zarr_format", [3, 2])
@pytest.mark.parametrize("is_gone", [True, False])
def test_a_chain_without_its_count_is_named_and_the_other_is_intact(is_gone, zarr_format, store):
    place = store(zarr_format)
    key = f"_sampling_state/draw_idx/{'c.1' if zarr_format == 3 else '1'}"
    (remove if is_gone else flip)(place / key)
    with pytest.raises(errors.DamagedStoreError, match=rf"{key}.*chain 1"):
        checkpoint.open(place)
    done = CliRunner().invoke(main, ["verify", str(place)])
    assert done.exit_code == errors.DamagedStoreError.exit_code
    assert key in done.output
    assert f"chain 0: {TOTAL} of {TOTAL} recorded draws" in done.output


@pytest.mark.parametrize(("damage", "at"), [(flip, 0), (flip, 1), (remove, 0)])
def test_lost_rows_of_the_log_are_counted(damage, at, tmp_path):
    place = tmp_path / "fit.zarr"

    def stop(trace, draw):
        if draw.chain == 1 and draw.draw_idx == TUNE + CHUNK + 1:
            raise KeyboardInterrupt

    sample(place, draws=10, draws_per_chunk=CHUNK, callback=stop)
    first = TUNE + CHUNK
    folder = place / "_sampling_state/log/c/1"
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"{first:012d}", f"{first + 1:012d}"]
    damage(folder / names[at])
    found = verify(place)
    assert [(f.chain, f.draws) for f in found.findings] == [(1, (first + at, first + 2))]
    assert found.findings[0].key.endswith(names[at])
    assert found.chains[1].n_rows == first + at
    assert "drawn again by checkpoint.sample" in str(found)


def test_a_damaged_value_of_a_zip_file_is_named_once(store):
    place = store(kind="zip")
    entry = ZipStore(place)._look().entries["posterior/s/c.0.0"]
    flip(place, entry.offset + 50 + len("posterior/s/c.0.0"))
    [finding] = verify(place).findings
    assert (finding.key, finding.chain) == ("posterior/s/c.0.0", 0)


def test_the_torn_end_of_a_zip_file_is_a_note(store):
    place = store(kind="zip", interrupted=True)
    data = place.read_bytes()
    place.write_bytes(data[:-5])
    found = verify(place)
    assert found.ok
    assert "not a whole entry" in str(found)


def with_another_value(place, key="posterior/s/c.1.0", with_digest=True):
    """Change the last bit of one draw, and write its chunk back whole, and the digest with it."""
    store = as_store(place)
    manifest = read_root.existing_manifest(store)
    [column] = [c for c in manifest.columns if c.path == "posterior/s"]
    spec = manifest.spec(column, warmup=False)
    values = spec.decode(store.read(key))
    values[0, 1] = np.nextafter(values[0, 1], 2.0)
    store.write({key: spec.encode(values)})
    if not with_digest:
        return
    digest = RowDigest.of_no_rows(manifest.run_id, 1, manifest.columns)
    record = recover(store, manifest, 1)
    rows = record.rows(0, record.n_sealed)
    digest = digest.after(manifest.columns, rows, record.n_sealed)
    store.write(digest_keys(manifest, 1, digest, digest))


def test_one_changed_value_with_a_right_checksum_is_no_draw_of_this_run(store):
    place = store()
    with_another_value(place, with_digest=False)
    assert [(f.key, f.chain) for f in verify(place).findings] == [("posterior/s", 1)]


@pytest.mark.parametrize("kind", ["zarr", *slowly("zip")])
def test_one_changed_value_with_right_checksums_is_found_by_replay_alone(kind, store):
    place = store(kind=kind)
    with_another_value(place)
    assert verify(place).ok
    found = verify(place, replay=1000)
    assert [(f.chain, f.draws) for f in found.findings] == [(1, (TUNE + 1, TUNE + 2))]
    assert "posterior/s" in found.findings[0].reason
    assert not found.ok
    assert found.chains[1].lost == ((TUNE + 1, TUNE + 2),)


@pytest.mark.slow
def test_a_draw_that_another_environment_may_explain_is_no_damage(store):
    place = store()
    with_another_value(place)
    forge(place, lambda attribute: attribute["environment"].update(numpy="1.0"))
    found = verify(place, replay=1000)
    assert found.ok
    assert "numpy: recorded as 1.0" in found.findings[0].reason
    assert "Not bit for bit" in str(found)


@pytest.mark.slow
def test_the_draws_to_make_again_are_chosen_by_a_seed(store):
    place = store()
    with_another_value(place)
    found = [len(_replay_one(place, seed).findings) for seed in (*range(TOTAL), *range(TOTAL))]
    assert set(found) == {0, 1}
    assert found[:TOTAL] == found[TOTAL:]


def _replay_one(place, seed):
    with small_model():
        return checkpoint.open(place).verify(1, random_seed=seed, step=pm.Metropolis())


# What is refused.


class Undeclared(pm.Metropolis):
    """A step method that declares no state."""

    _state_class = pm.step_methods.state.DataClassState


def test_pickled_states_are_verified_and_not_replayed(tmp_path):
    place = tmp_path / "fit.zarr"
    with normals():
        checkpoint.sample(
            place, step=Undeclared(), allow_pickle=True, **ARGUMENTS | {"commit_interval": 1.0}
        )
        assert checkpoint.open(place).verify().ok
        with pytest.raises(errors.UnsupportedStepError, match="at commits only"):
            checkpoint.open(place).verify(3, step=Undeclared(), allow_pickle=True)
    flip(place / "_sampling_state/step_0/pickle/c.0.0")
    [finding] = checkpoint.open(place).verify().findings
    assert (finding.chain, finding.draws) == (0, (TUNE, TUNE + CHUNK))


def test_a_store_of_pymcs_has_no_checksums(tmp_path):
    place = FIXTURES / "pymc_zarr/pymc5_finished.zip"
    with pytest.raises(errors.NotARunError, match=r"no checksums.*convert\("):
        checkpoint.open(place).verify()
    done = command(place)
    assert done.exit_code == errors.NotARunError.exit_code
    assert "no checksums" in done.output


@pytest.mark.slow
def test_chunks_without_any_checksum_are_said_to_be(tmp_path):
    place = tmp_path / "fit.zarr"
    sample(place, zarr_format=2, compressor=None)
    assert "no compressor have no checksum" in str(verify(place))


def test_another_model_or_argument_is_refused(store):
    run = checkpoint.open(store())
    with normals(), pytest.raises(errors.DifferentRunError):
        run.verify(1)
    with small_model(), pytest.raises(errors.DifferentRunError, match="step 0"):
        run.verify(1)
    with pytest.raises(errors.UnknownArgumentError, match="draws"):
        run.verify(1, draws=3)
    for wrong in (-1, 1.5):
        with pytest.raises(errors.ArgumentError, match="replay"):
            run.verify(wrong)
    with pytest.raises(errors.ArgumentError, match="step"):
        run.verify(step=None)


# The command.


def command(*arguments):
    return CliRunner().invoke(main, ["verify", *map(str, arguments)])


@pytest.mark.parametrize("kind", ["zarr", "zip"])
def test_the_command_says_that_a_run_is_whole(kind, made):
    done = command(made(kind=kind))
    assert done.exit_code == 0, done.output
    assert "All is as it was written." in done.output


@pytest.mark.slow
def test_the_command_makes_draws_again(tmp_path):
    file = tmp_path / "model.py"
    file.write_text("import pymc as pm\nwith pm.Model() as model:\n    pm.Poisson('k', 7.0)\n")
    with pm.Model():
        pm.Poisson("k", 7.0)
        checkpoint.sample(tmp_path / "fit.zarr", **ARGUMENTS)
    done = command(tmp_path / "fit.zarr", "--replay", 4, "--model", f"{file}:model", "--seed", 1)
    assert done.exit_code == 0, done.output
    assert "4 draws made again" in done.output


def test_the_command_reports_damage_and_its_exit_code_tells(store):
    place = store()
    flip(place / "posterior/s/c.0.1")
    done = command(place)
    assert done.exit_code == errors.DamagedStoreError.exit_code
    assert f"posterior/s/c.0.1 (draws {TUNE + CHUNK} to {TOTAL - 1} of chain 0)" in done.output
    assert f"chain 1: {TOTAL} of {TOTAL} recorded draws" in done.output


def test_the_command_fails_as_the_others_do(tmp_path, made):
    assert command(tmp_path / "none").exit_code == errors.RunNotFoundError.exit_code
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/photo.jpg").write_bytes(b"photo")
    assert command(tmp_path / "mine").exit_code == errors.NotARunError.exit_code
    done = command(made(), "--replay", 3)
    assert done.exit_code == errors.ArgumentError.exit_code
    assert "--model" in done.output


def test_a_root_that_is_gone_is_damage(store):
    for zarr_format, key in ((3, "zarr.json"), (2, ".zattrs")):
        place = store(zarr_format)
        (place / key).unlink()
        done = command(place)
        assert done.exit_code == errors.DamagedStoreError.exit_code
        assert key in done.output
        shutil.rmtree(place)


@pytest.mark.parametrize("name", ["EACCES", "EMFILE", "EIO"])
def test_what_this_process_cannot_read_is_not_called_damaged(name, store, monkeypatch):
    place, number, real = store(), getattr(errno, name), os.open

    def refused(path, *arguments, **named):
        if "/posterior/s/c." in Path(path).as_posix():
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *arguments, **named)

    monkeypatch.setattr("checkpoint.stores.directory.os.open", refused)
    if name == "EIO":  # of the disk, which may fail for one file: all others are looked at
        assert "copy the store to a sound disk" in str(verify(place))
        return
    with pytest.raises(errors.StoreUnreachableError):
        verify(place)
