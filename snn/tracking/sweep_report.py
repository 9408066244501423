"""The report of one or many sweeps: a page and a table over their jobs, figures of what accuracy costs, and every job
that did not finish by name."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from snn.tracking.files import write_text
from snn.tracking.frontier import ENERGY, EVALUATION, LATENCY, Facet, facets
from snn.tracking.frontier_page import frontier_page
from snn.tracking.run_figures import describe, nested
from snn.tracking.sweep_jobs import TABLE, Job, count, job_folders, read_jobs, to_csv, varied
from snn.tracking.table import markdown_table, text_table

PAGE = "index.html"
#: What jobs are told apart by first, where they differ.
_NAMED = ("model", "dataset", "neuron", "T")
#: Columns of the tables for people, and the fact that each shows; «{}» stands for the metric.
_SHOWN = {
    "float {}": "float",
    "quantised {}": "quantised",
    "spiking {}": "spiking",
    "same prediction": "same prediction",
    "spike rate": "spike rate",
    "spikes per sample": "spikes per sample",
    "energy (µJ)": "energy (µJ)",
    "of float energy": "of float energy",
    "latency (ms)": "latency (ms)",
}


class SweepTable(NamedTuple):
    """Where a report is, and its table for the terminal."""

    path: Path
    text: str
    jobs: list[Job]


def write_sweep_report(
    sources: str | Path | Sequence[str | Path], folder: str | Path | None = None
) -> SweepTable:
    """Write ``index.html``, ``report.md``, ``results.csv`` and ``figures/`` from the folders of sweeps and runs.

    Args:
        sources: A sweep's folder, a run's, one with the ``results.csv`` of an earlier report, or several of these.
        folder: Where to; ``None``: into the only source.

    Raises:
        RunFileError: A source holds nothing to report, or the report cannot be written.
    """
    listed = [sources] if isinstance(sources, str | Path) else list(sources)
    folders = [Path(source) for source in listed]
    if folder is None and len(folders) != 1:
        raise ValueError("folder: say where a report of several sources goes")
    folder = folders[0] if folder is None else Path(folder)
    jobs = _all_jobs(folders)
    found = facets(jobs)
    several = len(found) > 1
    drawn = [(facet, _draw(facet, folder, several)) for facet in found]
    columns, rows = _table(jobs, found)
    write_text(folder / TABLE, to_csv(jobs))
    title = " and ".join(dict.fromkeys(source.resolve().name for source in folders))
    commands = [command for source in folders if (command := _command(source))]
    notes = _notes(found)
    page = frontier_page(
        title,
        jobs,
        [(facet, {key: one.svg for key, one in figures.items()}) for facet, figures in drawn],
        columns,
        rows,
        counted=count(jobs),
        command="\n".join(commands),
        notes=notes,
        folder=folder,
    )
    write_text(folder / PAGE, page)
    sections = [
        f"# Sweep {title}",
        f"**{count(jobs)}**",
        "\n".join(["```bash", *commands, "```"]) if commands else "",
        f"As one page: [{PAGE}]({PAGE}).",
        *(_section(facet, figures, folder, several) for facet, figures in drawn),
        "## Jobs\n\n"
        + markdown_table(columns, [[_link(job, folder), *row[1:]] for job, row in zip(jobs, rows)]),
        f"More of each, and its command: [{TABLE}]({TABLE}).",
        _bullets("Not finished", [job.told for job in jobs if job.status != "finished"]),
        _bullets("How to read this", notes),
    ]
    path = write_text(folder / "report.md", "\n\n".join(part for part in sections if part) + "\n")
    unfinished = [f"  {job.told}" for job in jobs if job.status != "finished"]
    return SweepTable(path, "\n".join([text_table(columns, rows), "", count(jobs), *unfinished]), jobs)


def report_again(sources: str | Sequence[str], folder: Path) -> float:
    """Write the report of sweeps and runs that ended earlier, and print it.

    That of one sweep takes the place of the one that the sweep ended with.

    Args:
        sources: See :func:`write_sweep_report`.
        folder: Where that of several goes, or that of a run or a table.

    Returns:
        The number of jobs that did not finish.

    Raises:
        RunFileError: A source holds nothing to report, or the report cannot be written.
    """
    listed = [sources] if isinstance(sources, str) else list(sources)
    own = len(listed) == 1 and any(True for _ in job_folders(Path(listed[0])))
    report = write_sweep_report(listed, listed[0] if own else folder)
    sys.stdout.write(f"{report.text}\n\nReport: {report.path}\nPage: {report.path.with_name(PAGE)}\n")
    return float(sum(job.status != "finished" for job in report.jobs))


def _all_jobs(folders: Sequence[Path]) -> list[Job]:
    if len(folders) == 1:
        return read_jobs(folders[0])
    jobs = []
    for source in folders:
        own = read_jobs(source)
        name = source.resolve().name
        jobs += [replace(job, name=name if job.path == source else f"{name}/{job.name}") for job in own]
    return jobs


def _table(jobs: Sequence[Job], found: Sequence[Facet]) -> tuple[list[str], list[list[Any]]]:
    named = [name for name in _NAMED if len({_named(job, name) for job in jobs} - {None}) > 1]
    keys = [key for key in varied(jobs) if key not in _NAMED]
    metrics = {job.facts["metric"] for job in jobs if "metric" in job.facts}
    metric = metrics.pop() if len(metrics) == 1 else "metric"
    columns = ["job", *named, *keys, *(name.format(metric) for name in _SHOWN), "Pareto set of", "status"]
    rows = []
    for job in jobs:
        facts = dict(job.facts)
        if facts.get("energy (µJ)") is not None and facts.get("float energy (µJ)"):
            facts["of float energy"] = facts["energy (µJ)"] / facts["float energy (µJ)"]
        best = [cost.key for facet in found for cost in facet.on_frontier(job)]
        own = [_named(job, name) for name in named] + [_number(job.overrides.get(key)) for key in keys]
        shown = [facts.get(fact) for fact in _SHOWN.values()]
        rows.append([job.name, *own, *shown, ", ".join(best) or None, job.status])
    kept = [i for i in range(len(columns)) if any(row[i] is not None for row in rows)]
    return [columns[i] for i in kept], [[row[i] for i in kept] for row in rows]


def _named(job: Job, name: str) -> Any:
    """A fact, or what the command line said of a job that did not come so far."""
    return job.facts[name] if name in job.facts else _number(job.overrides.get(name))


def _number(text: str | None) -> Any:
    try:
        return int(text) if text is not None else None
    except ValueError:
        return text


class _Drawn(NamedTuple):
    """One figure: its PNG, and its SVG for the page."""

    path: Path
    svg: str


def _draw(facet: Facet, folder: Path, several: bool) -> dict[str, _Drawn]:
    """By key of the cost."""
    from snn.tracking.frontier_figures import score_over_cost
    from snn.tracking.style import save, to_svg

    of_set = "".join(c if c.isalnum() or c in "-_" else "_" for c in facet.dataset)
    tail = f"_{of_set}" if several else ""
    drawn = {}
    for cost in facet.costs:
        figure = score_over_cost(facet, cost, subtitle=_subtitle(facet))
        name = f"{facet.metric}_over_{cost.key}{tail}"
        drawn[cost.key] = _Drawn(save(figure, folder / "figures" / name)[0], to_svg(figure, text=True))
    return drawn


def _subtitle(facet: Facet) -> str:
    """What the points have in common, and what the marks mean."""
    facts = [job.facts for point in facet.points for job in point.jobs]
    told = {
        key: {f.get(key) for f in facts} for key in ("model", "neuron", "split", "samples", "energy profile")
    }
    same: dict[str, Any] = {key: next(iter(values)) for key, values in told.items() if len(values) == 1}
    who = describe({"dataset": facet.dataset.partition(" (")[0], "model": same.get("model")})
    samples = f"{same['samples']:,} {same.get('split') or ''} samples" if same.get("samples") else ""
    profile = f"energy={same['energy profile']}" if same.get("energy profile") else ""
    seeds = max(len(point.jobs) for point in facet.points)
    runs = f"means of up to {seeds} runs, bars from lowest to highest" if seeds > 1 else ""
    shared = ", ".join(filter(None, [who, same.get("neuron"), " ".join(samples.split()), profile]))
    return "; ".join(filter(None, [shared, "ringed: Pareto set of the spiking networks", runs]))


def _notes(found: Sequence[Facet]) -> list[str]:
    facts = {cost.fact for facet in found for cost in facet.costs}
    lines = [
        "Pareto set: no other spiking network of the same data set is at least as good at no more of that cost, and "
        "better in one of the two. It is looked for on each axis by itself.",
        "Each score is read at the end of a network built for T steps. Same prediction: share of samples for which "
        "the spiking and the quantised network choose the same class. Spike rate: spikes per neuron per time step.",
    ]
    if ENERGY.fact in facts:
        lines.append(
            "Energy is an account of operations under a profile, no measurement; its constants and assumptions stand "
            "in each job's report. Beside it the float ANN, and a quantised ANN with as many levels."
        )
    if LATENCY.fact in facts:
        lines.append(
            "Wall time per sample of a warm network on the machine that ran it, batch and execution as in the table "
            f"{TABLE}; not that of neuromorphic hardware."
        )
    if EVALUATION.fact in facts:
        lines.append(
            "Evaluation time: wall time of the whole evaluation per sample, loading and counting of spikes included, "
            "whatever else the machine was doing. evaluate.py analysis=latency measures properly."
        )
    accuracies = [j.facts for f in found if f.metric == "accuracy" for p in f.points for j in p.jobs]
    samples = [f["samples"] for f in accuracies if f.get("samples")]
    if samples:
        worst = max(
            (f["spiking"] * (1 - f["spiking"]) / f["samples"]) ** 0.5 for f in accuracies if f.get("samples")
        )
        lines.append(
            f"The standard error of an accuracy from {min(samples):,} samples is up to {100 * worst:.1f} points; "
            "smaller differences say little."
        )
    return lines


def _section(facet: Facet, drawn: Mapping[str, _Drawn], folder: Path, several: bool) -> str:
    heading = [f"## {facet.dataset}: {facet.metric}"] if several else []
    images = [
        f"![{facet.metric} over {key}]({Path(os.path.relpath(one.path, folder)).as_posix()})"
        for key, one in drawn.items()
    ]
    return "\n\n".join([*heading, "\n".join(images)])


def _command(source: Path) -> str:
    """The command line that made a sweep."""
    file = source / "multirun.yaml"
    if not file.exists():
        return ""
    import yaml

    hydra: Mapping[str, Any] = (yaml.safe_load(file.read_text("utf-8")) or {}).get("hydra") or {}
    overrides = nested(hydra, "overrides").get("task") or []
    script = nested(hydra, "job").get("name")
    return f"python {script}.py -m {shlex.join(map(str, overrides))}" if script else ""


def _link(job: Job, folder: Path) -> str:
    report = job.path / "report.md" if job.path else None
    if report is None or not report.exists():
        return job.name
    return f"[{job.name}]({Path(os.path.relpath(report, folder)).as_posix()})"


def _bullets(heading: str, lines: Sequence[str]) -> str:
    return f"## {heading}\n\n" + "\n".join(f"- {line}" for line in lines) if lines else ""
