"""From the jobs of a ``run.sh`` to ``results.csv``, beside it, and one Markdown table per data set on the terminal.

python multirun/reference/collect.py outputs/resnet20_qcfs multirun/reference/resnet20_qcfs

Jobs that the folder lacks stay as ``results.csv`` has them.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STEPS = (1, 2, 4, 8, 16, 32)
SHOWN = {
    "job": "job",
    "T": "T",
    "parameters": "parameters",
    "float": "float",
    "calibrated": "quantised, untrained",
    "quantized": "quantised",
    "spiking": "spiking",
    "same_prediction": "same class",
    "same_as_float": "as float",
    "spike_rate": "spikes per neuron and step",
    "mega_acs": "M ACs",
    "mega_macs": "M MACs",
    "minutes": "minutes of training",
}
TRAINED = ("float", "quantized", "native", "general", "layers", "logits", "calibrate", "spiking")


def row_of(path: Path, folder: Path) -> dict[str, Any]:
    """What one job has found; ``None`` where there is nothing of the kind."""
    summary = json.loads(path.read_text("utf-8"))
    results: Mapping[str, Any] = summary.get("results", {})
    spiking, bench = results.get("spiking", {}), summary.get("neurobench", {})
    agreement = spiking.get("agreement") or {}
    any_of = next((results[name] for name in ("spiking", "float", "quantized") if name in results), {})
    row: dict[str, Any] = {"job": path.parent.relative_to(folder).as_posix()}
    row |= {key: summary.get(key) for key in ("model", "dataset", "neuron", "seed")}
    row |= {"T": spiking.get("T"), "split": summary.get("split"), "samples": any_of.get("samples")}
    for name in ("float", "calibrated", "quantized", "spiking"):
        metrics = results.get(name, {}).get("metrics", {})
        row[name] = next((value for key, value in metrics.items() if key != "loss"), None)
    row |= {"same_prediction": agreement.get("same_prediction"), "mean_steps": spiking.get("mean_steps")}
    row["same_as_float"] = (spiking.get("agreement_with_float") or {}).get("same_prediction")
    row |= {key: spiking.get(key) for key in ("spike_rate", "spikes_per_sample", "energy_uj")}
    row["parameters"] = bench.get("parameters")
    row |= {
        f"mega_{kind}": None if bench.get(f"effective_{kind}") is None else bench[f"effective_{kind}"] / 1e6
        for kind in ("acs", "macs")
    }
    row["minutes"] = sum(summary.get("durations", {}).get(name, 0) for name in TRAINED) / 60
    over_time = next(iter(spiking.get("per_timestep", {}).values()), [])
    row |= {f"at_{t}": over_time[t - 1] if t <= len(over_time) else None for t in STEPS}
    data = re.sub(r"data_dir=\S*/(\w+)", r"data_dir=DATA/\1", summary["command"])
    row["command"] = data.replace(f"{folder.parent}/", "outputs/").replace(" threads=1", "")
    return row


def written(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else "" if value is None else str(value)


def table(rows: list[dict[str, Any]]) -> str:
    """The columns of :data:`SHOWN` that hold anything; accuracies in per cent."""

    def cell(row: dict[str, Any], key: str) -> str:
        value = row[key]
        if value is None:
            return "–"
        if key in ("float", "calibrated", "quantized", "spiking"):
            return f"{100 * value:.1f}"
        if key in ("same_prediction", "same_as_float"):
            return f"{value} of {row['samples']}"
        if key == "parameters":
            return f"{value / 1e6:.2f} M"
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    keys = [key for key in SHOWN if any(row[key] is not None for row in rows)]
    lines = [[SHOWN[key] for key in keys], [":--", *["--:"] * (len(keys) - 1)]]
    lines += [[cell(row, key) for key in keys] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(folder: Path, target: Path) -> None:
    rows = [row_of(path, folder) for path in sorted(folder.rglob("summary.json"))]
    if not rows:
        sys.exit(f"no job below {folder} has left a summary.json")
    file = target / "results.csv"
    by_job: dict[str, Mapping[str, str]] = {}
    if file.exists():
        with file.open(newline="") as before:
            by_job = {row["job"]: row for row in csv.DictReader(before)}
    by_job |= {row["job"]: {key: written(value) for key, value in row.items()} for row in rows}
    with file.open("w", newline="") as after:
        writer = csv.DictWriter(after, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(by_job[job] for job in sorted(by_job))
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        sys.stdout.write(f"\n{dataset}\n\n{table([row for row in rows if row['dataset'] == dataset])}\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
