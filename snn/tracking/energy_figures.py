"""The figure of energy: one bar for each network, cut into what takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from snn.tracking.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    Margins,
    headline,
    new_figure,
    style,
)

_COLOURS = {
    "layers on spikes": BLUE,
    "attention on spikes": SKY,
    "layers on the input": GREEN,
    "layers on analog values": ORANGE,
    "norms and activations": PURPLE,
    "membranes": VERMILLION,
}


def energy_by_part(
    networks: Sequence[Mapping[str, Any]], parts: Sequence[Mapping[str, Any]], *, subtitle: str = ""
) -> Figure:
    """Draw what each network's energy goes into.

    Args:
        networks: ``network`` and ``energy_uj`` of the float, the quantised and the spiking network.
        parts: ``part``, ``float_uj``, ``quantized_uj`` and ``spiking_uj``.
        subtitle: Model, data set, neuron, T, samples, profile.
    """
    with style():
        figure = new_figure(7.4, 2.7, Margins(left=1.75, right=0.75, top=1.0, bottom=0.55))
        axes = figure.axes[0]
        for row, (network, key) in enumerate(zip(networks, ("float_uj", "quantized_uj", "spiking_uj"))):
            energy = network["energy_uj"]
            left = 0.0
            for part in parts:
                axes.barh(row, part[key], left=left, height=0.62, color=_COLOURS.get(part["part"], GREY))
                left += part[key]
            axes.annotate(
                f"{energy:,.0f}" if energy >= 100 else f"{energy:.3g}",  # no powers of ten
                (energy, row),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8.5,
            )
        axes.set_ylim(len(networks) - 0.4, -0.6)
        axes.set_yticks(range(len(networks)), [str(n["network"]) for n in networks], fontsize=8.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("energy per sample (µJ)")
        headline(figure, "Energy by what is computed", subtitle)
        width, height = figure.get_size_inches()
        at = 0.12
        for part in parts:
            text = f"■ {part['part']}"
            figure.text(
                at / width,
                1 - 0.58 / height,
                text,
                va="top",
                fontsize=8.5,
                color=_COLOURS.get(part["part"], GREY),
            )
            at += 0.068 * len(text) + 0.1
    return figure
