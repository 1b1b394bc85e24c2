"""The view that a `ZarrTrace` gives of the run in its store."""

from typing import Any

from checkpoint.format import layout
from checkpoint.format.manifest import Manifest
from checkpoint.hierarchy import clocks
from checkpoint.interop.trace.groups import SamplingState
from checkpoint.interop.trace.session import Session
from checkpoint.interop.trace.zarr_groups import Group, open_root
from checkpoint.reading.datasets import with_groups
from checkpoint.reading.run import RecordedRun
from checkpoint.stores import Store

__all__ = ["TraceView"]


class TraceView:
    """The part of `ZarrTrace` that reads: groups as zarr has them, and what `pm.sample` returns."""

    include_transformed: bool
    _store: Store
    _session: Session | None
    _manifest: Manifest | None

    @property
    def store(self) -> Store:
        """The store, for `checkpoint.sample`, `checkpoint.open`, zarr and xarray."""
        return self._store

    @property
    def root(self) -> Group:
        """The root group, as it is in the store now."""
        return open_root(self._current_store)

    @property
    def _current_store(self) -> Store:
        session = self._session
        return self._store if session is None or session.has_ended else session.run.store

    def groups(self) -> list[str]:
        """Return the names of the groups below the root."""
        return sorted(name for name, _ in self.root.groups())

    @property
    def posterior(self) -> Group:
        """Recorded variables after warm-up, arrays ``(chain, draw, *dims)``."""
        return self.root.group(layout.POSTERIOR)

    @property
    def unconstrained_posterior(self) -> Group:
        """Transformed values of the free variables, arrays ``(chain, draw, *dims)``."""
        return self.root.group(layout.UNCONSTRAINED)

    @property
    def sample_stats(self) -> Group:
        """Stats, arrays ``(chain, draw)`` named ``sampler_<i>__<stat>``."""
        return self.root.group(layout.SAMPLE_STATS)

    @property
    def constant_data(self) -> Group:
        """The model's constant data."""
        return self.root.group(layout.CONSTANT_DATA)

    @property
    def observed_data(self) -> Group:
        """The model's observed data."""
        return self.root.group(layout.OBSERVED_DATA)

    @property
    def _sampling_state(self) -> SamplingState:
        return SamplingState(self._current_store, self._initialised())

    @property
    def tuning_steps(self) -> int:
        """Draws of warm-up."""
        return self._initialised().tune

    @property
    def sampling_time(self) -> float:
        """Seconds spent sampling. `pm.sample` sets it at its end, which frees the store."""
        return clocks.read_sampling_time(self._current_store, self._initialised())

    @sampling_time.setter
    def sampling_time(self, value: float) -> None:
        self._end(float(value))

    def _end(self, seconds: float) -> None:
        """Record that sampling has ended, and how long it took."""
        raise NotImplementedError

    def to_inferencedata(self, save_warmup: bool = False, eager: bool = True) -> Any:
        """Return what is recorded as `pm.sample` returns it, the stat ``warning`` included.

        Parameters
        ----------
        save_warmup : bool
            Whether to include the groups of warm-up.
        eager : bool
            Makes no difference: the draws are in memory.

        Returns
        -------
        DataTree or InferenceData
        """
        view = RecordedRun(self._current_store, self._initialised())
        tree = view.to_inferencedata(save_warmup, keep_warning_stat=True)
        if not self.include_transformed:
            return tree
        groups = {layout.UNCONSTRAINED: view.unconstrained_posterior}
        if save_warmup and view.tune:
            groups[f"{layout.WARMUP}{layout.UNCONSTRAINED}"] = view.warmup_unconstrained_posterior
        return with_groups(tree, {name: group for name, group in groups.items() if group.data_vars})

    def _initialised(self) -> Manifest:
        if self._manifest is None:
            raise ValueError(
                "ZarrTrace has not been initialized and there is no information of a run available"
            )
        return self._manifest
