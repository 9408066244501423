"""What a run hands its trackers at the end: everything in its summary that is more than a single number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from snn.tracking.run_figures import nested
from snn.tracking.tracker import Tracker


def publish(tracker: Tracker, summary: Mapping[str, Any], figures: Mapping[str, Path], run_dir: Path) -> None:
    """Hand over curves over time, tables, figures and checkpoints.

    Args:
        tracker: Gets them.
        summary: As in ``summary.json``.
        figures: Name → PNG.
        run_dir: The run's folder.
    """
    _curves(tracker, summary)
    for name, rows in (
        ("spike_rates", summary.get("layers")),
        ("verification", nested(summary, "verification").get("layers")),
        ("attribution", nested(summary, "attribution").get("variants")),
        ("raster", raster_rows(summary.get("raster") or {})),
    ):
        if rows:
            columns = list(
                dict.fromkeys(
                    key for row in rows for key, value in row.items() if not isinstance(value, list)
                )
            )
            tracker.table(name, columns, [[row.get(column) for column in columns] for row in rows])
    confusion = summary.get("confusion")
    if confusion:
        tracker.confusion(confusion["labels"], confusion["counts"])
    for name, path in figures.items():
        tracker.figure(f"figures/{name}", path)
    for parent in nested(summary, "lineage").get("parents") or []:
        tracker.checkpoint(Path(parent), made=False)
    if (run_dir / "checkpoint").is_dir():
        tracker.checkpoint(run_dir / "checkpoint", made=True)


def _curves(tracker: Tracker, summary: Mapping[str, Any]) -> None:
    split = summary.get("split") or "test"
    for metric, values in nested(summary, "results", "spiking", "per_timestep").items():
        tracker.curve(f"{split}/{metric}_at_t", "timestep", _steps(values), values)
    layers = summary.get("layers") or []
    if rates := network_rate_over_time(layers):
        tracker.curve(f"{split}/spike_rate_at_t", "timestep", _steps(rates), rates)
    known = {layer["name"]: layer["rate_per_timestep"] for layer in layers if layer.get("rate_per_timestep")}
    if known:
        tracker.curves("spike_rate_at_t", "timestep", _steps(next(iter(known.values()))), known)


def _steps(values: Sequence[float]) -> list[int]:
    return list(range(1, len(values) + 1))


def network_rate_over_time(layers: Sequence[Mapping[str, Any]]) -> list[float]:
    """Spikes per neuron of all layers together at each time step; empty where a layer's are not known.

    Example:
        >>> network_rate_over_time([
        ...     {"neurons": 3, "rate_per_timestep": [1.0, 0.0]},
        ...     {"neurons": 1, "rate_per_timestep": [0.0, 1.0]},
        ... ])
        [0.75, 0.25]
    """
    if not all(layer.get("neurons") and layer.get("rate_per_timestep") for layer in layers):
        return []
    total = sum(layer["neurons"] for layer in layers)
    spikes = [[layer["neurons"] * rate for rate in layer["rate_per_timestep"]] for layer in layers]
    return [sum(at_t) / total for at_t in zip(*spikes)]


def raster_rows(raster: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row for every spike of a raster.

    Example:
        >>> raster_rows({"layers": [{"name": "a", "neurons": [7], "spikes": [[0, 1, -1]]}]})
        [{'layer': 'a', 'neuron': 7, 'timestep': 2, 'sign': 1}, {'layer': 'a', 'neuron': 7, 'timestep': 3, 'sign': -1}]
    """
    return [
        {"layer": layer["name"], "neuron": neuron, "timestep": t, "sign": sign}
        for layer in raster.get("layers") or []
        for neuron, over_time in zip(layer["neurons"], layer["spikes"])
        for t, sign in enumerate(over_time, 1)
        if sign
    ]
