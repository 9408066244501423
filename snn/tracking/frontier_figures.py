"""The figures of a frontier: accuracy over one cost each, as wide as a column of a paper."""

from __future__ import annotations

import math
import textwrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, LogLocator, NullLocator

from snn.tracking.frontier import ENERGY, STEPS, Cost, Facet, marker_name
from snn.tracking.style import (
    BACKGROUND,
    COLUMN,
    CYCLE,
    GREY,
    INK,
    MARKERS,
    Margins,
    end_labels,
    fraction_axis,
    headline,
    new_figure,
    percent,
    style,
)

_SMALL = 7.5  # points: what stands beside lines
_TWINS = {"float ANN": "*", "quantised ANN": "d"}


def score_over_cost(facet: Facet, cost: Cost, *, subtitle: str = "") -> Figure:
    """Draw the scores of networks over what they cost: a line for each network over T, the Pareto set ringed.

    Points that are a mean of several seeds have a bar from the lowest to the highest.

    Args:
        facet: The points.
        cost: What to draw them over; points of which it is not known are left out.
        subtitle: What they have in common.

    Raises:
        ValueError: There are no points.
    """
    known = facet.knowing(cost)
    if not known.points:
        raise ValueError("the facet has no point: no finished job has a score to draw")
    chosen = _chosen(known, cost)
    names = {label: _wrapped(label) for label in chosen}
    lines = [line for name in names.values() for line in name.split("\n")]
    right = 0.35 + 0.062 * max([len(line) for line in lines] + [13])
    others = [label for label in known.labels if label not in chosen]
    if others:
        subtitle = f"{subtitle}; in grey: {len(others)} more networks"
    subtitle = "\n".join(textwrap.wrap(subtitle, 60))
    top = 0.44 + 0.13 * (subtitle.count("\n") + 1)
    # As high as the labels at the right need to stand below each other.
    height = max(2.2, 0.145 * (len(lines) + 5)) + top + 0.45
    with style():
        figure = new_figure(COLUMN, height, Margins(left=0.58, right=right, top=top, bottom=0.45))
        axes = figure.axes[0]
        axes.tick_params(labelsize=8)
        ends: list[tuple[float, float, str, str]] = []
        for index, (label, name) in enumerate(names.items()):
            colour = _series(axes, facet, label, cost, index)
            last = known.series(label)[-1]
            ends.append((last.costs[cost.fact], last.score, name, colour))
        for label in others:
            _series(axes, facet, label, cost, None)
        _ring(axes, facet, cost)
        heights = [edge for point in known.points for edge in point.scores]
        heights += [score for _, score, *_ in _references(axes, facet, cost, ends)]
        _cost_axis(axes, known, cost)
        fraction_axis(axes, heights, facet.metric)
        axes.set_xlabel(cost.label, fontsize=8.5)
        axes.yaxis.label.set_fontsize(8.5)
        edge = axes.get_xlim()[1]  # where lines across the axes end
        starts = [edge if math.isnan(x) else x for x, *_ in ends]
        end_labels(axes, [(y, text, colour) for _, y, text, colour in ends], _SMALL, starts)
        title = f"{facet.metric.capitalize()} over {_WORDS.get(cost.key, cost.key)}"
        headline(figure, title, subtitle, sizes=(9.5, 7))
    return figure


_WORDS = {"T": "time steps", "time": "wall time"}


def _chosen(facet: Facet, cost: Cost) -> list[str]:
    """The networks that get a colour and a label: all, or those of the Pareto set where there are too many."""
    if len(facet.labels) <= 2 * len(CYCLE):
        return facet.labels
    best = [point.label for point in facet.frontier(cost)]
    # Networks that are in it at more steps first.
    ranked = sorted(dict.fromkeys(best), key=lambda label: -best.count(label))[: len(CYCLE)]
    return [label for label in facet.labels if label in ranked]


