"""Hold a store's run against the model and the settings of a call, and name each difference."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from checkpoint._pymc import model as pymc_model
from checkpoint._pymc.setup import Arguments, Preparation
from checkpoint._pymc.steps import (
    declares_state,
    flatten,
    state_items,
    step_name,
)
from checkpoint.adapters import AdapterSchema, check_declared
from checkpoint.errors import DifferentRunError, ExactnessWarning
from checkpoint.generators import generator_to_json
from checkpoint.manifest import Manifest, differences, environment, environment_changes
from checkpoint.recording import stat_path
from checkpoint.recovery import ChainRecord
from checkpoint.stores import Store

__all__ = [
    "LOGP_TOLERANCE",
    "check_logp",
    "check_pickles",
    "check_same_model",
    "check_same_settings",
    "refuse",
    "seed_text",
    "settings_of",
]

LOGP_TOLERANCE = 1e-6
"""Another processor or library may move the last bits of a log-probability, not its sixth digit."""


def settings_of(arguments: Arguments, preparation: Preparation, fastmath: bool) -> dict[str, str]:
    """Return the settings that a draw depends on, as texts."""
    recorder: Any = preparation.recorder
    settings = {
        "chains": str(preparation.chains),
        "tune": str(preparation.tune),
        "var_names": ", ".join(recorder.varnames),
        "initvals": "default" if arguments.initvals is None else _initvals(arguments.initvals),
        "fastmath": str(fastmath),
        "compile mode": _compile_mode(arguments),
    }
    if preparation.is_initialised:
        settings["init"] = "jitter+adapt_diag" if arguments.init == "auto" else arguments.init
    for step_idx, step in enumerate(flatten(preparation.step)):
        key = f"step {step_idx}"
        settings[key] = step_name(step)
        for name, text in _step_settings(step, preparation.is_initialised):
            settings[f"{key} {name}"] = text
    return settings


def check_same_model(store: Store, manifest: Manifest, model: Any) -> None:
    """Hold that the model is that of the run in the store.

    Raises
    ------
    DifferentRunError
        If it is not; it lists each difference.
    """
    refuse(store, "of another model", differences(manifest.model, pymc_model.fingerprint(model)))


def check_same_settings(
    store: Store,
    manifest: Manifest,
    arguments: Arguments,
    preparation: Preparation,
    fastmath: bool,
) -> None:
    """Hold that the settings are those of the run in the store; warn of a changed environment.

    Raises
    ------
    DifferentRunError
        If they are not; it lists each difference.
    """
    found = differences(manifest.settings, settings_of(arguments, preparation, fastmath))
    refuse(store, "with other settings", found)
    changes = environment_changes(manifest.environment, environment())
    if changes:
        warnings.warn(
            f"{store.name}: continuing where the last bits may differ, as this has changed since "
            "the run began: " + "; ".join(changes),
            ExactnessWarning,
            stacklevel=6,  # the call of sample
        )


def refuse(store: Store, kind: str, found: Sequence[str]) -> None:
    """Raise if anything was found to differ.

    Raises
    ------
    DifferentRunError
        With a line for each difference.
    """
    if found:
        lines = "\n".join(f"  - {line}" for line in found)
        raise DifferentRunError(
            f"{store.name} holds a run {kind}:\n{lines}\nNothing was changed. Restore what "
            "differs to continue that run, or begin a new one in another path.",
            found,
        )


def check_pickles(
    store: Store,
    preparation: Preparation,
    schemas: Sequence[AdapterSchema],
    allow_pickle: bool,
) -> None:
    """Hold that no pickle will be loaded but of a step method that needs it, if that is allowed.

    Raises
    ------
    UnsupportedStepError
        If it needs one and that is not allowed.
    DifferentRunError
        If the store has a pickle for a step method that declares its state.
    """
    for schema, step in zip(schemas, flatten(preparation.step), strict=True):
        check_declared(step, allow_pickle)
        if schema.is_pickled == declares_state(step):
            kind = "a pickle" if schema.is_pickled else "columns"
            raise DifferentRunError(
                f"{store.name} holds the state of {schema.name} as {kind}, which does not fit the "
                "step method of this call. Nothing was loaded or changed. Begin a new run in "
                "another path.",
                [f"step {schema.step_idx}: recorded as {kind}"],
            )


def check_logp(
    store: Store, manifest: Manifest, preparation: Preparation, records: Sequence[ChainRecord]
) -> None:
    """Hold that the model gives the log-probabilities that were recorded.

    Raises
    ------
    DifferentRunError
        If it does not, for any chain.
    """
    found = []
    for chain, recorded, now in _logps(manifest, preparation, records):
        if not np.isclose(now, recorded, rtol=LOGP_TOLERANCE, atol=LOGP_TOLERANCE):
            found.append(f"logp of chain {chain}: recorded as {recorded!r}, now {now!r}")
    refuse(store, "of a model with another log-probability", found)


def _logps(
    manifest: Manifest, preparation: Preparation, records: Sequence[ChainRecord]
) -> list[tuple[int, float, float]]:
    """Return (chain, recorded, now): at the last draw where a stat has it, else at the start."""
    if manifest.start_logp:
        return [
            (chain, float(recorded), now)
            for chain, (recorded, now) in enumerate(
                zip(manifest.start_logp, pymc_model.start_logp(preparation), strict=True)
            )
        ]
    path = stat_path(len(manifest.schemas) - 1, "model_logp")
    found = []
    for record in records:
        if record.n_rows == 0:
            continue
        last = record.n_rows - 1
        point = {name: record.value(at, last) for name, at in manifest.point_paths.items()}
        now = pymc_model.last_logp(preparation, point)
        if now is not None:
            found.append((record.chain, float(record.value(path, last)), now))
    return found


def _step_settings(step: Any, is_initialised: bool) -> list[tuple[str, str]]:
    """Return what the script that made a step method decided."""
    if not declares_state(step):
        return []
    settings = []
    for item in state_items(step):
        value = item.value
        if is_initialised and item.path.startswith("potential."):
            continue  # found by the initialisation, and restored
        if isinstance(value, np.ndarray):
            settings.append((item.path, pymc_model.digest(value)))
        elif isinstance(value, bool | int | float | str | np.generic) or value is None:
            settings.append((item.path, repr(value)))
    return settings


def _compile_mode(arguments: Arguments) -> str:
    if arguments.backend is not None:
        return arguments.backend
    mode = arguments.compile_kwargs.get("mode")
    return "default" if mode is None else str(getattr(mode, "name", None) or mode)[:80]


def _initvals(initvals: Any) -> str:
    each = [initvals] if isinstance(initvals, Mapping) else list(initvals)
    texts = []
    for one in each:
        items = sorted((str(name), value) for name, value in (one or {}).items())
        texts.append(
            ", ".join(
                f"{name}={value if isinstance(value, str) else _value_text(value)}"
                for name, value in items
            )
        )
    return "; ".join(texts)


def _value_text(value: Any) -> str:
    try:
        return pymc_model.digest(np.asarray(value, dtype=float))
    except (TypeError, ValueError):
        return str(value)


def seed_text(seed: Any) -> str:
    """Return a seed as text, for messages and comparison."""
    if seed is None:
        return "drawn from the system"
    if isinstance(seed, int | np.integer):
        return str(int(seed))
    if isinstance(seed, np.random.Generator):
        return f"a generator in state {pymc_model.digest(generator_to_json(seed)['state'])}"
    return str(np.asarray(seed).tolist())
