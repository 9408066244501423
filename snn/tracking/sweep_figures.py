"""The figure of a sweep: accuracy over the number of time steps that networks were built for."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator

from snn.tracking.style import (
    CYCLE,
    GREY,
    MARKERS,
    Margins,
    end_labels,
    fraction_axis,
    headline,
    new_figure,
    percent,
    style,
)


def accuracy_over_T(
    rows: Sequence[Mapping[str, Any]], *, subtitle: str = "", metric: str = "accuracy"
) -> Figure:
    """Draw the accuracy of networks built for T steps over T: a line per combination, a panel per data set.

    Points of the same line and T (several seeds) are averaged; the bar shows their smallest and largest
    value.

    Args:
        rows: ``T``, ``accuracy`` (a fraction), ``label`` (names the line), ``dataset`` and, if known,
            ``float`` and ``quantized``, the accuracies of the networks that the spiking one was made from.
        subtitle: What the sweep has in common.
        metric: Name of the metric.

    Raises:
        ValueError: There are no rows.
    """
    if not rows:
        raise ValueError("rows is empty: no finished job has an accuracy to draw")
    datasets = list(dict.fromkeys(str(row.get("dataset") or "") for row in rows))
    labels = list(dict.fromkeys(str(row["label"]) for row in rows))
    wrapped = [line for label in labels for line in _wrap(label).split("\n")]
    side = 0.45 + 0.072 * max([len(line) for line in wrapped] + [len("quantised ANN 100.0 %")])
    panel = 3.4
    # As high as the labels at the right need to stand below each other.
    height = max(3.9, 1.7 + 0.16 * (len(wrapped) + 2))
    with style():
        count = len(datasets)
        figure = new_figure(
            0.75 + count * (panel + side),
            height,
            Margins(left=0.75, right=side, top=0.95),
            columns=count,
            squeeze=False,
            wspace=(side + 0.35) / panel,
        )
        for axes, dataset in zip(figure.axes, datasets):
            _panel(axes, [row for row in rows if str(row.get("dataset") or "") == dataset], labels, metric)
            if count > 1:
                axes.set_title(dataset, loc="left")
        headline(figure, f"{metric.capitalize()} of networks built for T time steps", subtitle)
    return figure


def _panel(axes: Axes, rows: list[Mapping[str, Any]], labels: list[str], metric: str) -> None:
    ends: list[tuple[float, str, str]] = []
    values = [row["accuracy"] for row in rows]
    for index, label in enumerate(labels):
        by_T: dict[int, list[float]] = {}
        for row in rows:
            if str(row["label"]) == label:
                by_T.setdefault(int(row["T"]), []).append(row["accuracy"])
        if not by_T:
            continue
        x = sorted(by_T)
        y = [statistics.fmean(by_T[t]) for t in x]
        spread = [[m - min(by_T[t]) for t, m in zip(x, y)], [max(by_T[t]) - m for t, m in zip(x, y)]]
        colour = CYCLE[index % len(CYCLE)]
        axes.errorbar(
            x,
            y,
            yerr=spread if any(len(v) > 1 for v in by_T.values()) else None,
            color=colour,
            marker=MARKERS[index % len(MARKERS)],
            linestyle="-" if index < len(CYCLE) else "--",
            capsize=3,
            label=label,
        )
        ends.append((y[-1], _wrap(label), colour))
    for key, text, dash in (
        ("float", "float ANN", (0, (1, 1.5))),
        ("quantized", "quantised ANN", (0, (4, 2))),
    ):
        known = {round(row[key], 6) for row in rows if row.get(key) is not None}
        if len(known) == 1:  # one network behind all rows; with several, a line would be a lie
            value = known.pop()
            axes.axhline(value, color=GREY, linestyle=dash, linewidth=1.2, zorder=1)
            ends.append((value, f"{text} {percent(value)}", GREY))
            values.append(value)
    ticks = sorted({int(row["T"]) for row in rows})
    axes.set_xscale("log", base=2)
    axes.set_xlim(ticks[0] / 2**0.3, ticks[-1] * 2**0.3)
    shown = ticks if len(ticks) <= 10 else [t for t in ticks if t & (t - 1) == 0]
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_major_formatter(FixedFormatter([str(t) for t in shown]))
    axes.xaxis.set_minor_locator(FixedLocator([]))
    axes.set_xlabel("T (time steps)")
    fraction_axis(axes, values, metric)
    end_labels(axes, ends)


def _wrap(label: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(label, 24)) or label