def _series(axes: Axes, facet: Facet, label: str, cost: Cost, index: int | None) -> str:
    """Draw a network; without a number it is one of many in the background."""
    points = facet.knowing(cost).series(label)
    x, y = [p.costs[cost.fact] for p in points], [p.score for p in points]
    if index is None:
        colour, marker, dash, width, order = BACKGROUND, ".", "-", 0.7, 1.0
    else:
        colour, marker = CYCLE[index % len(CYCLE)], MARKERS[index % len(MARKERS)]
        dash, width, order = ("-" if index < len(CYCLE) else "--"), 1.3, 2.0
    axes.plot(x, y, color=colour, linestyle=dash, linewidth=width, label=label, zorder=order)
    if any(p.scores[0] < p.scores[1] for p in points):
        spread = [[p.score - p.scores[0] for p in points], [p.scores[1] - p.score for p in points]]
        axes.errorbar(x, y, yerr=spread, fmt="none", ecolor=colour, capsize=2.5, linewidth=1)
    for point, at, score in zip(points, x, y):
        (drawn,) = axes.plot(
            [at], [score], color=colour, marker=marker, markersize=4, linestyle="", zorder=order
        )
        drawn.set_gid(marker_name(cost, facet.points.index(point)))
    return colour


def _ring(axes: Axes, facet: Facet, cost: Cost) -> None:
    best = facet.frontier(cost)
    axes.plot(
        [p.costs[cost.fact] for p in best],
        [p.score for p in best],
        color=INK,
        marker="o",
        markersize=8,
        markerfacecolor="none",
        markeredgewidth=0.9,
        linestyle="",
        gid="pareto",
    )


def _references(
    axes: Axes, facet: Facet, cost: Cost, ends: list[tuple[float, float, str, str]]
) -> list[tuple[float, float]]:
    """The networks without spikes: points where their energy is known, otherwise lines; their labels join ``ends``."""
    drawn: list[tuple[float, float]] = []
    if cost is ENERGY:
        for name, pairs in facet.twins().items():
            x, y = [energy for energy, _ in pairs], [score for _, score in pairs]
            axes.plot(x, y, color=GREY, marker=_TWINS[name], markersize=6, linestyle="", zorder=3)
            ends.append((*pairs[-1], name, GREY))
            drawn += pairs
        return drawn
    for name, text, dash in (
        ("float", "float ANN", (0, (1, 1.5))),
        ("quantised", "quantised ANN", (0, (4, 2))),
    ):
        value = facet.common(name)  # one network behind all points; with several, a line would be a lie
        if value is not None:
            axes.axhline(value, color=GREY, linestyle=dash, linewidth=1, zorder=1)
            ends.append((math.nan, value, f"{text}\n{percent(value)}", GREY))
            drawn.append((math.nan, value))
    return drawn


def _cost_axis(axes: Axes, facet: Facet, cost: Cost) -> None:
    values = sorted({p.costs[cost.fact] for p in facet.points})
    if cost is ENERGY:
        values = sorted({*values, *(x for pairs in facet.twins().values() for x, _ in pairs)})
    low, high = values[0], values[-1]
    if low <= 0 or high / low < 1.5:
        room = 0.08 * (high - low) or 0.5 * abs(high) or 1.0
        axes.set_xlim(low - room, high + room)
        axes.locator_params(axis="x", nbins=4)
        axes.xaxis.set_major_formatter(FuncFormatter(_brief))
        return
    axes.set_xscale("log", base=2 if cost is STEPS else 10)
    room = (high / low) ** 0.06
    axes.set_xlim(low / room, high * room)
    axes.xaxis.set_minor_locator(NullLocator())
    if cost is STEPS:
        shown = values if len(values) <= 7 else [t for t in values if math.log2(t).is_integer()]
        axes.xaxis.set_major_locator(FixedLocator(shown))
        axes.xaxis.set_major_formatter(FixedFormatter([f"{t:g}" for t in shown]))
    else:
        within = (1.0, 2.0, 5.0) if high / low < 60 else (1.0,)
        axes.xaxis.set_major_locator(LogLocator(10, subs=within))
        axes.xaxis.set_major_formatter(FuncFormatter(_brief))


def _wrapped(label: str) -> str:
    """A label in short lines, cut between what it consists of where that will do.

    Example:
        >>> _wrapped("bert, integrate_fire, coverage=full").split(chr(10))
        ['bert,', 'integrate_fire,', 'coverage=full']
    """
    lines: list[str] = []
    for part in label.replace(", ", ",\n").split("\n"):
        if lines and len(lines[-1]) + len(part) < 18:
            lines[-1] += f" {part}"
        else:
            lines += textwrap.wrap(part, 24) or [part]
    return "\n".join(lines)


def _brief(value: float, _position: int | None = None) -> str:
    """A tick, with k and M for thousands and millions.

    Example:
        >>> _brief(0.05), _brief(200.0), _brief(50_000.0), _brief(2e6)
        ('0.05', '200', '50k', '2M')
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
