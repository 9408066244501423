"""Figures of a run over time: accuracy per time step, and training; plain numbers in, a figure out.

What a figure looks like is decided in :mod:`snn.tracking.style`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from snn.tracking.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    VERMILLION,
    Margins,
    end_labels,
    fraction_axis,
    headline,
    new_figure,
    percent,
    style,
    time_axis,
)


def accuracy_over_time(
    per_timestep: Sequence[float],
    *,
    causal: bool = True,
    float_accuracy: float | None = None,
    quantized_accuracy: float | None = None,
    accuracy_at_T: Mapping[int, float] | None = None,
    subtitle: str = "",
    metric: str = "accuracy",
) -> Figure:
    """Draw a metric of one spiking run, read after each time step, beside the networks that it was made from.

    Args:
        per_timestep: The metric after step 1..T, as fractions.
        causal: Whether a step's read-out depends on nothing later; if not, the curve is dashed and labelled
            as a prefix.
        float_accuracy: Of the float ANN.
        quantized_accuracy: Of the quantised ANN.
        accuracy_at_T: T → the metric of a network built for that T, drawn as markers.
        subtitle: Model, data set, neuron, T, samples.
        metric: Name of the metric.

    Raises:
        ValueError: ``per_timestep`` is empty.
    """
    steps = len(per_timestep)
    if steps == 0:
        raise ValueError("per_timestep is empty: a curve over time needs one value at least")
    with style():
        figure = new_figure(6.4, 3.9, Margins(left=0.72, right=1.95))
        axes = figure.axes[0]
        times = list(range(1, steps + 1))
        axes.plot(
            times,
            per_timestep,
            color=BLUE,
            linestyle="-" if causal else (0, (4, 2)),
            marker="o" if steps <= 16 else None,
            label="spiking",
            zorder=3,
        )
        # At its last step every read-out is what the network says.
        name = "spiking" if causal or steps == 1 else "spiking, prefix\n(not causal)"
        labels = [(per_timestep[-1], f"{name} {percent(per_timestep[-1])}", BLUE)]
        for value, text, colour, dash in (
            (float_accuracy, "float ANN", GREY, (0, (1, 1.5))),
            (quantized_accuracy, "quantised ANN", VERMILLION, "-"),
        ):
            if value is not None:
                axes.axhline(value, color=colour, linestyle=dash, linewidth=1.3, label=text, zorder=2)
                labels.append((value, f"{text} {percent(value)}", colour))
        if accuracy_at_T:
            points = sorted(accuracy_at_T.items())
            axes.plot(
                [t for t, _ in points],
                [value for _, value in points],
                linestyle="none",
                marker="D",
                markerfacecolor="white",
                color=BLACK,
                label=f"{metric}/T",
                zorder=4,
            )
            labels.append((points[-1][1], f"built for T = {points[-1][0]}: {percent(points[-1][1])}", BLACK))
        time_axis(axes, max([steps, *(accuracy_at_T or {})]))
        shown = [*per_timestep, *(accuracy_at_T or {}).values(), *(value for value, _, _ in labels)]
        fraction_axis(axes, shown, f"{metric} at t")
        axes.set_xlabel("time step t")
        headline(figure, f"{metric.capitalize()} over time steps", subtitle)
        end_labels(axes, labels)
    return figure


def training_curves(
    stages: Sequence[Mapping[str, Any]], *, metric: str = "accuracy", subtitle: str = ""
) -> Figure:
    """Draw loss and validation metric over the optimiser steps of all stages, one after another.

    Args:
        stages: ``name``; ``loss``, ``validation_loss`` and ``metric``, each a list of ``(step, value)`` with
            steps counted through all stages.
        metric: Name of the validation metric.
        subtitle: Model, data set, optimiser.
    """
    stages = [stage for stage in stages if any(stage.get(key) for key in _CURVES)]
    rows = 2 if any(stage.get("metric") for stage in stages) else 1
    names = {"loss": "training", "validation_loss": "validation", "metric": f"validation\n{metric}"}
    colours = {"loss": BLUE, "validation_loss": ORANGE, "metric": GREEN}
    with style():
        margins = Margins(left=0.78, right=1.3, top=0.95)
        figure = new_figure(6.4, 1.55 + 1.65 * rows, margins, rows=rows, sharex=True, hspace=0.14)
        loss, bottom = figure.axes[0], figure.axes[-1]
        last: dict[str, float] = {}
        for number, stage in enumerate(stages):
            for key in _CURVES:
                if stage.get(key):
                    steps, values = zip(*stage[key])
                    marker = "o" if key != "loss" or len(steps) == 1 else None
                    width = 1.2 if len(steps) > 50 else 1.8
                    axes = bottom if key == "metric" else loss
                    axes.plot(steps, values, color=colours[key], marker=marker, linewidth=width)
                    last[key] = values[-1]
            start = min(step for key in _CURVES for step, _ in stage.get(key) or [])
            if number:
                for axes in figure.axes:
                    axes.axvline(start, color=GREY, linewidth=0.8, linestyle=(0, (4, 2)))
            loss.annotate(
                stage["name"],
                (start, 1),
                (3, 4),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                fontsize=8.5,
                color="#444444",
            )
        loss.set_ylabel("loss")
        loss.set_ylim(bottom=min(0.0, loss.get_ylim()[0]))
        bottom.set_xlabel("optimiser step")
        bottom.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        headline(figure, "Training", subtitle)
        end_labels(loss, [(last[k], names[k], colours[k]) for k in ("loss", "validation_loss") if k in last])
        if rows == 2:
            fraction_axis(bottom, [v for stage in stages for _, v in stage.get("metric") or []], metric)
            text = f"{names['metric']} {percent(last['metric'])}"
            end_labels(bottom, [(last["metric"], text, colours["metric"])])
    return figure


_CURVES = ("loss", "validation_loss", "metric")
