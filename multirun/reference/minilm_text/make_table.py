"""From what ``run.sh`` has left to ``results.csv``, ``over_time.csv``, the tables of the README and the figure.

python multirun/reference/minilm_text/make_table.py outputs/minilm_text

Jobs that the folder lacks stay as ``results.csv`` has them.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

HERE = Path(__file__).resolve().parent
NETWORKS = ("float", "calibrated", "quantized", "spiking")
STEPS = (1, 2, 4, 8, 12, 16, 20, 24, 32, 40, 48, 64, 96, 128)
ORDER = ("sst2", "trec", "cola", "mrpc", "rte", "stsb", "imdb")
NAMES = {
    "para_inf": "ParaInf",
    "training_free": "ParaInf, shift and height, untrained",
    "solved": "ParaInf, shift, height and weights, untrained",
    "solved_more": "ParaInf, shift, height and weights from 24 batches, untrained",
    "corrected": "ParaInf, shift and height",
    "refined": "ParaInf, shift, height and weights",
    "pairs": "ParaInf, shift, height and weights, more pairs",
    "varied": "ParaInf, shift, height and weights, more pairs, tokens drawn anew",
    "told": "ParaInf, as the one before, then predictions alone",
    "lsq": "ST-BIF",
    "copied": "ST-BIF, float network's predictions alone",
    "layers": "ST-BIF, layers learnt",
    "pairs_lsq": "ST-BIF, layers learnt, more pairs",
    "if": "integrate-and-fire",
}
LEFT = ("codes", "T", "t =", "data set, metric, samples", "network")
NOTES = {
    "spikezip": ", spikezip",
    "layers": ", layers learnt",
    "corrected": ", shift and height",
    "refined": ", shift, height and weights",
    "copied": ", predictions alone",
    "pairs_lsq": ", more pairs",
}
CODES = ("lsq", "copied", "layers", "pairs_lsq")
KEY = ("dataset", "seed", "neuron", "granularity", "levels_or_T")
METRICS = {"accuracy": "accuracy", "f1": "F1", "matthews": "Matthews r", "pearson": "Pearson r"}


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """One row per finished job."""
    rows = []
    for path in sorted(folder.glob("*/seed_*/*/summary.json")):
        dataset, seed, job = path.parts[-4:-1]
        summary = json.loads(path.read_text("utf-8"))
        if job == "float" or summary["status"] != "finished":
            continue
        kind, granularity, number = re.fullmatch(r"(\w+)_(channel|tensor)_(\d+)", job).groups()  # type: ignore[union-attr]
        results = summary["results"]
        first = path.parent.parent / "float" / "summary.json"
        if kind == "told" and first.exists():  # a run that started from a quantised network
            results = json.loads(first.read_text("utf-8"))["results"] | results
        spiking = results["spiking"]
        metric = next(iter(METRICS.keys() & spiking["metrics"].keys() - {"accuracy"}), "accuracy")
        metric = "accuracy" if "accuracy" in spiking["metrics"] and metric == "f1" else metric
        row = {
            "dataset": dataset,
            "seed": int(seed.removeprefix("seed_")),
            "neuron": kind,
            "granularity": granularity,
        }
        row |= {"levels_or_T": int(number), "metric": metric, "samples": spiking["samples"]}
        row |= {name: results[name]["metrics"][metric] if name in results else None for name in NETWORKS}
        row |= {
            f"{name}_f1": results.get(name, {}).get("metrics", {}).get("f1") for name in ("float", "spiking")
        }
        agreement = spiking.get("agreement") or {}
        row |= {
            "same_prediction": agreement.get("same_prediction"),
            "steps": spiking.get("mean_steps") or number,
        }
        row |= {"spike_rate": spiking["spike_rate"], "spikes_per_sample": spiking["spikes_per_sample"]}
        networks = summary.get("energy", {}).get("networks", ())
        row |= {
            f"{name}_uj": one["energy_uj"] for name, one in zip(("float", "quantized", "spiking"), networks)
        }
        if kind == "exit":  # what a sample costs that may stop
            reported = summary["early_exit"]["reported"]
            row |= {"spiking": reported["score"], "steps": reported["mean_steps"]}
            row |= {"same_prediction": None, "spike_rate": None}  # known of samples that settle alone
            row |= {"spikes_per_sample": reported["spikes_per_sample"], "spiking_uj": reported["energy_uj"]}
        validation = summary.get("validation", {}).get("quantized", {})
        row |= {
            "epoch": validation.get("epoch"),
            "over_time": spiking.get("per_timestep", {}).get(metric, []),
        }
        command = re.sub(r" dataset\.data_dir=\S+", f" dataset.data_dir=DATA/{dataset}", summary["command"])
        command = command.replace(" threads=1", "")
        rows.append(
            row
            | {
                "command": re.sub(
                    r"checkpoint=\S*/(seed_)", rf"checkpoint=outputs/minilm_text/{dataset}/\1", command
                )
            }
        )
    return rows


def earlier() -> list[dict[str, Any]]:
    """The rows of ``results.csv``, with their curves of ``over_time.csv``."""

    def plain(text: str) -> Any:
        try:
            return None if not text else float(text) if re.search(r"[.e]", text) else int(text)
        except ValueError:
            return text

    with (HERE / "results.csv").open(newline="") as file:
        rows = [{key: plain(value) for key, value in row.items()} for row in csv.DictReader(file)]
    curves: dict[tuple[Any, ...], list[float]] = {}
    with (HERE / "over_time.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            curves.setdefault(tuple(plain(row[key]) for key in KEY), []).append(float(row["value"]))
    return [row | {"over_time": curves.get(key_of(row), [])} for row in rows]


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[key] for key in KEY)


def over_seeds(rows: Iterable[dict[str, Any]], *keys: str) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def points(rows: Sequence[dict[str, Any]], key: str) -> str:
    """The mean over seeds in per cent."""
    values = [row[key] for row in rows if row[key] is not None]
    return f"{100 * mean(values):.1f}" if values else "–"


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    rule = [":--" if column in LEFT else "--:" for column in columns]
    return "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in (columns, rule, *rows))


def levels_table(rows: list[dict[str, Any]], *kinds: str) -> str:
    """TREC: all numbers of levels, per channel and per tensor."""
    chosen = [r for r in rows if r["dataset"] == "trec" and r["neuron"] in kinds]
    found = over_seeds(chosen, "granularity", "neuron", "levels_or_T")
    lines = []
    for (granularity, kind, number), group in sorted(
        found.items(), key=lambda item: (item[0][0], -item[0][2], item[0][1])
    ):
        same = f"{sum(r['same_prediction'] for r in group)} of {sum(r['samples'] for r in group)}"
        steps = f"{mean(float(r['steps']) for r in group):.0f}"
        rate = f"{mean(r['spike_rate'] for r in group):.3f}"
        cells = [points(group, name) for name in NETWORKS]
        lines.append(
            [f"{number} per {granularity}{NOTES.get(kind, '')}", len(group), *cells, same, steps, rate]
        )
    first, settled = ("T", "steps") if "para_inf" in kinds else ("codes", "steps until settled")
    columns = [first, "seeds", "float", "quantised, untrained", "quantised", "spiking", "same class", settled]
    return table([*columns, "spikes per neuron and step"], lines)


def sets_table(rows: list[dict[str, Any]]) -> str:
    """All data sets, per channel: float, untrained and spiking for every neuron."""
    chosen = [r for r in rows if r["granularity"] == "channel" and r["neuron"] in NAMES]
    lines = []
    for (dataset, kind, number), group in sorted(
        over_seeds(chosen, "dataset", "neuron", "levels_or_T").items(),
        key=lambda item: (ORDER.index(item[0][0]), list(NAMES).index(item[0][1]), -item[0][2]),
    ):
        counts_codes = kind in CODES
        if number not in ((16,) if counts_codes else (1, 2, 4, 8, 16)):
            continue
        what = f"{NAMES[kind]}, {number} codes" if counts_codes else f"{NAMES[kind]}, T = {number}"
        cells = [points(group, name) for name in NETWORKS]
        rate = f"{mean(r['spike_rate'] for r in group):.3f}"
        name = f"{dataset}, {METRICS[group[0]['metric']]}, {group[0]['samples']:,}"
        lines.append([name, what, len(group), *cells, rate])
    columns = [
        "data set, metric, samples",
        "network",
        "seeds",
        "float",
        "quantised, untrained",
        "quantised",
        "spiking",
    ]
    return table([*columns, "spikes per neuron and step"], lines)


def time_table(rows: list[dict[str, Any]]) -> str:
    """ST-BIF at fixed times."""
    chosen = [r for r in rows if r["neuron"] in CODES and r["granularity"] == "channel" and r["over_time"]]
    found = over_seeds(chosen, "dataset", "levels_or_T", "neuron")
    lines = []
    for (dataset, number, kind), group in sorted(
        found.items(), key=lambda item: (ORDER.index(item[0][0]), -item[0][1], CODES.index(item[0][2]))
    ):
        at = [100 * mean(r["over_time"][t - 1] for r in group) for t in STEPS]
        lines.append([f"{dataset}, {number} codes{NOTES.get(kind, '')}", *(f"{value:.1f}" for value in at)])
    return table(["t =", *map(str, STEPS)], lines)


def energy_table(rows: list[dict[str, Any]], dataset: str) -> str:
    """One data set: what a sample costs, beside the networks without spikes."""
    chosen = [
        r for r in rows if (r["dataset"], r["granularity"]) == (dataset, "channel") and "spiking_uj" in r
    ]
    names = {"para_inf": "ParaInf, T = {}", "if": "integrate-and-fire, T = {}"}
    names |= {"lsq": "ST-BIF, {} codes, settled", "exit": "ST-BIF, {} codes, early exit"}
    found = over_seeds((r for r in chosen if r["neuron"] in names), "neuron", "levels_or_T")
    lines = []
    for (kind, number), group in sorted(
        found.items(), key=lambda item: (list(names).index(item[0][0]), -item[0][1])
    ):
        whole, quantised, spiking = (
            mean(r[f"{name}_uj"] for r in group) for name in ("float", "quantized", "spiking")
        )
        spikes = mean(r["spikes_per_sample"] for r in group)
        steps = f"{mean(float(r['steps']) for r in group):.1f}"
        cells = [points(group, name) for name in ("float", "quantized", "spiking")]
        energies = [f"{whole:.0f}", f"{quantised:.0f}", f"{spiking:.0f}", f"{spiking / whole:.2f}"]
        lines.append(
            [names[kind].format(number), len(group), *cells, steps, f"{spikes / 1e3:,.0f}", *energies]
        )
    columns = ["network", "seeds", "float", "quantised", "spiking", "steps", "thousand spikes per sample"]
    return table([*columns, "float µJ", "quantised µJ", "spiking µJ", "spiking / float"], lines)


def write(rows: list[dict[str, Any]]) -> None:
    """``results.csv`` and ``over_time.csv``."""
    with (HERE / "results.csv").open("w", newline="") as file:
        columns = dict.fromkeys(key for row in rows for key in row if key != "over_time")
        writer = csv.DictWriter(file, list(columns), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(
            {k: f"{v:.7g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows
        )
    with (HERE / "over_time.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow([*KEY, "t", "metric", "value"])
        for row in rows:
            if row["neuron"] not in ("para_inf", "corrected", "exit"):
                out.writerows(
                    [*key_of(row), t, row["metric"], f"{v:.5f}"] for t, v in enumerate(row["over_time"], 1)
                )


def fill(name: str, text: str) -> None:
    """Put a table between its marks in the README."""
    path = HERE / "README.md"
    before, rest = path.read_text("utf-8").split(f"<!-- {name} -->\n", 1)
    after = rest.split(f"<!-- end of {name} -->", 1)[1]
    path.write_text(f"{before}<!-- {name} -->\n{text}\n<!-- end of {name} -->{after}", "utf-8")


def draw(rows: list[dict[str, Any]]) -> None:
    """The figure: ST-BIF on TREC over time, by number of codes."""
    from snn.tracking.style import CYCLE, FAINT, Margins, fraction_axis, headline, new_figure, save, style

    shown = [r for r in rows if (r["dataset"], r["neuron"], r["granularity"]) == ("trec", "lsq", "channel")]
    with style():
        figure = new_figure(5.2, 3.2, Margins())
        (axes,) = figure.axes
        for colour, ((number,), group) in zip(CYCLE, sorted(over_seeds(shown, "levels_or_T").items())):
            curve = [mean(values) for values in zip(*(r["over_time"] for r in group))][:64]
            axes.plot(range(1, len(curve) + 1), curve, color=colour, label=f"{number} codes")
        baseline = mean({r["seed"]: r["float"] for r in shown}.values())
        axes.axhline(baseline, color=FAINT, linestyle=":", linewidth=1)
        note = f"float {100 * baseline:.1f} %"
        axes.annotate(
            note, (64, baseline), (0, 4), textcoords="offset points", color=FAINT, fontsize=8, ha="right"
        )
        fraction_axis(axes, [0.2, 1.0], "test accuracy")
        axes.set(xlabel="time step t", xlim=(1, 64))
        axes.legend(loc="lower right", frameon=False)
        headline(
            figure, "Fewer codes settle sooner", "MiniLM on TREC, ST-BIF everywhere, logits summed up to t"
        )
        save(figure, HERE / "figures" / "st_bif_over_time")


def main(folder: str) -> None:
    found = {key_of(row): row for row in [*earlier(), *rows_of(Path(folder))]}
    rows = [found[key] for key in sorted(found)]
    write(rows)
    fill("LSQ", levels_table(rows, "lsq", "spikezip", "layers"))
    fill("ParaInf", levels_table(rows, "para_inf", "corrected", "refined"))
    fill("over time", time_table(rows))
    fill("data sets", sets_table(rows))
    fill("energy", energy_table(rows, "sst2"))
    draw(rows)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("python make_table.py FOLDER, such as outputs/minilm_text")
    main(sys.argv[1])
