"""PyMC's own progress display and messages."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from pymc.progress_bar import MCMCProgressBarManager, default_progress_theme
from pymc.sampling import mcmc

__all__ = ["Progress", "announce", "quietly"]

_log = logging.getLogger("pymc.sampling.mcmc")


class Progress:
    """The bars of `pm.sample`, moved by position instead of draw by draw.

    They begin at `recorded`: for each chain the recorded draws and the stats of the last.
    """

    def __init__(
        self,
        step: Any,
        chains: int,
        draws: int,
        tune: int,
        progressbar: Any,
        theme: Any,
        recorded: Sequence[tuple[int, Any]],
    ) -> None:
        self.tune = tune
        self.total = draws + tune
        self._manager = MCMCProgressBarManager(
            step_method=step,
            chains=chains,
            draws=draws,
            tune=tune,
            progressbar=progressbar,
            progressbar_theme=default_progress_theme if theme is None else theme,
        )
        self._shown = [0] * chains
        self._recorded = recorded

    def __enter__(self) -> "Progress":
        self._manager.__enter__()
        for chain, (n_rows, stats) in enumerate(self._recorded):
            self.move(chain, n_rows, stats)
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._manager.__exit__(*exc_info)

    @property
    def is_shown(self) -> bool:
        return bool(self._manager._show_progress)

    def move(self, chain: int, n_rows: int, stats: Any) -> None:
        """Show a chain with `n_rows` draws recorded, the last of which has `stats`."""
        step = n_rows - self._shown[chain]
        if step <= 0 or not self.is_shown:
            return
        self._shown[chain] = n_rows
        is_last = n_rows == self.total
        manager = self._manager
        # The manager counts calls when the bars are combined: tell it of all but one draw.
        manager.completed_draws += step - (0 if is_last else 1)
        backend = manager._backend
        manager._backend = _Stride(backend, step)
        try:
            manager.update(
                chain_idx=chain,
                is_last=is_last and not manager.combined_progress,
                draw=n_rows - 1,
                tuning=n_rows <= self.tune,
                stats=stats,
            )
        finally:
            manager._backend = backend


class _Stride:
    """A progress backend that advances by several draws where it is told of one."""

    def __init__(self, backend: Any, step: int) -> None:
        self._backend = backend
        self._step = step

    def update(self, *args: Any, **kwargs: Any) -> None:
        kwargs["advance"] = self._step
        self._backend.update(*args, **kwargs)


def announce(message: str, step: Any = None) -> None:
    """Log a message where PyMC logs its own, with the hierarchy of step methods below."""
    _log.info(message)
    if step is not None:
        mcmc._print_step_hierarchy(step)


@contextlib.contextmanager
def quietly(quiet: bool) -> Iterator[None]:
    """Silence PyMC's messages."""
    if not quiet:
        yield
        return
    with mcmc._quiet_logging(True):
        yield
