"""The report of a sweep: one table over its jobs, one figure, and every job that did not finish by name."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from snn.tracking.files import RunFileError, read_json, write_text
from snn.tracking.run_figures import describe, main_metric, nested
from snn.tracking.table import markdown_table, text_table

_LEGEND = (
    "The same as [results.csv](results.csv). *Same prediction*: share of samples for which the spiking and "
    "the quantised network choose the same class. *Spike rate*: spikes per neuron per time step."
)
_DESCRIBED = ("model", "dataset", "neuron", "order")


@dataclass
class Job:
    """One job of a sweep, as its folder tells it.

    Args:
        path: Its folder.
        name: The folder's name below the sweep.
        overrides: Key → value of the command line, as text.
        status: ``finished``, ``failed``, ``interrupted`` or ``unfinished``.
        error: Why it did not finish, where that is known.
        summary: What ``summary.json`` holds.
    """

    path: Path
    name: str
    overrides: dict[str, str]
    status: str
    error: str | None = None
    summary: dict[str, Any] = field(default_factory=dict)


class SweepTable(NamedTuple):
    """Where a sweep's report is, and its table for the terminal."""

    path: Path
    text: str
    jobs: list[Job]


def write_sweep_report(sweep_dir: str | Path) -> SweepTable:
    """Write ``report.md``, ``results.csv`` and ``figures/accuracy_over_T`` from the folders of a sweep.

    Args:
        sweep_dir: The folder below which the jobs are.

    Raises:
        RunFileError: There is no job below the folder, or the report cannot be written.
    """
    sweep_dir = Path(sweep_dir)
    jobs = read_jobs(sweep_dir)
    if not jobs:
        raise RunFileError(f"{sweep_dir} holds no job: no folder below it has .hydra/overrides.yaml")
    varied = _varied(jobs)
    metrics = {main_metric(job.summary) for job in jobs if job.summary.get("results")}
    metric = metrics.pop() if len(metrics) == 1 else "metric"
    columns = ["job", *varied, f"float {metric}", f"quantised {metric}", f"spiking {metric}"]
    columns += ["same prediction", "spike rate", "status"]
    rows = [[job.name, *(_number(job.overrides.get(key)) for key in varied), *_numbers(job)] for job in jobs]
    columns, rows = _without_empty(columns, rows)
    extra = [[job.error, str(job.path.relative_to(sweep_dir))] for job in jobs]
    write_text(
        sweep_dir / "results.csv", _csv([*columns, "error", "folder"], [a + b for a, b in zip(rows, extra)])
    )
    figure = _draw(jobs, varied, sweep_dir)
    open_jobs = [job for job in jobs if job.status != "finished"]
    sections = [
        f"# Sweep {sweep_dir.name}",
        f"**{count(jobs)}**",
        _command(sweep_dir),
        f"![{metric} over T]({figure.relative_to(sweep_dir).as_posix()})" if figure else "",
        "## Jobs\n\n"
        + markdown_table(columns, [[_link(job, sweep_dir), *row[1:]] for job, row in zip(jobs, rows)]),
        _LEGEND,
        "## Not finished\n\n" + "\n".join(f"- {_told(job)}" for job in open_jobs) if open_jobs else "",
    ]
    path = write_text(sweep_dir / "report.md", "\n\n".join(part for part in sections if part) + "\n")
    text = "\n".join([text_table(columns, rows), "", count(jobs), *(f"  {_told(job)}" for job in open_jobs)])
    return SweepTable(path, text, jobs)


def read_jobs(sweep_dir: str | Path) -> list[Job]:
    """Read the jobs below a folder, in the order of their numbers."""
    import yaml

    sweep_dir = Path(sweep_dir)
    jobs = []
    for file in sweep_dir.rglob(".hydra/overrides.yaml"):
        path = file.parent.parent
        if path == sweep_dir:
            continue
        listed = yaml.safe_load(file.read_text()) or []
        overrides = dict(str(item).lstrip("+").partition("=")[::2] for item in listed)
        jobs.append(_read_job(path, path.relative_to(sweep_dir).as_posix(), overrides))
    return sorted(
        jobs, key=lambda job: [(len(p), p) if p.isdigit() else (99, p) for p in re.split(r"(\d+)", job.name)]
    )


def count(jobs: Sequence[Job]) -> str:
    """Say how many jobs ended how.

    Example:
        >>> count([Job(Path("0"), "0", {}, "finished"), Job(Path("1"), "1", {}, "failed")])
        '2 jobs: 1 finished, 1 failed'
    """
    ends = Counter(job.status for job in jobs)
    told = ", ".join(
        f"{ends[status]} {status}" for status in sorted(ends, key=lambda s: (s != "finished", s))
    )
    return f"{len(jobs)} job{'s' if len(jobs) != 1 else ''}: {told}"


