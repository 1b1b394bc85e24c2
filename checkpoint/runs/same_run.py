"""Check a store's run against the settings of a call, and name each difference."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from checkpoint._pymc import model as pymc_model
from checkpoint._pymc.compile_mode import described, described_before
from checkpoint._pymc.fingerprint import text_of
from checkpoint._pymc.python_text import UNKNOWN
from checkpoint._pymc.setup import Arguments, Preparation
from checkpoint._pymc.steps import declares_state, flatten, state_items, step_name
from checkpoint.adapters.base import AdapterSchema
from checkpoint.adapters.describing import check_declared
from checkpoint.chains.environment import environment, environment_changes, fact_differences
from checkpoint.errors import DifferentRunError, ExactnessWarning, warn_caller
from checkpoint.format.generators import generator_to_json
from checkpoint.format.manifest import Manifest
from checkpoint.runs.arguments import UNSET, Options
from checkpoint.runs.same_model import refuse
from checkpoint.stores import Store

__all__ = [
    "call_of",
    "check_pickles",
    "check_same_settings",
    "check_store_options",
    "seed_text",
    "settings_of",
]


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


def call_of(arguments: Arguments, tune: int, fastmath: bool) -> dict[str, str]:
    """Return the arguments that determine `settings_of`, as texts; nothing is compiled.

    Equal calls have equal settings. Calls that differ may have equal settings too: `init="auto"`
    and the value that it stands for. The result is empty if an argument has no certain text.
    """
    call = {
        "tune": str(tune),
        "fastmath": str(fastmath),
        "compile mode": _compile_mode(arguments),
        "init": arguments.init,
    }
    if arguments.var_names is not None:
        call["var_names"] = ", ".join(arguments.var_names)
    if arguments.initvals is not None:
        call["initvals"] = _initvals(arguments.initvals)
    if arguments.step_kwargs:
        call["step arguments"] = text_of(arguments.model, dict(arguments.step_kwargs))
    if arguments.step is not None:
        given = arguments.step if isinstance(arguments.step, list | tuple) else [arguments.step]
        methods = [method for step in given for method in flatten(step)]
        call["step"] = "; ".join(_step_text(method) for method in methods)
    return {} if any(UNKNOWN in text for text in call.values()) else call


def _step_text(step: Any) -> str:
    if not declares_state(step):
        return UNKNOWN
    settings = [f"{name}={text}" for name, text in _step_settings(step, is_initialised=False)]
    return f"{step_name(step)}: {', '.join(settings)}"


def check_same_settings(
    store: Store,
    manifest: Manifest,
    arguments: Arguments,
    preparation: Preparation,
    fastmath: bool,
) -> None:
    """Check that the settings are those of the run in the store; warn of a changed environment.

    Raises
    ------
    DifferentRunError
        If the settings differ; it lists each difference.
    """
    now = settings_of(arguments, preparation, fastmath)
    before = described_before(arguments.compile_kwargs.get("mode"))
    if before is not None and before == manifest.settings.get("compile mode"):
        now["compile mode"] = before
    found = fact_differences(*_of_same_steps(manifest.settings, now))
    refuse(store, "with other settings", found)
    changes = environment_changes(manifest.environment, environment())
    if changes:
        warn_caller(
            f"{store.name}: the run continues, but its last bits may differ from those of a run "
            "left alone, because this has changed since it began: " + "; ".join(changes),
            ExactnessWarning,
        )


def _of_same_steps(
    before: Mapping[str, str], now: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return settings without those of step methods that are of another kind on each side."""
    others = tuple(
        f"{key} " for key in before.keys() | now.keys()
        if re.fullmatch(r"step \d+", key) and before.get(key) != now.get(key)
    )  # fmt: skip
    of_others = {key for key in before.keys() | now.keys() if key.startswith(others)}
    return (
        {key: text for key, text in before.items() if key not in of_others},
        {key: text for key, text in now.items() if key not in of_others},
    )


def check_pickles(
    store: Store,
    preparation: Preparation,
    schemas: Sequence[AdapterSchema],
    allow_pickle: bool,
) -> None:
    """Check that pickles are loaded only for step methods that need them, and only if allowed.

    Raises
    ------
    UnsupportedStepError
        If a step method needs a pickle and pickles are not allowed.
    DifferentRunError
        If the store has a pickle for a step method that declares its state, or columns for one
        that does not.
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


def _step_settings(step: Any, is_initialised: bool) -> list[tuple[str, str]]:
    """Return the settings of a step method that the script chose, by attribute path."""
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
    return described(arguments.backend, arguments.compile_kwargs.get("mode"))


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


_REASONS = {
    "chains": "; the start of each chain may depend on how many there are, so none can be added. "
    "Sample more chains in another path with another seed, and join the draws"
}
"""Why, and what to do instead, where an option that differs could be expected to be possible."""


def check_store_options(store: Store, manifest: Manifest, options: Options) -> None:
    """Check that a call does not ask to change options that are fixed in a store."""
    asked: list[tuple[str, object, object]] = []
    if options.chains is not None:
        asked.append(("chains", manifest.chains, options.chains))
    if options.random_seed is not None:
        asked.append(("random_seed", manifest.seed, seed_text(options.random_seed)))
    if options.zarr_format is not None:
        asked.append(("zarr_format", manifest.zarr_format, options.zarr_format))
    if options.draws_per_chunk is not None:
        fits = (
            min(options.draws_per_chunk, max(1, manifest.tune)) == manifest.warmup_chunk
            and manifest.chunk <= options.draws_per_chunk
        )
        if not fits:
            asked.append(("draws_per_chunk", manifest.chunk, options.draws_per_chunk))
    if options.compressor is not UNSET:
        now = options.codec.to_json()
        asked.append(("compressor", manifest.compressor, now))
    found = [
        f"{name}: recorded as {before}, now {now}{_REASONS.get(name, '')}"
        for name, before, now in asked
        if before != now
    ]
    refuse(store, "with other settings", found)
