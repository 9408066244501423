"""Figures with one row per layer, in network order from top to bottom: spike rates and conversion errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from snn.tracking.style import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    VERMILLION,
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
        figure, axes, places = _layer_axes([layer["name"] for layer in layers], right=0.55)
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
            _colour_key(figure, [("positive", BLUE), ("negative", ORANGE)])
    return figure


def spike_rate_heatmap(layers: Sequence[Mapping[str, Any]], *, subtitle: str = "") -> Figure:
    """Draw each layer's spike rate at each time step.

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
    steps = len(values[0])
    with style():
        figure, axes, _ = _layer_axes([layer["name"] for layer in timed], right=1.0)
        image = axes.imshow(
            values,
            aspect="auto",
            cmap="cividis",
            interpolation="nearest",
            vmin=0,
            vmax=max(max(row) for row in values) or 1.0,
            extent=(0.5, steps + 0.5, len(timed) - 0.5, -0.5),
        )
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        time_axis(axes, steps)
        axes.set_xlim(0.5, steps + 0.5)
        axes.set_xlabel("time step")
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


def error_by_depth(
    layers: Sequence[Mapping[str, Any]],
    *,
    logits: Mapping[str, float] | None = None,
    tolerance: float | None = None,
    subtitle: str = "",
) -> Figure:
    """Draw how far the spiking network's aggregates are from the quantised network's, layer by layer.

    The axis is logarithmic, with a place of its own for differences that are exactly zero.

    Args:
        layers: ``name``, ``max_error`` and ``mean_error`` of absolute differences, in units of the
            activation.
        logits: ``max_error`` and ``mean_error`` of the read-out, drawn as the last row.
        tolerance: What the method promises.
        subtitle: Model, neuron, T, samples.
    """
    rows = list(layers) + ([{"name": "logits", **logits}] if logits else [])
    series = {
        "max_error": [float(row["max_error"]) for row in rows],
        "mean_error": [float(row.get("mean_error", 0.0)) for row in rows],
    }
    # Zero has no place on a log axis; it gets one at the left, a decade below everything else.
    shown = [v for values in series.values() for v in values if v > 0 and math.isfinite(v)]
    shown += [tolerance] if tolerance else []
    zero = 10.0 ** (math.floor(math.log10(min(shown))) - 1) if shown else 1e-17
    top = 10.0 ** math.ceil(math.log10(max(shown)) + 0.05) if shown else 1e-15
    with style():
        figure, axes, places = _layer_axes(
            [row["name"] for row in layers], 0.35, last=[row["name"] for row in rows[len(layers) :]]
        )
        axes.set_xscale("log")
        axes.set_xlim(zero / 2, top)
        axes.hlines(
            places,
            [max(v, zero) for v in series["mean_error"]],
            [max(v, zero) if math.isfinite(v) else top for v in series["max_error"]],
            color="#CCCCCC",
            linewidth=1.2,
            zorder=2,
        )
        for key, colour, marker, size, label in (
            ("max_error", VERMILLION, "D", 5.0, "max"),
            ("mean_error", BLUE, "o", 3.2, "mean"),
        ):
            values = series[key]
            for exact in (False, True):
                points = [(v, p) for v, p in zip(values, places) if (v == 0) == exact]
                axes.plot(
                    [zero if exact else v if math.isfinite(v) else top for v, _ in points],
                    [p for _, p in points],
                    linestyle="none",
                    marker=marker,
                    markersize=size,
                    color=colour,
                    markerfacecolor="white" if exact else colour,
                    label=f"{label}, exactly zero" if exact else label,
                    zorder=3,
                    clip_on=False,
                )
        if any(v == 0 for values in series.values() for v in values):
            if shown:
                axes.axvline(zero * 10**0.5, color=GREY, linewidth=0.8)
            _zero_tick(axes, zero, top if shown else zero)
        if tolerance:
            axes.axvline(tolerance, color=BLACK, linewidth=1, linestyle=(0, (4, 2)))
            axes.annotate(
                f"tolerance {tolerance:.0e}",
                (tolerance, 1),
                (0, 3),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
        if not shown:
            axes.annotate(
                "every difference is exactly zero",
                (0.5, 0.5),
                xycoords="axes fraction",
                ha="center",
                fontsize=9,
            )
        axes.set_xlabel("absolute difference of aggregates (units of the activation)")
        headline(figure, "Spiking minus quantised network, by depth", subtitle)
        _colour_key(figure, [("mean", BLUE), ("max", VERMILLION)])
    return figure


def _layer_axes(
    names: Sequence[str], right: float, last: Sequence[str] = ()
) -> tuple[Figure, Axes, list[int]]:
    short = [*shorten(names), *last]
    names = [*names, *last]
    size = 8.5 if len(names) <= 24 else 7.0
    left = 0.35 + 0.0088 * size * max([len(name) for name in short] + [6])
    height = 1.5 + 0.165 * max(len(names), 4)
    figure = new_figure(left + right + 3.9, height, Margins(left=left, right=right, top=0.92, bottom=0.55))
    axes = figure.axes[0]
    places = list(range(len(names)))
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(places, short, fontsize=size)
    axes.tick_params(axis="y", length=0)
    return figure, axes, places


def _colour_key(figure: Figure, entries: Sequence[tuple[str, str]]) -> None:
    # Words in the colour of what they name, at the upper right: shorter than a legend.
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


def _zero_tick(axes: Axes, zero: float, top: float) -> None:
    low, high = round(math.log10(zero)), round(math.log10(top))
    every = max(1, math.ceil((high - low - 1) / 7))
    axes.xaxis.set_major_locator(FixedLocator([zero, *(10.0**p for p in range(high, low, -every))]))
    axes.xaxis.set_minor_locator(FixedLocator([]))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda x, _: "0" if x <= zero * 1.01 else f"$10^{{{round(math.log10(x))}}}$")
    )
