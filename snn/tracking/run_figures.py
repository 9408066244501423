"""Which figures a run's summary and metrics give, and how they are named."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn.tracking.analysis_report import draw_analyses

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TRAINING = {"train", "training"}
_VALIDATION = {"val", "valid", "validation", "eval", "dev"}


def draw_run(
    summary: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]], folder: Path
) -> dict[str, Path]:
    """Draw every figure that there are numbers for, as PNG and SVG.

    Args:
        summary: As in ``summary.json``.
        metrics: Lines of ``metrics.jsonl``.
        folder: Where the figures go.

    Returns:
        Name of the figure → its PNG.
    """
    figures: dict[str, Figure] = {}
    spiking = nested(summary, "results", "spiking")
    metric = main_metric(summary)
    subtitle = describe(summary)
    per_timestep = nested(spiking, "per_timestep").get(metric)
    if per_timestep:
        from snn.tracking.figures import accuracy_over_time

        figures["accuracy_over_time"] = accuracy_over_time(
            per_timestep,
            causal=bool(spiking.get("causal", True)),
            float_accuracy=nested(summary, "results", "float", "metrics").get(metric),
            quantized_accuracy=nested(summary, "results", "quantized", "metrics").get(metric),
            subtitle=subtitle,
            metric=metric,
        )
    layers = [layer for layer in summary.get("layers") or [] if layer.get("rate") is not None]
    if layers:
        from snn.tracking.layer_figures import spike_rate_heatmap, spike_rate_per_layer

        figures["spike_rate_per_layer"] = spike_rate_per_layer(
            layers, mean=spiking.get("spike_rate"), subtitle=subtitle
        )
        if any(len(layer.get("rate_per_timestep") or []) > 1 for layer in layers):
            figures["spike_rate_heatmap"] = spike_rate_heatmap(layers, subtitle=subtitle)
    raster, confusion = summary.get("raster") or {}, summary.get("confusion") or {}
    if raster.get("layers"):
        from snn.tracking.rasters import spike_raster

        figures["spike_raster"] = spike_raster(
            raster,
            among=[layer["name"] for layer in layers],
            subtitle=describe({**summary, "results": {}, "T": raster["T"]}),
        )
    if confusion:
        from snn.tracking.rasters import confusion_matrix

        figures["confusion"] = confusion_matrix(confusion["labels"], confusion["counts"], subtitle=subtitle)
    found = summary.get("energy") or {}
    if found:
        from snn.tracking.energy_figures import energy_by_part

        profile = nested(found, "profile").get("name")
        figures["energy_by_part"] = energy_by_part(
            found["networks"],
            found["parts"],
            subtitle=subtitle + (f"; energy={profile}" if profile else ""),
        )
    verification = summary.get("verification") or {}
    if verification.get("layers"):
        from snn.tracking.conversion_figures import error_by_depth

        compared = describe({**summary, "results": {}}, verification.get("samples"))
        figures["error_by_depth"] = error_by_depth(
            verification["layers"],
            T=verification.get("T"),
            subtitle=f"{compared}; logits differ by at most {verification['max_error']:.2g}",
        )
    stages = training_stages(metrics, metric)
    if stages:
        from snn.tracking.figures import training_curves

        who = [text for text in (summary.get("model"), summary.get("dataset")) if text]
        figures["training_curves"] = training_curves(stages, metric=metric, subtitle=" on ".join(who))
    figures |= draw_analyses(summary, subtitle)
    if not figures:
        return {}
    from snn.tracking.style import save

    return {name: save(figure, folder / name)[0] for name, figure in figures.items()}


def main_metric(summary: Mapping[str, Any]) -> str:
    """The metric that the run is judged by: the first that is reported."""
    for network in ("spiking", "quantized", "float"):
        metrics = nested(summary, "results", network, "metrics")
        if metrics:
            return str(next(iter(metrics)))
    return "accuracy"


def describe(summary: Mapping[str, Any], samples: int | None = None) -> str:
    """One line about what was measured: model, data set, neuron, T, samples.

    Example:
        >>> describe({"model": "bert", "dataset": "trec", "neuron": "para_inf", "order": "even", "T": 8}, 500)
        'bert on trec, para_inf (even), T = 8, 500 samples'
    """
    spiking = nested(summary, "results", "spiking")
    samples = samples or spiking.get("samples")
    who = " on ".join(str(summary[key]) for key in ("model", "dataset") if summary.get(key))
    neuron = str(summary.get("neuron") or "")
    if neuron == "own":
        neuron = "own neurons"
    how = summary.get("order") or (f"offsets: {summary['offsets']}" if summary.get("offsets") else "")
    if neuron and how:
        neuron += f" ({how})"
    steps = spiking.get("T") or summary.get("T")
    split = f"{summary['split']} " if summary.get("split") and spiking else ""
    parts = [who, neuron, f"T = {steps}" if steps else "", f"{samples:,} {split}samples" if samples else ""]
    return ", ".join(part for part in parts if part)


def training_stages(metrics: Sequence[Mapping[str, Any]], metric: str = "accuracy") -> list[dict[str, Any]]:
    """Sort the lines of a metrics log into stages.

    A key is ``[STAGE/]train/loss``, ``[STAGE/]validation/loss`` or ``[STAGE/]validation/METRIC``; a line may
    also name its stage in ``stage``. Where steps start again with a stage, they are counted on from the one
    before.

    Returns:
        Per stage ``name`` and the ``(step, value)`` lists ``loss``, ``validation_loss`` and ``metric``.

    Example:
        >>> training_stages([{"step": 1, "stage": "float", "train/loss": 0.7}])
        [{'name': 'float', 'loss': [(1, 0.7)], 'validation_loss': [], 'metric': []}]
    """
    stages: dict[str, dict[str, Any]] = {}
    offset, last, current = 0, 0, None
    for line in metrics:
        for key, value in line.items():
            *path, quantity = key.split("/")
            kind = next((part for part in path if part in _TRAINING | _VALIDATION), None)
            if kind is None or not isinstance(value, int | float) or not math.isfinite(value):
                continue
            slot = "loss" if quantity == "loss" else "metric" if quantity == metric else None
            if slot is None or (slot == "metric" and kind in _TRAINING):
                continue
            if slot == "loss" and kind in _VALIDATION:
                slot = "validation_loss"
            name = str(line.get("stage") or "/".join(part for part in path if part != kind) or "training")
            if name != current:
                current, offset = name, last if line["step"] <= last - offset or line["step"] < last else 0
            stage = stages.setdefault(name, {"name": name, "loss": [], "validation_loss": [], "metric": []})
            last = max(last, line["step"] + offset)
            stage[slot].append((line["step"] + offset, value))
    return list(stages.values())


def nested(value: Any, *keys: str) -> Mapping[str, Any]:
    """The table below ``keys``; an empty one where a key is missing or holds nothing."""
    for key in keys:
        value = (value or {}).get(key)
    return value or {}