def _read_job(path: Path, name: str, overrides: dict[str, str]) -> Job:
    if not (path / "summary.json").exists():
        return Job(path, name, overrides, "unfinished", "no summary.json: it was killed, or it still runs")
    try:
        summary = read_json(path / "summary.json")
    except RunFileError as error:
        return Job(path, name, overrides, "failed", str(error))
    if not isinstance(summary, dict):
        return Job(path, name, overrides, "failed", "summary.json does not hold a table")
    status = str(summary.get("status") or "unfinished")
    reason = " ".join(str(summary.get("error") or "").split())
    return Job(path, name, overrides, status, reason or None, summary)


def _varied(jobs: Sequence[Job]) -> list[str]:
    keys = dict.fromkeys(key for job in jobs for key in job.overrides)
    return [key for key in keys if len({job.overrides.get(key) for job in jobs}) > 1]


def _numbers(job: Job) -> list[Any]:
    results = job.summary.get("results") or {}
    metric = main_metric(job.summary)
    values = [nested(results, name, "metrics").get(metric) for name in ("float", "quantized", "spiking")]
    agreement = nested(results, "spiking", "agreement")
    same = agreement["same_prediction"] / agreement["samples"] if agreement.get("samples") else None
    return [*values, same, nested(results, "spiking").get("spike_rate"), job.status]


def _number(text: str | None) -> Any:
    try:
        return int(text) if text is not None else None
    except ValueError:
        return text


def _without_empty(columns: list[str], rows: list[list[Any]]) -> tuple[list[str], list[list[Any]]]:
    kept = [i for i in range(len(columns)) if any(row[i] is not None for row in rows)]
    return [columns[i] for i in kept], [[row[i] for i in kept] for row in rows]


def _draw(jobs: Sequence[Job], varied: Sequence[str], sweep_dir: Path) -> Path | None:
    rows = []
    for job in jobs:
        values = _numbers(job)
        steps = nested(job.summary, "results", "spiking").get("T") or job.summary.get("T")
        # An unfinished job may hold numbers of a part of the data: fit for the table, not for the figure.
        if job.status == "finished" and values[2] is not None and steps:
            row = {"T": steps, "float": values[0], "quantized": values[1], "accuracy": values[2]}
            rows.append({**row, "label": _label(job, varied), "dataset": job.summary.get("dataset")})
    if not rows:
        return None
    from snn.tracking.style import save
    from snn.tracking.sweep_figures import accuracy_over_T

    told = {key: {str(job.summary[key]) for job in jobs if job.summary.get(key)} for key in _DESCRIBED}
    shared = {key: values.pop() for key, values in told.items() if len(values) == 1}
    seeds = len({job.overrides.get("seed") for job in jobs}) if "seed" in varied else 1
    subtitle = describe(shared) + (
        f"; mean of {seeds} seeds, bars from lowest to highest" if seeds > 1 else ""
    )
    metric = main_metric(next(job.summary for job in jobs if job.status == "finished"))
    return save(
        accuracy_over_T(rows, subtitle=subtitle, metric=metric), sweep_dir / "figures" / "accuracy_over_T"
    )[0]


def _label(job: Job, varied: Sequence[str]) -> str:
    told = []
    tails = Counter(key.split(".")[-1] for key in varied)
    for key in varied:
        value = job.overrides.get(key)
        if key in ("T", "seed", "dataset") or value is None:
            continue
        tail = key.split(".")[-1]
        value = value.rstrip("/").split("/")[-1]
        speaks = key in ("model", "neuron", "experiment", "checkpoint")
        told.append(value if speaks else f"{tail if tails[tail] == 1 else key}={value}")
    return ", ".join(told) or str(job.summary.get("neuron") or "spiking")


def _command(sweep_dir: Path) -> str:
    if not (sweep_dir / "multirun.yaml").exists():
        return ""
    import shlex

    import yaml

    hydra: Mapping[str, Any] = (yaml.safe_load((sweep_dir / "multirun.yaml").read_text()) or {}).get(
        "hydra"
    ) or {}
    overrides = nested(hydra, "overrides").get("task") or []
    script = nested(hydra, "job").get("name")
    return f"```bash\npython {script}.py -m {shlex.join(map(str, overrides))}\n```" if script else ""


def _link(job: Job, sweep_dir: Path) -> str:
    report = job.path / "report.md"
    return f"[{job.name}]({report.relative_to(sweep_dir).as_posix()})" if report.exists() else job.name


def _told(job: Job) -> str:
    overrides = " ".join(f"{key}={value}" for key, value in job.overrides.items())
    return f"job {job.name} ({overrides}) {job.status}: {job.error or 'no reason is recorded'}"


def _csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()
