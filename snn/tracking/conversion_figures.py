"""What a conversion did, by depth: how far codes are off, how many, and when they settled."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from snn.tracking.layer_figures import layer_axes
from snn.tracking.style import BLUE, GREY, ORANGE, VERMILLION, headline, style

_PANEL = 2.7  # inches


def error_by_depth(
    layers: Sequence[Mapping[str, Any]], *, T: int | None = None, subtitle: str = ""
) -> Figure:
    """Draw how far the spiking network's codes are from the quantised network's, in order of execution.

    Left: the mean difference in levels, on a logarithmic axis with a place of its own for zero. Next: the
    share of values off by one level and by more. Where neurons have a settled state, a third panel shows the
    step after which their counts changed no more.

    Args:
        layers: ``name``, ``mean_levels``, ``share_off_by_one``, ``share_off_by_more``; and, if there is such
            a state, ``settled_mean``, ``settled_99``, ``settled_last`` and ``share_unsettled``.
        T: Number of time steps, for the panel on settling.
        subtitle: Model, neuron, T, samples.
    """
    settling = any(layer.get("settled_last") is not None for layer in layers)
    columns = 3 if settling else 2
    with style():
        figure, _, places = layer_axes(
            [layer["name"] for layer in layers], 0.62, columns=columns, width=_PANEL * columns
        )
        levels, shares, *more = figure.axes
        _draw_levels(levels, places, [float(layer["mean_levels"]) for layer in layers])
        _draw_shares(shares, places, layers)
        if settling:
            _draw_settling(more[0], places, layers, T)
        for axes in figure.axes:
            axes.grid(visible=False, axis="y")
        headline(figure, "Spiking minus quantised network, by depth", subtitle)
    return figure


def _draw_levels(axes: Axes, places: Sequence[int], values: Sequence[float]) -> None:
    shown = [v for v in values if v > 0 and math.isfinite(v)]
    least = 10.0 ** math.floor(math.log10(min(shown))) if shown else 0.1
    top = 10.0 ** math.ceil(math.log10(max(shown)) + 0.05) if shown else 1.0
    # Zero has no place on a log axis; it gets one at the left, a decade below everything else.
    zero = least / 10 if 0 in values else least
    drawn = [zero if v == 0 else v if math.isfinite(v) else top for v in values]
    axes.set_xscale("log")
    axes.set_xlim(zero / 2 if 0 in values else least, top)
    axes.plot(drawn, places, color="#BBD4E6", linewidth=1.2, zorder=2)
    for exact in (False, True):
        rows = [(x, place) for x, v, place in zip(drawn, values, places) if (v == 0) == exact]
        axes.plot(
            [x for x, _ in rows],
            [place for _, place in rows],
            linestyle="none",
            marker="o",
            markersize=4,
            color=BLUE,
            markerfacecolor="white" if exact else BLUE,
            label="exactly zero" if exact else "mean",
            zorder=3,
            clip_on=False,
        )
    if 0 in values:
        axes.axvline(zero * 10**0.5, color=GREY, linewidth=0.8)
        _zero_tick(axes, zero, top if shown else zero)
    axes.set_xlabel("mean |difference| (levels)")


def _draw_shares(axes: Axes, places: Sequence[int], layers: Sequence[Mapping[str, Any]]) -> None:
    one = [100 * float(layer["share_off_by_one"]) for layer in layers]
    rest = [100 * float(layer["share_off_by_more"]) for layer in layers]
    axes.barh(places, one, height=0.72, color=ORANGE, label="by one level")
    axes.barh(places, rest, left=one, height=0.72, color=VERMILLION, label="by more")
    whole = [a + b for a, b in zip(one, rest)]
    top = max(whole)
    axes.set_xlim(0, 1.18 * top or 1)
    for place, share in zip(places, whole):
        if share:
            text = f"{share:.1f}" if share >= 0.05 else f"{share:.0e}"
            _beside(axes, share, place, text)
    if not top:
        axes.annotate(
            "every code is equal",
            (0.5, 0.5),
            xycoords="axes fraction",
            ha="center",
            fontsize=9,
            color="#444444",
        )
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.set_xlabel("share of values off (%)")
    _key(axes, [("by one level", ORANGE), ("by more", VERMILLION)])


def _draw_settling(
    axes: Axes, places: Sequence[int], layers: Sequence[Mapping[str, Any]], T: int | None
) -> None:
    mean, most, last = (
        [layer[key] for layer in layers] for key in ("settled_mean", "settled_99", "settled_last")
    )
    axes.hlines(places, mean, last, color="#CCCCCC", linewidth=1.2, zorder=2)
    axes.plot(mean, places, "o", markersize=4, color=BLUE, label="mean", zorder=4)
    axes.plot(most, places, "|", markersize=7, color=GREY, markeredgewidth=1.5, label="99 %", zorder=3)
    axes.plot(last, places, "D", markersize=4, color=VERMILLION, label="last", zorder=3)
    limit = 1.18 * max([*last, 1])
    if T is not None and limit >= T:
        axes.axvline(T, color=GREY, linewidth=1, linestyle=(0, (4, 2)))
    axes.set_xlim(0, limit)
    for place, layer, step in zip(places, layers, last):
        if layer.get("share_unsettled"):
            _beside(axes, step, place, f"{100 * layer['share_unsettled']:.1f} % moving")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.set_xlabel("settled after step")
    _key(axes, [("mean", BLUE), ("99 %", GREY), ("last", VERMILLION)])


def _beside(axes: Axes, x: float, place: int, text: str) -> None:
    axes.annotate(
        text,
        (x, place),
        (4, 0),
        textcoords="offset points",
        va="center",
        fontsize=6.5,
        color="#444444",
        zorder=5,
    )


def _key(axes: Axes, entries: Sequence[tuple[str, str]]) -> None:
    """Words in the colour of what they name, above the axes."""
    share = 1 / len(entries)
    for number, (text, colour) in enumerate(entries):
        axes.annotate(
            f"■ {text}",
            (number * share, 1),
            (0, 4),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=8,
            color=colour,
        )


def _zero_tick(axes: Axes, zero: float, top: float) -> None:
    low, high = round(math.log10(zero)), round(math.log10(top))
    every = max(1, math.ceil((high - low - 1) / 7))
    axes.xaxis.set_major_locator(FixedLocator([zero, *(10.0**p for p in range(high, low, -every))]))
    axes.xaxis.set_minor_locator(FixedLocator([]))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda x, _: "0" if x <= zero * 1.01 else f"$10^{{{round(math.log10(x))}}}$")
    )
