"""Figures of single spikes, and of what was taken for what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from snn.tracking.layer_figures import colour_key
from snn.tracking.style import BLUE, VERMILLION, Margins, headline, new_figure, shorten, style, time_axis

#: Inches of one neuron's line.
_LINE = 0.075


def spike_raster(raster: Mapping[str, Any], *, among: Sequence[str] = (), subtitle: str = "") -> Figure:
    """Draw a stroke for every spike of a few neurons, layers from top to bottom.

    Args:
        raster: ``T`` and ``layers``, each with ``name``, ``size``, ``neurons`` and ``spikes``.
        among: Names of all layers, from which those in the figure are to be told apart.
        subtitle: Model, data set, neuron, T.
    """
    layers, T = raster["layers"], raster["T"]
    known = list(dict.fromkeys([layer["name"] for layer in layers] + list(among)))
    names = shorten(known)[: len(layers)]
    rows = sum(len(layer["neurons"]) + 1 for layer in layers) - 1
    left = 0.35 + 0.0088 * 8 * max([len(name) for name in names] + [6])
    height = 1.5 + _LINE * rows
    with style():
        figure = new_figure(left + 4.2, height, Margins(left=left, right=0.3, top=0.92, bottom=0.55))
        axes = figure.axes[0]
        ticks, first = [], 0
        strokes: dict[int, tuple[list[int], list[int]]] = {1: ([], []), -1: ([], [])}
        for layer in layers:
            count = len(layer["neurons"])
            ticks.append(first + (count - 1) / 2)
            for row, over_time in enumerate(layer["spikes"], first):
                for t, sign in enumerate(over_time, 1):
                    if sign:
                        strokes[sign][0].append(t)
                        strokes[sign][1].append(row)
            axes.axhspan(first - 0.6, first + count - 0.4, color="#E6E6E6", alpha=0.5, linewidth=0)
            first += count + 1
        for sign, colour in ((1, BLUE), (-1, VERMILLION)):
            x, y = strokes[sign]
            axes.scatter(x, y, s=26, marker="|", color=colour, linewidths=1.6 if T <= 32 else 0.8)
        axes.set_ylim(first - 1.4, -0.6)
        axes.set_yticks(ticks, names, fontsize=8)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        time_axis(axes, T)
        axes.set_xlabel("time step")
        headline(figure, "Spikes of a few neurons, one sample", subtitle)
        if strokes[-1][0]:
            colour_key(figure, [("positive", BLUE), ("negative", VERMILLION)])
    return figure


def confusion_matrix(labels: Sequence[str], counts: Sequence[Sequence[int]], *, subtitle: str = "") -> Figure:
    """Draw how many samples of each class were taken for which.

    Args:
        labels: Names of the classes.
        counts: Rows by label, columns by prediction.
        subtitle: Model, data set, neuron, T, samples.
    """
    shares = [[n / max(sum(row), 1) for n in row] for row in counts]
    cell = 0.42 if len(labels) <= 12 else 4.5 / len(labels)
    size, left = cell * len(labels), 0.5 + 0.075 * max(len(label) for label in labels)
    with style():
        width = max(left + size + 0.3, 4.2)
        margins = Margins(left=left, right=width - left - size, top=0.92, bottom=left)
        figure = new_figure(width, size + 0.92 + left, margins)
        axes = figure.axes[0]
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
        axes.grid(visible=False)
        places = range(len(labels))
        small = 8 if len(labels) <= 30 else 4
        axes.set_xticks(places, labels, rotation=90, fontsize=small)
        axes.set_yticks(places, labels, fontsize=small)
        axes.set_xlabel("prediction")
        axes.set_ylabel("label")
        if len(labels) <= 12:
            for row in places:
                for column in places:
                    dark = shares[row][column] > 0.6
                    axes.text(
                        column,
                        row,
                        f"{counts[row][column]:,}",
                        ha="center",
                        va="center",
                        fontsize=7,
                        color="#FEFEFE" if dark else "#1B1B1B",  # which no dark page swaps: the picture stays
                    )
        headline(figure, "What was taken for what", subtitle)
    return figure
