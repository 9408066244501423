"""``report.md``: what a person looks at first. It shows what the run's files hold, and no more."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from snn.tracking.analysis_report import analysis_sections
from snn.tracking.distillation_report import distillation_section
from snn.tracking.energy_report import energy_section
from snn.tracking.files import read_json, read_metrics, write_text
from snn.tracking.latency_report import decision_sentence
from snn.tracking.run_figures import draw_run, main_metric, nested
from snn.tracking.table import format_number, markdown_table

NETWORKS = {
    "float": "float ANN",
    "calibrated": "calibrated, before quantised training",
    "quantized": "quantised ANN",
    "converted": "spiking network, before training through time",
    "spiking": "spiking network",
}


class RunReport(NamedTuple):
    """Where the report is, and its figures (name → PNG)."""

    path: Path
    figures: dict[str, Path]


def write_run_report(run_dir: str | Path) -> RunReport:
    """Write ``report.md`` and ``figures/`` from ``summary.json`` and the other files of a run that are there.

    Args:
        run_dir: The run's folder.

    Raises:
        RunFileError: There is no readable ``summary.json``, or the report cannot be written.
    """
    run_dir = Path(run_dir)
    summary = read_json(run_dir / "summary.json")
    if (run_dir / "conversion.json").exists():
        conversion = read_json(run_dir / "conversion.json")
        for key in ("plan", "verification", "attribution"):
            summary.setdefault(key, conversion.get(key))
    log = run_dir / "metrics.jsonl"
    figures = draw_run(summary, read_metrics(log) if log.exists() else [], run_dir / "figures")
    sections = [
        f"# {summary.get('name') or run_dir.name}",
        _headline(summary),
        _image(figures, "accuracy_over_time", run_dir, "Accuracy after each time step"),
        _results(summary),
        distillation_section(summary),
        _image(figures, "confusion", run_dir, "What was taken for what"),
        _over_time(summary),
        _spikes(summary, figures, run_dir),
        energy_section(summary, _image(figures, "energy_by_part", run_dir, "Energy by what is computed")),
        *analysis_sections(summary, lambda name, text: _image(figures, name, run_dir, text)),
        _conversion(summary, figures, run_dir),
        _training(summary, figures, run_dir),
        _reproduce(summary, run_dir),
    ]
    path = write_text(run_dir / "report.md", "\n\n".join(part for part in sections if part) + "\n")
    return RunReport(path, figures)


def _headline(summary: Mapping[str, Any]) -> str:
    status = summary.get("status")
    if status in ("failed", "interrupted", "unfinished"):
        reason = f": {summary['error']}" if summary.get("error") and status != "interrupted" else ""
        ended = {"interrupted": "was interrupted", "unfinished": "has not ended"}.get(status, status)
        resume = f" To go on: `{summary['resume']}`." if summary.get("resume") else ""
        return f"**The run {ended}{reason}.** What follows was done before.{resume}"
    results = summary.get("results") or {}
    metric = main_metric(summary)
    values = {n: v for n in NETWORKS if (v := nested(results, n, "metrics").get(metric)) is not None}
    what = " on ".join(str(summary[key]) for key in ("model", "dataset") if summary.get(key))
    split = f"{summary['split']} " if summary.get("split") else ""
    if "spiking" not in values:
        told = ", ".join(f"{NETWORKS[n]} {format_number(v, metric)}" for n, v in values.items())
        if told:
            return f"**{what}: {split}{metric} {told}.**"
        check = summary.get("verification") or {}
        if check.get("max_error") is not None:
            verdict = {None: "", True: " (passed)", False: " (FAILED)"}[check.get("passed")]
            error = format_number(check["max_error"], "error")
            return f"**{what}: spiking and quantised network differ by at most {error}{verdict}.**"
        return f"**{what}: {status or 'no results yet'}.**" if what else ""
    spiking = results["spiking"]
    steps = spiking.get("T") or summary.get("T")
    text = f"{what}: the spiking network reaches {split}{metric} {format_number(values['spiking'], metric)}"
    text += f" with {summary['neuron']} neurons" if summary.get("neuron") else ""
    text += f" at T = {steps}" if steps else ""
    others = [
        f"{NETWORKS[n]} {format_number(values[n], metric)}" for n in ("quantized", "float") if n in values
    ]
    text += f" ({', '.join(others)})" if others else ""
    agreement = spiking.get("agreement") or {}
    if agreement.get("samples"):
        same, of = agreement["same_prediction"], agreement["samples"]
        count = f"all {of:,}" if same == of else f"{same:,} of {of:,}"
        text += f"; it predicts what the quantised ANN predicts for {count} samples"
    return f"**{text}.**"


def _results(summary: Mapping[str, Any]) -> str:
    results = summary.get("results") or {}
    networks = [name for name in NETWORKS if results.get(name)] + [n for n in results if n not in NETWORKS]
    if not networks:
        return ""
    metrics = list(dict.fromkeys(m for name in networks for m in nested(results, name, "metrics")))
    rows = []
    for name in networks:
        own = results[name]
        steps = own.get("T", summary.get("T")) if name == "spiking" else None
        values = [own.get("metrics", {}).get(metric) for metric in metrics]
        rows.append([NETWORKS.get(name, name), steps, own.get("samples"), *values])
    split = f" ({summary['split']} split)" if summary.get("split") else ""
    return f"## Results{split}\n\n" + markdown_table(["network", "T", "samples", *metrics], rows)


def _over_time(summary: Mapping[str, Any]) -> str:
    spiking = nested(summary, "results", "spiking")
    curves = {name: values for name, values in nested(spiking, "per_timestep").items() if values}
    if not curves:
        return ""
    steps = max(len(values) for values in curves.values())
    shown = [t for t in range(1, steps + 1) if steps <= 16 or t == steps or t & (t - 1) == 0]
    causal = spiking.get("causal", True)
    columns = [f"{name} at t" + ("" if causal else " (prefix)") for name in curves]
    rows = [[t, *(values[t - 1] if t <= len(values) else None for values in curves.values())] for t in shown]
    note = "One run, read after each step t."
    if not causal:
        note += (
            " *Prefix*: the neurons are not causal, a spike at step t may depend on later input, so only the "
            "last line is what a network gives that stops there."
        )
    decided = decision_sentence(spiking.get("decisions_per_timestep") or (), causal)
    parts = ["## Over time steps", note, markdown_table(["t", *columns], rows), decided]
    return "\n\n".join(part for part in parts if part)


def _spikes(summary: Mapping[str, Any], figures: Mapping[str, Path], run_dir: Path) -> str:
    layers = [layer for layer in summary.get("layers") or [] if layer.get("rate") is not None]
    spiking = nested(summary, "results", "spiking")
    totals = []
    if spiking.get("spike_rate") is not None:
        totals.append(f"{format_number(spiking['spike_rate'], 'rate')} spikes per neuron per time step")
    if spiking.get("spikes_per_sample") is not None:
        totals.append(f"{spiking['spikes_per_sample']:,.0f} spikes per sample")
    if layers and all(layer.get("neurons") for layer in layers):
        totals.append(f"{sum(layer['neurons'] for layer in layers):,.0f} neurons in {len(layers)} layers")
    if not totals and not layers:
        return ""
    parts = ["## Spikes", "; ".join(totals) + "." if totals else ""]
    if layers:
        ordered = sorted(layers, key=lambda layer: -layer["rate"])
        few = ordered if len(ordered) <= 12 else [*ordered[:5], *ordered[-5:]]
        shown = ("neurons", "rate", "positive_rate", "negative_rate", "silent", "always")
        keys = [key for key in shown if any(key in x for x in few)]
        rows = [[layer["name"], *(layer.get(key) for key in keys)] for layer in few]
        if len(few) < len(ordered):
            parts.append("The five most and the five least active layers:")
        parts.append(markdown_table(["layer", *(key.replace("_", " ") for key in keys)], rows))
    parts.append(_image(figures, "spike_rate_per_layer", run_dir, "Spike rate per layer"))
    parts.append(_image(figures, "spike_rate_heatmap", run_dir, "Spike rate per layer and time step"))
    parts.append(_image(figures, "spike_raster", run_dir, "Spikes of a few neurons, one sample"))
    return "\n\n".join(part for part in parts if part)


def _conversion(summary: Mapping[str, Any], figures: Mapping[str, Path], run_dir: Path) -> str:
    plan, check = summary.get("plan") or {}, summary.get("verification") or {}
    if not plan and not check:
        return ""
    parts = ["## Conversion"]
    counts = {key.replace("_", " "): value for key, value in plan.items() if isinstance(value, int)}
    counts.update({str(key): value for key, value in (plan.get("counts") or {}).items()})
    if counts:
        parts.append(
            "Plan: " + ", ".join(f"{key} {format_number(value)}" for key, value in counts.items()) + "."
        )
    if check:
        passed = check.get("passed")
        verdict = "" if passed is None else ("passed" if passed else "**FAILED**")
        facts = [
            f"{key.replace('_', ' ')} {format_number(check[key], key)}"
            for key in ("max_error", "mean_error", "tolerance")
            if check.get(key) is not None
        ]
        if check.get("predictions"):
            of = f"{check['predictions']:,} predictions on {check['samples']:,} samples"
            facts.append(f"{check['same_prediction']:,} of {of} equal")
        parts.append(
            f"Spiking against quantised network: {', '.join([verdict, *facts] if verdict else facts)}."
        )
        if check.get("verdict"):
            parts.append(f"{check['verdict'][0].upper()}{check['verdict'][1:]}.")
        layers = list(check.get("layers") or [])
        worst = sorted(layers, key=lambda layer: (-layer["mean_levels"], -layer["max_error"]))[:5]
        rows = [[*(layer.get(key) for key in _CHECKED)] for layer in worst]
        if check.get("logits"):
            blank = [None] * (len(_CHECKED) - 3)
            rows.append(["logits", *blank, *(check["logits"].get(key) for key in _CHECKED[-2:])])
        if rows:
            parts.append(f"The largest differences of {len(layers)} layers:" if len(layers) > 5 else "")
            parts.append(markdown_table(["layer", *(key.replace("_", " ") for key in _CHECKED[1:])], rows))
        parts.append(_image(figures, "error_by_depth", run_dir, "Difference per layer"))
    parts.append(_attribution(summary.get("attribution") or {}))
    if (run_dir / "conversion.md").exists():
        parts.append("Every module and every layer: [conversion.md](conversion.md).")
    return "\n\n".join(part for part in parts if part)


_CHECKED = ("name", "elements", "off_by_one", "off_by_more", "mean_levels", "ties", "max_error", "mean_error")


def _attribution(found: Mapping[str, Any]) -> str:
    if not found:
        return ""
    columns = ("mean_error", "max_error", "same_prediction", "predictions", "accuracy")
    rows = [[variant["name"], *(variant.get(key) for key in columns)] for variant in found["variants"]]
    table = markdown_table(["network", *(key.replace("_", " ") for key in columns)], rows)
    verdict = f"{found['verdict'][0].upper()}{found['verdict'][1:]}."
    return f"### Where accuracy is lost\n\n{verdict}\n\nLogits against the float network's:\n\n{table}"


def _training(summary: Mapping[str, Any], figures: Mapping[str, Path], run_dir: Path) -> str:
    validation, durations = summary.get("validation") or {}, summary.get("durations") or {}
    figure = _image(figures, "training_curves", run_dir, "Loss and validation metric")
    if not validation and not durations and not figure:
        return ""
    parts = ["## Training" if validation or figure else "## Time"]
    stages = list(dict.fromkeys([*validation, *durations]))
    scores = {name: _scores(validation.get(name)) for name in stages}
    metrics = list(dict.fromkeys(metric for own in scores.values() for metric in own))
    if stages:
        columns = [
            "stage",
            *(f"validation {metric}" for metric in metrics),
            *(["seconds"] if durations else []),
        ]
        parts.append(
            markdown_table(
                columns,
                [
                    [NETWORKS.get(name, name), *(scores[name].get(metric) for metric in metrics)]
                    + ([durations.get(name)] if durations else [])
                    for name in stages
                ],
            )
        )
    return "\n\n".join([*parts, *([figure] if figure else [])])


def _scores(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        return {} if value is None else {"metric": value}
    inner = value.get("metrics", value)
    return {key: item for key, item in inner.items() if isinstance(item, int | float)}


def _reproduce(summary: Mapping[str, Any], run_dir: Path) -> str:
    lineage = summary.get("lineage") or {}
    command = summary.get("command")
    if isinstance(command, list):
        command = shlex.join(command)
    facts = [(key, summary.get(key)) for key in ("seed", "device", "coding")]
    facts += [
        (key.replace("_", " "), lineage.get(key)) for key in ("git_commit", "config_hash", "data_fingerprint")
    ]
    facts += [("parents", ", ".join(map(str, lineage.get("parents") or [])) or None)]
    versions = lineage.get("versions") or {}
    facts += [("versions", ", ".join(f"{name} {version}" for name, version in versions.items()) or None)]
    lines = [f"- {name}: `{value}`" for name, value in facts if value is not None]
    for record in sorted(run_dir.glob("wandb/offline-run-*")):
        place = shlex.quote(record.relative_to(run_dir).as_posix())
        lines.append(f"- W&B record, to upload from this folder: `wandb sync {place}`")
    if (run_dir / "config.yaml").exists():
        lines.append("- config: [config.yaml](config.yaml)")
    if not command and not lines:
        return ""
    shown = f"```bash\n{command}\n```\n\n" if command else ""
    return "## How to reproduce\n\n" + shown + "\n".join(lines)


def _image(figures: Mapping[str, Path], name: str, run_dir: Path, text: str) -> str:
    return f"![{text}]({Path(os.path.relpath(figures[name], run_dir)).as_posix()})" if name in figures else ""
