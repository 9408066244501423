"""Figures of spike rates with one row per layer, in network order from top to bottom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from snn.tracking.style import (
    BLACK,
    BLUE,
    ORANGE,
    Margins,
    headline,
    new_figure,
    shorten,
    style,
    time_axis,
)


def spike_rate_per_layer(
    layers: Sequence[Mapping[str, Any]], *, mean: float | None = None, subtitle: str = ""
) -> Figure:
    """Draw each layer's spike rate, in network order from top to bottom.

    Args:
        layers: ``name``, ``rate`` and, for signed neurons, ``positive_rate`` and ``negative_rate``, in
            spikes per neuron per time step.
        mean: Rate of the whole network, drawn as a line.
        subtitle: Model, data set, neuron, T, samples.
    """
    with style():
        figure, axes, places = layer_axes([layer["name"] for layer in layers], right=0.55)
        rates = [layer["rate"] for layer in layers]
        signed = any(layer.get("negative_rate") for layer in layers)
        if signed:
            positive = [layer.get("positive_rate", layer["rate"]) or 0.0 for layer in layers]
            negative = [layer.get("negative_rate") or 0.0 for layer in layers]
            axes.barh(places, positive, height=0.72, color=BLUE, label="positive spikes")
            axes.barh(places, negative, left=positive, height=0.72, color=ORANGE, label="negative spikes")
        else:
            axes.barh(places, rates, height=0.72, color=BLUE, label="spikes")
        top = max([*rates, mean or 0.0, 1e-9])
        axes.set_xlim(0, top * 1.02)
        for place, rate in zip(places, rates):
            text = f"{rate:.3f}" if rate == 0 or rate >= 5e-4 else f"{rate:.0e}"
            axes.annotate(
                text,
                (rate, place),
                (3, 0),
                textcoords="offset points",
                va="center",
                fontsize=6.5,
                color="#444444",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4},
                zorder=4,
            )
        if mean is not None:
            axes.axvline(mean, color=BLACK, linewidth=1, linestyle=(0, (4, 2)))
            axes.annotate(
                f"network {mean:.3f}",
                (mean, 1),
                (0, 3),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("spikes per neuron per time step")
        headline(figure, "Spike rate per layer", subtitle)
        if signed:
            colour_key(figure, [("positive", BLUE), ("negative", ORANGE)])
    return figure


def spike_rate_heatmap(layers: Sequence[Mapping[str, Any]], *, subtitle: str = "") -> Figure:
    """Draw each layer's spike rate at each time step, up to the last at which anything fires.

    Args:
        layers: ``name`` and ``rate_per_timestep``, in spikes per neuron per time step; layers without it are
            left out.
        subtitle: Model, data set, neuron, T, samples.

    Raises:
        ValueError: No layer has rates over time.
    """
    timed = [layer for layer in layers if layer.get("rate_per_timestep")]
    if not timed:
        raise ValueError("no layer has rate_per_timestep: there is nothing to draw over time")
    values = [layer["rate_per_timestep"] for layer in timed]
    steps = shown = len(values[0])
    last = max((t for row in values for t, rate in enumerate(row, 1) if rate), default=steps)
    label = "time step"
    if last < 0.7 * steps:
        shown, label = last + 1, f"time step; nothing fires from {last + 1} to {steps}"
        values = [row[:shown] for row in values]
    with style():
        figure, axes, _ = layer_axes([layer["name"] for layer in timed], right=1.0)
        image = axes.imshow(
            values,
            aspect="auto",
            cmap="cividis",
            interpolation="nearest",
            vmin=0,
            vmax=max(max(row) for row in values) or 1.0,
            extent=(0.5, shown + 0.5, len(timed) - 0.5, -0.5),
        )
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        time_axis(axes, shown)
        axes.set_xlim(0.5, shown + 0.5)
        axes.set_xlabel(label)
        width, height = figure.get_size_inches()
        box = axes.get_position()
        bar = figure.add_axes(
            (
                box.x1 + 0.12 / width,
                box.y1 - min(box.height, 2.2 / height),
                0.13 / width,
                min(box.height, 2.2 / height),
            )
        )
        figure.colorbar(image, cax=bar, label="spikes per neuron")
        bar.tick_params(labelsize=7.5)
        bar.yaxis.label.set_fontsize(8.5)
        headline(figure, "Spike rate per layer and time step", subtitle)
    return figure


def layer_axes(
    names: Sequence[str], right: float, columns: int = 1, width: float = 3.9
) -> tuple[Figure, Axes, list[int]]:
    """Make axes with one row per layer, high enough to read every name.

    Args:
        names: Dotted names of the layers, the first at the top.
        right: Free room at the right, in inches.
        columns: Axes beside each other (``figure.axes``); they share the rows.
        width: Of all axes together, in inches.

    Returns:
        The figure, its first axes, and the place of each layer on the y axis.
    """
    short = shorten(names)
    size = 8.5 if len(names) <= 24 else 7.0
    left = 0.35 + 0.0088 * size * max([len(name) for name in short] + [6])
    height = 1.5 + 0.165 * max(len(names), 4)
    margins = Margins(left=left, right=right, top=0.92, bottom=0.55)
    figure = new_figure(left + right + width, height, margins, columns=columns, sharey=True, wspace=0.12)
    axes = figure.axes[0]
    places = list(range(len(names)))
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(places, short, fontsize=size)
    for panel in figure.axes:
        panel.tick_params(axis="y", length=0)
    return figure, axes, places


def colour_key(figure: Figure, entries: Sequence[tuple[str, str]]) -> None:
    """Write words in the colour of what they name at the upper right of the first axes."""
    width, height = figure.get_size_inches()
    right = figure.axes[0].get_position().x1
    for place, (text, colour) in enumerate(reversed(entries)):
        figure.text(
            right - place * 0.72 / width,
            1 - 0.12 / height,
            f"■ {text}",
            va="top",
            ha="right",
            fontsize=8.5,
            color=colour,
        )
