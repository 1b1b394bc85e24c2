"""The arguments of `sample`: their names, their allowed values, and those that are refused."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np

from checkpoint.chains.signals import PREEMPT_SIGNALS, signal_numbers
from checkpoint.errors import ArgumentError, UnknownArgumentError
from checkpoint.format.compressors import Compressor, default_compressor

__all__ = ["UNSET", "Options", "check_options", "step_arguments"]


class _Unset:
    def __repr__(self) -> str:
        return "UNSET"


UNSET: Any = _Unset()
"""Default of an argument for which None is a value of its own."""

_REFUSED = {
    "trace": "the store is the trace",
    "nuts_sampler_kwargs": "only PyMC's own sampler can be resumed; pass NUTS arguments in nuts={}",
    "start": "it was renamed to initvals",
    "seed": "it is called random_seed",
}


@dataclass(frozen=True)
class Options:
    """The arguments of `sample`, with the names, meanings and defaults documented there.

    A new one is named in the signature of `sample` and here; `check_options` checks its value.
    """

    draws: int = 1000
    tune: int | None = None
    chains: int | None = None
    cores: int | None = None
    random_seed: Any = None
    progressbar: Any = True
    progressbar_theme: Any = None
    quiet: bool = False
    step: Any = None
    var_names: Sequence[str] | None = None
    nuts_sampler: str | None = None
    initvals: Any = None
    init: str = "auto"
    jitter_max_retries: int = 10
    n_init: int = 200_000
    discard_tuned_samples: bool = True
    compute_convergence_checks: bool = True
    keep_warning_stat: bool = False
    return_inferencedata: bool = True
    idata_kwargs: Mapping[str, Any] | None = None
    callback: Callable[..., Any] | None = None
    mp_ctx: Any = None
    blas_cores: Any = "auto"
    backend: str | None = None
    compile_kwargs: Mapping[str, Any] | None = None
    resume: Literal["auto", "must", "never"] = "auto"
    commit_interval: float = 1.0
    draws_per_chunk: int | None = None
    compressor: Any = UNSET
    include_transformed: bool = False
    zarr_format: Literal[2, 3] | None = None
    allow_pickle: bool = False
    preempt_signals: Sequence[int | str] = PREEMPT_SIGNALS
    preempt_exit_code: int | None = None
    grace: float = 20.0
    max_time: Any = None
    deadline: Any = None
    on_deadline: Literal["return", "exit"] = "return"
    count_earlier_time: bool = False
    save_model: bool = False
    until: Any = None
    step_kwargs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> "Options":
        """Return the options among the arguments of a call of `sample`, its `kwargs` included.

        Raises
        ------
        UnknownArgumentError
            If one of `kwargs` is none that a step method could take.
        """
        given = {field.name: arguments[field.name] for field in fields(cls)
                 if field.name in arguments}  # fmt: skip
        return cls(**given, step_kwargs=step_arguments(arguments["kwargs"]))

    @property
    def fastmath(self) -> bool | None:
        """Whether `compile_kwargs` asks to compile with fastmath; None if it does not say."""
        given = (self.compile_kwargs or {}).get("fastmath")
        return None if given is None else bool(given)

    @property
    def codec(self) -> Compressor:
        """The compressor of a new store."""
        return default_compressor() if self.compressor is UNSET else Compressor.of(self.compressor)


def check_options(options: Options) -> None:
    """Check that every argument has a value that can be used.

    Raises
    ------
    ArgumentError
        If a value is out of range.
    UnknownArgumentError
        If an argument cannot be honoured.
    """
    _whole("draws", options.draws, 1)
    _whole("tune", options.tune, 0)
    _whole("chains", options.chains, 1)
    _whole("cores", options.cores, 1)
    _whole("draws_per_chunk", options.draws_per_chunk, 1)
    _whole("jitter_max_retries", options.jitter_max_retries, 0)
    _whole("n_init", options.n_init, 1)
    _one_of("resume", options.resume, ("auto", "must", "never"))
    _one_of("zarr_format", options.zarr_format, (None, 2, 3))
    _one_of("on_deadline", options.on_deadline, ("return", "exit"))
    interval = options.commit_interval
    if not isinstance(interval, int | float) or not 0 <= interval < float("inf"):
        raise ArgumentError(
            f"commit_interval={interval!r}: expected seconds, 0 or more; 0 commits every draw."
        )
    if isinstance(options.random_seed, int) and options.random_seed == -1:
        raise ArgumentError(
            "Setting random_seed = -1 is not allowed. Pass `None` to not specify a seed."
        )
    if isinstance(options.random_seed, np.random.RandomState):
        raise ArgumentError(
            "random_seed is a RandomState, which cannot spawn independent generators; "
            "expected an integer, a sequence of integers, a Generator, or None."
        )
    if options.nuts_sampler not in (None, "pymc"):
        raise UnknownArgumentError(
            f"nuts_sampler={options.nuts_sampler!r} cannot be resumed draw by draw; "
            'expected "pymc". Leave it out, or use pm.sample.'
        )
    if not isinstance(options.init, str):
        raise ArgumentError(f"init={options.init!r}: expected a string.")
    _ = options.codec
    signal_numbers(options.preempt_signals)
    if not isinstance(options.grace, int | float) or not 0 < options.grace < float("inf"):
        raise ArgumentError(f"grace={options.grace!r}: expected seconds, more than 0.")
    code = options.preempt_exit_code
    if code is not None and (type(code) is not int or not 0 <= code < 256):
        raise ArgumentError(f"preempt_exit_code={code!r}: expected a whole number below 256.")


def step_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments for step methods; refuse those that no step method takes.

    Raises
    ------
    UnknownArgumentError
        If an argument of `pm.sample` cannot be honoured, or a name is close to one that can.
    """
    for name, reason in _REFUSED.items():
        if given.get(name) is not None:
            raise UnknownArgumentError(
                f"checkpoint.sample does not take {name}: {reason}. Leave it out."
            )
    arguments = {name: value for name, value in given.items() if name not in _REFUSED}
    for name in arguments:
        close = difflib.get_close_matches(name, Options.__dataclass_fields__, n=1, cutoff=0.8)
        if close:
            raise UnknownArgumentError(
                f"Unknown argument {name!r} of checkpoint.sample. Did you mean {close[0]!r}?"
            )
    if "target_accept" in arguments:
        nuts = dict(arguments.get("nuts", {}))
        if "target_accept" in nuts:
            raise ArgumentError(
                "`target_accept` was defined twice. Please specify it either as a direct keyword "
                "argument or in the `nuts` kwarg."
            )
        arguments["nuts"] = nuts | {"target_accept": arguments.pop("target_accept")}
    return arguments


def _whole(name: str, value: Any, least: int) -> None:
    if value is None and name not in ("draws",):
        return
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_whole or value < least:
        raise ArgumentError(f"{name}={value!r}: expected a whole number, at least {least}.")


def _one_of(name: str, value: Any, known: tuple[Any, ...]) -> None:
    if value not in known:
        shown = ", ".join(repr(item) for item in known if item is not None)
        raise ArgumentError(f"{name}={value!r}: expected one of {shown}.")
