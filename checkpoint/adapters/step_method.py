"""PyMC's step methods behind the protocols `Method` and `Sampler`."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, partial
from operator import attrgetter
from typing import Any

import numpy as np

from checkpoint._pymc.exactness import exact_compilation
from checkpoint._pymc.results import log_warnings_of
from checkpoint._pymc.steps import (
    copies_of,
    copy_generator,
    copy_step,
    copy_step_shallowly,
    flatten,
    link_population,
    start_chain,
)
from checkpoint.adapters.base import Adapter, AdapterSchema
from checkpoint.adapters.declared import StepAdapter
from checkpoint.adapters.describing import make_adapter
from checkpoint.adapters.fields import set_attribute
from checkpoint.adapters.sampler import Point, Sampler, Stats
from checkpoint.format.manifest import Manifest
from checkpoint.format.rows import RowSource, Values

__all__ = ["StepMethod", "StepSampler", "state_at"]


class StepSampler:
    """A started step method with the adapters of its parts.

    Parameters
    ----------
    step : step method
    adapters : sequence of Adapter
        One for each part of the compound.
    rng : Generator
        The chain's generator, in its state before the first draw.
    prepare : callable, optional
        Prepares a step method for the first draw, as was done with `step`.
    """

    def __init__(
        self,
        step: Any,
        adapters: Sequence[Adapter],
        rng: np.random.Generator,
        prepare: Callable[[Any], None] | None = None,
    ) -> None:
        self.method = step
        self._adapters = adapters
        self._rng = rng
        self._prepare = prepare

    def start(self) -> None:
        parts = zip(self._adapters, flatten(self.method), strict=True)
        started = [adapter.start(part, copy_generator(self._rng)) for adapter, part in parts]
        if self._set(started) and self._prepare is not None:
            self._prepare(self.method)  # it still has the generator that it was made with

    def restore(self, rows: RowSource, draw_idx: int) -> None:
        parts = zip(self._adapters, flatten(self.method), strict=True)
        self._set([adapter.restore(part, rows, draw_idx) for adapter, part in parts])

    def step(self, point: Point) -> tuple[Point, Stats]:
        made: tuple[Point, Stats] = self.method.step(point)
        return made

    def stop_tuning(self) -> None:
        self.method.stop_tuning()

    def warn(self, stats: Stats) -> None:
        log_warnings_of(stats)

    def attach(self, data: Mapping[str, Values]) -> None:
        for adapter, part in zip(self._adapters, flatten(self.method), strict=True):
            adapter.attach(part, data)

    def capture(self, row: int) -> None:
        for adapter in self._adapters:
            adapter.take(row)

    def settle(self, start: int, stop: int) -> None:
        for adapter in self._adapters:
            adapter.settle(start, stop)

    def _set(self, parts: list[Any]) -> bool:
        """Replace the parts of the step method; return whether any is another object."""
        if all(one is other for one, other in zip(parts, flatten(self.method), strict=True)):
            return False
        if len(parts) == 1:
            self.method = parts[0]
        else:
            self.method.methods = parts  # a nested compound steps in the same order when flat
        return True


@dataclass(frozen=True)
class StepMethod:
    """The step method of a run, before any chain is started.

    Attributes
    ----------
    step : step method
        Not started; each chain starts a copy.
    schemas : tuple of AdapterSchema
    tune, draws : int
        Draws of each chain in warm-up and after it.
    sequential : bool
        Whether chains start as in PyMC's driver for one process.
    shares_state : bool
        Whether a population's chains share the objects that step methods change in place.
    fastmath : bool
        Whether the step method is compiled with fastmath.
    """

    step: Any
    schemas: tuple[AdapterSchema, ...]
    tune: int
    draws: int
    sequential: bool
    fastmath: bool
    shares_state: bool = False

    @classmethod
    def of(
        cls,
        step: Any,
        schemas: tuple[AdapterSchema, ...],
        manifest: Manifest,
        is_population: bool = False,
    ) -> "StepMethod":
        """Return the step method with the settings of a run."""
        return cls(
            step=step,
            schemas=schemas,
            tune=manifest.tune,
            draws=manifest.draws,
            sequential=manifest.sequential,
            fastmath=manifest.fastmath,
            shares_state=is_population and manifest.sequential,
        )

    def sampler(self, rng: np.random.Generator) -> Sampler:
        return self._start(self._copies(), rng, self.sequential)

    @cached_property
    def _copies(self) -> Callable[[], Any]:
        """Function that copies the step method, which is pickled once for all copies."""
        return copies_of(self.step)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_copies"}

    def samplers(
        self, rngs: Sequence[np.random.Generator], sources: Sequence[RowSource], n_rows: int
    ) -> list[Sampler]:
        # PyMC's driver for populations sets only the generators; it does not reset the tuning.
        samplers = [self._start(self._copy_of_population(), rng, False) for rng in rngs]
        if n_rows:
            for sampler, rows in zip(samplers, sources, strict=True):
                sampler.restore(rows, n_rows - 1)
            if self.shares_state:
                self._share_again(samplers)
        else:
            for sampler in samplers:
                sampler.start()
        return list(samplers)

    def link(self, samplers: Sequence[Any], population: list[Point]) -> None:
        for chain, sampler in enumerate(samplers):
            link_population(sampler.method, population, chain)

    @property
    def context(self) -> Callable[[], AbstractContextManager[Any]]:
        return partial(exact_compilation, self.fastmath)

    def _start(self, step: Any, rng: np.random.Generator, sequential: bool) -> StepSampler:
        def prepare(step: Any) -> None:
            start_chain(step, copy_generator(rng), self.tune, self.draws, sequential)

        prepare(step)
        return StepSampler(step, [make_adapter(schema) for schema in self.schemas], rng, prepare)

    def _copy_of_population(self) -> Any:
        """Copy the step method as PyMC's driver for populations does.

        In one process the copies are shallow, so that chains share the objects that their step
        methods change in place; in several processes each chain has its own.
        """
        return copy_step_shallowly(self.step) if self.shares_state else self._copies()

    def _share_again(self, samplers: Sequence[StepSampler]) -> None:
        """Share again the objects that shallow copies share and restoring has duplicated.

        Shared objects are equal in all chains, as they are captured after all have stepped.
        """
        fresh = [flatten(self._copy_of_population()) for _ in samplers]
        restored = [flatten(sampler.method) for sampler in samplers]
        for schema in self.schemas:
            for field in schema.fields:
                get = attrgetter(field.path)
                before = [get(methods[schema.step_idx]) for methods in fresh]
                now = [get(methods[schema.step_idx]) for methods in restored]
                is_mutable = isinstance(now[0], np.ndarray | list)
                if not is_mutable or any(value is not before[0] for value in before):
                    continue
                if all(np.array_equal(np.asarray(value), np.asarray(now[0])) for value in now):
                    for methods in restored:
                        set_attribute(methods[schema.step_idx], field.path, now[0])


def state_at(method: StepMethod, rows: RowSource, draw_idx: int) -> Any:
    """Return the state after a recorded draw as PyMC keeps it: `step.sampling_state`."""
    step = copy_step(method.step)
    for schema, part in zip(method.schemas, flatten(step), strict=True):
        StepAdapter(schema).restore_whole(part, rows, draw_idx)
    return step.sampling_state
