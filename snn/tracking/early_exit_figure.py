"""The figure of an early exit: score against mean time steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from snn.tracking.style import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    Margins,
    end_labels,
    fraction_axis,
    headline,
    new_figure,
    percent,
    style,
    time_axis,
)


def early_exit_curve(found: Mapping[str, Any], *, subtitle: str = "") -> Figure:
    """Draw the score against the mean number of time steps, over thresholds, beside stopping all samples at one step.

    Args:
        found: The summary's ``early_exit``.
        subtitle: Model, data set, neuron, T.
    """
    reported, metric = found["reported"], found["metric"]
    with style():
        figure = new_figure(6.4, 3.9, Margins(right=1.9))
        axes = figure.axes[0]
        fixed = reported["per_timestep"]
        axes.plot(
            range(1, len(fixed) + 1),
            fixed,
            color=GREY,
            marker="s" if len(fixed) <= 16 else None,
            linestyle=(0, (4, 2)),
            zorder=2,
        )
        shown = list(fixed)
        ends = [(fixed[-1], f"all stop at t\n{percent(fixed[-1])} at T", GREY)]
        for name, text, colour in (
            ("validation", "early exit,\nvalidation", ORANGE),
            ("reported", f"early exit,\n{found['split']}", BLUE),
        ):
            curve = found[name]["curve"]
            axes.plot(curve["mean_steps"], curve["scores"], color=colour, zorder=3)
            shown += curve["scores"]
            ends.append((curve["scores"][-1], text, colour))
        axes.plot(
            [reported["mean_steps"]],
            [reported["score"]],
            marker="D",
            color=BLACK,
            markerfacecolor="white",
            linestyle="none",
            zorder=4,
        )
        axes.annotate(
            f"chosen on validation:\n{percent(reported['score'])} after {reported['mean_steps']:.2f} steps",
            (reported["mean_steps"], reported["score"]),
            (8, -24),
            textcoords="offset points",
            fontsize=8.5,
        )
        time_axis(axes, found["T"])
        fraction_axis(axes, shown, metric)
        axes.set_xlabel("mean time steps" + ("" if found["causal"] else " (prefix: not causal)"))
        headline(figure, f"Early exit by {found['criterion']}", subtitle)
        end_labels(axes, ends)
    return figure
