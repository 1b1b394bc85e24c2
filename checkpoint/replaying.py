"""Make recorded draws again, from the state before them: what no checksum can find shows here."""

import contextlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from checkpoint import hierarchy
from checkpoint._pymc.exactness import exact_compilation
from checkpoint._pymc.model import current_model
from checkpoint._pymc.progress import quietly
from checkpoint.arguments import Options, check_options, step_arguments
from checkpoint.chain import ChainTask
from checkpoint.driving import task_of
from checkpoint.errors import (
    ArgumentError,
    CheckpointError,
    DamagedStoreError,
    ExactnessWarning,
    NotARunError,
    UnknownArgumentError,
    UnsupportedStepError,
)
from checkpoint.manifest import Manifest, environment, environment_changes
from checkpoint.population import repeat_together
from checkpoint.recovery import ChainRecord, recover_all
from checkpoint.rehearsal import repeat, unequal_columns
from checkpoint.rows import Values
from checkpoint.run import ActiveRun, arguments_of, as_before, as_recorded
from checkpoint.stores import Store
from checkpoint.verification import Finding, Verification
from checkpoint.verifying import verify_store

__all__ = ["verify_run"]

_OF_SETUP = frozenset(
    [
        "backend",
        "blas_cores",
        "chains",
        "compile_kwargs",
        "cores",
        "init",
        "initvals",
        "jitter_max_retries",
        "mp_ctx",
        "n_init",
        "step",
        "tune",
        "var_names",
    ]
)
"""Arguments of `sample` that the set-up of PyMC depends on."""


def verify_run(
    store: Store, n_replay: int, model: Any, random_seed: Any, arguments: Mapping[str, Any]
) -> Verification:
    """Return what is damaged in a store; make draws again, if any are asked for.

    Parameters and errors are those of `Run.verify`.

    Notes
    -----
    Durability: nothing is written, and no lock is taken.
    """
    if not isinstance(n_replay, int | np.integer) or n_replay < 0:
        raise ArgumentError(f"replay={n_replay!r}: expected a whole number, 0 or more.")
    if arguments and not n_replay:
        raise ArgumentError(f"{', '.join(arguments)}: only for draws that are made again (replay).")
    if n_replay:
        with contextlib.suppress(DamagedStoreError, NotARunError):  # told of by what follows
            _check_can_be_repeated(store, hierarchy.existing_manifest(store))
    report = verify_store(store)
    if not n_replay or not report.chains:
        return report
    manifest = hierarchy.existing_manifest(store)
    draws = _choice(manifest, report, int(n_replay), np.random.default_rng(random_seed))
    options = as_recorded(manifest, _options(manifest, arguments))
    with (
        warnings.catch_warnings(),
        quietly(True),
        exact_compilation(bool(options.fastmath)),
    ):
        warnings.simplefilter("ignore", ExactnessWarning)  # said in the findings
        setup = arguments_of(options, current_model(model))
        run = as_before(store, manifest, options, setup)
        findings = _repeat_all(run, draws)
    notes = list(report.notes)
    if len(draws) < n_replay:
        notes.append(f"only {len(draws)} draws have a recorded, intact state before them.")
    findings = [*report.findings, *findings]
    return replace(report, n_replayed=len(draws), notes=tuple(notes)).with_findings(findings)


def _check_can_be_repeated(store: Store, manifest: Manifest) -> None:
    pickled = [str(schema["name"]) for schema in manifest.schemas if schema["is_pickled"]]
    if pickled:
        raise UnsupportedStepError(
            f"{store.name}: the state of {', '.join(pickled)} is kept as a pickle, at commits "
            "only; draws cannot be made again from it here. Leave replay out."
        )


def _options(manifest: Manifest, arguments: Mapping[str, Any]) -> Options:
    other = sorted((arguments.keys() & Options.__dataclass_fields__.keys()) - _OF_SETUP)
    if other:
        raise UnknownArgumentError(
            f"{', '.join(other)}: what is recorded does not depend on it, or the store knows it. "
            "Leave it out."
        )
    ours = {name: value for name, value in arguments.items() if name in _OF_SETUP}
    others = {name: value for name, value in arguments.items() if name not in _OF_SETUP}
    options = Options(
        draws=manifest.draws, quiet=True, progressbar=False, step_kwargs=step_arguments(others),
        **ours,
    )  # fmt: skip
    check_options(options)
    return options


def _choice(
    manifest: Manifest, report: Verification, n: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Return draws as (chain, draw), chosen among those that can be repeated, without twins."""
    lost = [finding for finding in report.findings if finding.draws is not None]
    able = [
        (chain.chain, draw_idx)
        for chain in report.chains
        for draw_idx in range(1 + manifest.first_state(chain.chain), chain.n_rows)
        if not any(
            finding.chain == chain.chain and start <= draw_idx and draw_idx - 1 < stop
            for finding in lost
            for start, stop in [finding.draws or (0, 0)]
        )
    ]
    chosen = rng.permutation(len(able))[:n].tolist()
    return [able[i] for i in sorted(chosen)]


def _repeat_all(run: ActiveRun, draws: Sequence[tuple[int, int]]) -> list[Finding]:
    records = recover_all(run.store, run.manifest)
    tasks = [task_of(run, record.chain, 0.0) for record in records]
    why = _why_not_exact(run.manifest)
    findings = []
    for chain, draw_idx in draws:
        global_state = np.random.get_state()
        try:
            made = records[chain].rows(draw_idx, draw_idx + 1)
            again = _again(run, tasks, records, chain, draw_idx)
            reason = _difference(made, again)
        except DamagedStoreError as error:
            reason = f"it could not be made again: {error}"
        except CheckpointError:
            raise
        except Exception as error:  # a state that was changed may make a step method fail
            reason = (
                f"made again from the state before it, it fails: {type(error).__name__}: {error}"
            )
        finally:
            np.random.set_state(global_state)
        if reason:
            at = (draw_idx, draw_idx + 1)
            findings.append(Finding("replay", reason + why, chain, at, is_damage=not why))
    return findings


def _again(
    run: ActiveRun,
    tasks: Sequence[ChainTask],
    records: Sequence[ChainRecord],
    chain: int,
    draw_idx: int,
) -> Mapping[str, Values]:
    if run.preparation.is_population:
        return repeat_together(tasks, records, draw_idx)[chain]
    return repeat(tasks[chain], records[chain], draw_idx)


def _difference(made: Mapping[str, Values], again: Mapping[str, Values]) -> str:
    differing = unequal_columns(made, again)
    if not differing:
        return ""
    return (
        f"it does not follow from the state recorded before it: {', '.join(differing)}. It, or the "
        "draw before it, was changed after it was recorded, or the model's code is another"
    )


def _why_not_exact(manifest: Manifest) -> str:
    """Return why a draw may not follow to the bit, as an end of a sentence, or nothing."""
    if manifest.fastmath:
        return "; or nothing is wrong: with fastmath, draws are repeated in law only"
    if changes := environment_changes(manifest.environment, environment()):
        return f"; or nothing is wrong: since the run began this has changed: {'; '.join(changes)}"
    return ""
