"""Repeat recorded draws from the state before them, to find damage that no checksum can."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from checkpoint._pymc.exactness import exact_compilation
from checkpoint._pymc.model import current_model
from checkpoint._pymc.progress import quietly
from checkpoint.chains.environment import environment, environment_changes
from checkpoint.chains.population import repeat_together
from checkpoint.chains.restoring import repeat, unequal_columns
from checkpoint.chains.task import ChainTask
from checkpoint.errors import (
    CheckpointError,
    DamagedStoreError,
    ExactnessWarning,
    UnknownArgumentError,
    UnsupportedStepError,
)
from checkpoint.format.manifest import Manifest
from checkpoint.format.rows import Values
from checkpoint.hierarchy import read_root
from checkpoint.reading.damage_report import REPLAY, Finding, Verification
from checkpoint.recording.record import ChainRecord
from checkpoint.recording.recovery import recover_all
from checkpoint.runs.active import ActiveRun, arguments_of, as_before, as_recorded, task_of
from checkpoint.runs.arguments import Options, check_options, step_arguments
from checkpoint.runs.same_numbers import check_some_numbers
from checkpoint.stores import Store

__all__ = ["check_can_be_repeated", "replay_draws"]

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


def replay_draws(
    store: Store,
    report: Verification,
    n_replay: int,
    model: Any,
    random_seed: Any,
    arguments: Mapping[str, Any],
) -> Verification:
    """Repeat recorded draws; return the report with their findings added.

    Parameters and errors are those of `checkpoint.verify`; `report` is what its checksums say.
    """
    manifest = read_root.existing_manifest(store)
    draws = _choice(manifest, report, n_replay, np.random.default_rng(random_seed))
    options = as_recorded(manifest, _options(manifest, arguments))
    with (
        warnings.catch_warnings(),
        quietly(True),
        exact_compilation(bool(options.fastmath)),
    ):
        warnings.simplefilter("ignore", ExactnessWarning)  # said in the findings
        setup = arguments_of(options, current_model(model))
        run = as_before(store, manifest, options, setup)
        records = recover_all(store, manifest)
        if not run.is_known:
            last = [(r.chain, r.n_rows - 1) for r in records if r.n_rows]
            check_some_numbers(store, manifest, run.preparation, records, [*last, *draws])
        findings = _repeat_all(run, records, draws)
    notes = list(report.notes)
    if len(draws) < n_replay:
        notes.append(f"only {len(draws)} draws have a recorded, intact state before them.")
    findings = [*report.findings, *findings]
    return replace(report, n_replayed=len(draws), notes=tuple(notes)).with_findings(findings)


def check_can_be_repeated(store: Store, manifest: Manifest) -> None:
    """Check that no step method of a run is kept as a pickle.

    Raises
    ------
    UnsupportedStepError
        If one is.
    """
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
            f"{', '.join(other)}: the draws do not depend on it, or it is read from the store. "
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


def _repeat_all(
    run: ActiveRun, records: Sequence[ChainRecord], draws: Sequence[tuple[int, int]]
) -> list[Finding]:
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
                f"making it again from the state before it fails: {type(error).__name__}: {error}"
            )
        finally:
            np.random.set_state(global_state)
        if reason:
            at = (draw_idx, draw_idx + 1)
            findings.append(Finding(REPLAY, reason + why, chain, at, is_damage=not why))
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
        f"made again from the state before it, {', '.join(differing)} differ. Either this draw or "
        "the one before it was changed after it was recorded, or a function that the model calls, "
        "a library or the processor now computes something else"
    )


def _why_not_exact(manifest: Manifest) -> str:
    """Return why a draw may not follow to the bit, as an end of a sentence, or nothing."""
    if manifest.fastmath:
        return "; or nothing is wrong: with fastmath, draws are repeated in law only"
    if changes := environment_changes(manifest.environment, environment()):
        return f"; or nothing is wrong: since the run began this has changed: {'; '.join(changes)}"
    return ""
