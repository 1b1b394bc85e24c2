"""PyMC's own progress display and messages."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from pymc.progress_bar import MCMCProgressBarManager, default_progress_theme, rich_progress
from pymc.sampling import mcmc
from pymc.step_methods.hmc.nuts import NUTS
from rich.progress import BarColumn

from checkpoint.printable import printable

__all__ = ["Progress", "announce", "quietly", "tell", "without_time", "would_take_nutpie"]

_log = logging.getLogger("pymc.sampling.mcmc")


class Progress:
    """The bars of `pm.sample`, set to a position instead of advanced draw by draw.

    They begin at `recorded`: for each chain the number of recorded draws, the stats of the last
    one, and the seconds that they took. Speed and elapsed time are those of the whole chain. If one
    bar stands for all chains, they are those of the whole run, which has taken `spent` seconds.
    """

    def __init__(
        self,
        step: Any,
        chains: int,
        draws: int,
        tune: int,
        progressbar: Any,
        theme: Any,
        recorded: Sequence[tuple[int, Any, float]],
        spent: float,
    ) -> None:
        self.tune = tune
        self.total = draws + tune
        with _own_colours():
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
        is_one = self._manager.combined_progress
        self._clocks = _Clocks(
            self._manager, [spent] if is_one else [seconds for _, _, seconds in recorded]
        )

    def __enter__(self) -> "Progress":
        self._manager.__enter__()
        for chain, (n_rows, stats, _) in enumerate(self._recorded):
            if n_rows:
                self._clocks.start(chain)
                self._show(chain, n_rows, stats)
                self._clocks.pause(chain)
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._manager.__exit__(*exc_info)

    @property
    def is_shown(self) -> bool:
        return bool(self._manager._show_progress)

    @property
    def is_unseen(self) -> bool:
        """Whether the bars are asked for and appear only at the end, as in the log of a job."""
        progress = getattr(self._manager._backend, "_progress", None)
        if not self.is_shown or progress is None:
            return False
        return not (progress.console.is_interactive or progress.console.is_jupyter)

    def move(self, chain: int, n_rows: int, stats: Any) -> None:
        """Show a chain with `n_rows` draws recorded, the last of which has `stats`."""
        if n_rows > self._shown[chain] and self.is_shown:
            self._clocks.start(chain)
            self._show(chain, n_rows, stats)

    def _show(self, chain: int, n_rows: int, stats: Any) -> None:
        step = n_rows - self._shown[chain]
        self._shown[chain] = n_rows
        is_last = n_rows == self.total
        manager = self._manager
        # The manager counts calls when the bars are combined: add all draws but one here.
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
        self._clocks.show_speed(chain)


class _Stride:
    """A progress backend that advances by several draws at each update."""

    def __init__(self, backend: Any, step: int) -> None:
        self._backend = backend
        self._step = step

    def update(self, *args: Any, **kwargs: Any) -> None:
        kwargs["advance"] = self._step
        self._backend.update(*args, **kwargs)


class _Clocks:
    """The clocks of the bars, which include the time that chains took in earlier calls.

    A clock stands still until its chain is drawn. Only displays in a terminal and in Jupyter can
    be set; others count from now.
    """

    def __init__(self, manager: Any, seconds: Sequence[float]) -> None:
        self._manager = manager
        self._seconds = list(seconds)
        self._running: set[int] = set()

    def start(self, chain: int) -> None:
        """Start the clock of a chain at the time that the chain took before."""
        bar = 0 if self._manager.combined_progress else chain
        backend = self._manager._backend
        progress = getattr(backend, "_progress", None)
        if progress is None or bar in self._running:
            return
        self._running.add(bar)
        task = progress.tasks[bar]
        task.start_time = task.get_time() - self._seconds[bar]
        task.stop_time = None
        if hasattr(backend, "_started"):  # PyMC 6 starts a clock at the first draw
            backend._started[bar] = True

    def pause(self, chain: int) -> None:
        """Stop the clock of a chain, if it has one of its own, until it is started again."""
        if chain not in self._running or self._manager.combined_progress:
            return
        self._running.remove(chain)
        task = self._manager._backend._progress.tasks[chain]
        task.stop_time = task.start_time + self._seconds[chain]

    def show_speed(self, chain: int) -> None:
        """Show the speed of a bar where PyMC leaves it out: early, and with the last draws."""
        progress = getattr(self._manager._backend, "_progress", None)
        if progress is None:
            return
        task = progress.tasks[0 if self._manager.combined_progress else chain]
        is_shown = task.fields["sampling_speed"] and not task.finished
        if is_shown or (task.elapsed or 0.0) < _SHORTEST_TIME:
            return
        speed, unit = task.completed / task.elapsed, "draws/s"
        if speed < 1:
            speed, unit = 1 / speed, "s/draw"
        progress.update(task.id, sampling_speed=speed, speed_unit=unit)


_SHORTEST_TIME = 0.01
"""Seconds before a speed is shown: a clock starts when the first draw is reported."""

_BAR = (
    "CustomBarColumn"
    if hasattr(rich_progress, "MarkerProgressBar")
    else ("RecolorOnFailureBarColumn")
)
"""The name of the bar in PyMC 6, and in PyMC 5."""

_TheirBar: Any = getattr(rich_progress, _BAR)


class _BarColumn(_TheirBar):  # type: ignore[misc]  # known at run time only
    """PyMC's bar with fixed colours; PyMC takes them from matplotlib."""

    def __init__(self, *args: Any, failing_color: str = "red", **kwargs: Any) -> None:
        self.failing_color = failing_color
        self.failing_rgb = [214, 39, 40]
        BarColumn.__init__(self, *args, **kwargs)
        self.default_complete_style = self.complete_style
        self.default_finished_style = self.finished_style


@contextlib.contextmanager
def _own_colours() -> Iterator[None]:
    """Let PyMC make its bars without matplotlib if that is not installed."""
    if find_spec("matplotlib") is not None:
        yield
        return
    setattr(rich_progress, _BAR, _BarColumn)
    try:
        yield
    finally:
        setattr(rich_progress, _BAR, _TheirBar)


def would_take_nutpie(step: Any) -> bool:
    """Return whether `pm.sample` would use nutpie instead of this step method."""
    return bool(getattr(mcmc, "NUTPIE_INSTALLED", False)) and isinstance(step, NUTS)


def announce(message: str, step: Any = None) -> None:
    """Log a message where PyMC logs its own, with the hierarchy of step methods below."""
    _log.info(printable(message, lines=True))
    if step is not None:
        mcmc._print_step_hierarchy(step)


def tell(message: str) -> None:
    """Log a message that must be seen, also within `quietly`."""
    record = _log.makeRecord(
        _log.name, logging.WARNING, "(checkpoint)", 0, printable(message), (), None
    )
    _log.handle(record)  # the level that `quietly` sets does not hold here


@contextlib.contextmanager
def quietly(quiet: bool) -> Iterator[None]:
    """Silence PyMC's messages."""
    if not quiet:
        yield
        return
    with mcmc._quiet_logging(True):
        yield


@contextlib.contextmanager
def without_time() -> Iterator[None]:
    """Suppress PyMC's line on how long sampling took, for calls that sample nothing."""

    def is_other(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Sampling ")

    _log.addFilter(is_other)
    try:
        yield
    finally:
        _log.removeFilter(is_other)
