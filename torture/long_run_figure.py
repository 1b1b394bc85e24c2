"""The figure of the long run: what it takes, against the draws that it has, kills marked."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["draw"]

COLOURS = ("#2a6f97", "#c1666b")

MAX_POINTS = 200


def draw(journeys: Sequence[Any], measures: Mapping[str, Any], path: Path) -> None:
    """Write the figure.

    Parameters
    ----------
    journeys : sequence of Journey
    measures : mapping
        `MEASURES`.
    path : Path
        Of an SVG file.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "long-run", "font.size": 9}):
        figure = Figure(figsize=(7.5, 8.5), layout="constrained")
        panels = figure.subplots(len(measures), sharex=True)
        for panel, (name, (unit, values, _)) in zip(panels, measures.items(), strict=True):
            for journey, colour in zip(journeys, COLOURS, strict=False):
                points = _thin(values(journey))
                marker = "." if len(points) < MAX_POINTS / 4 else ""
                style = {"marker": marker, "markersize": 4, "linewidth": 0.9, "color": colour}
                panel.plot(*zip(*points, strict=True), label=journey.name, **style)
                _mark(panel, journey.kills, colour)
            panel.set_ylim(bottom=0)
            panel.set_title(f"{name}{f' ({unit})' if unit else ''}", loc="left", fontsize=9)
            panel.spines[["top", "right"]].set_visible(False)
        panels[0].legend(frameon=False, loc="lower right", ncols=2)
        panels[-1].set_xlabel("recorded draws of all chains; vertical lines are kills (SIGKILL)")
        panels[-1].xaxis.set_major_formatter(lambda n, _: f"{n:,.0f}")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})


def _mark(panel: Any, draws: Sequence[int], colour: str) -> None:
    """Draw vertical lines, as one line with gaps: it is much smaller."""
    xs = [x for at in draws for x in (at, at, float("nan"))]
    ys = [0.0, 1.0, float("nan")] * len(draws)
    transform = panel.get_xaxis_transform()
    panel.plot(xs, ys, color=colour, linewidth=0.4, alpha=0.5, transform=transform)


def _thin(points: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    """Return at most so many points as can be told apart."""
    return points[:: 1 + len(points) // MAX_POINTS]
