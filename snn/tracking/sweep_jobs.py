"""What is known of the jobs of a sweep: read from their folders, or from the table that a report left of them."""

from __future__ import annotations

import csv
import io
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snn.tracking.files import RunFileError, read_json
from snn.tracking.run_figures import main_metric, nested

TABLE = "results.csv"
#: Facts of a job that are text; the others are numbers. All are columns of ``results.csv``.
TEXTS = ("model", "dataset", "split", "neuron", "order", "metric", "energy profile", "execution", "command")
NUMBERS = (
    "T",
    "samples",
    "float",
    "quantised",
    "spiking",
    "same prediction",
    "spike rate",
    "spikes per sample",
    "mean steps",
    "energy (µJ)",
    "quantised energy (µJ)",
    "float energy (µJ)",
    "latency (ms)",
    "latency batch",
    "decision step",
    "evaluation (ms)",
    "early exit score",
    "early exit steps",
    "early exit spikes",
    "early exit energy (µJ)",
)
#: All columns but those of swept keys.
_KNOWN = {*TEXTS, *NUMBERS, "job", "status", "error", "overrides", "folder"}


@dataclass
class Job:
    """One job of a sweep, or a run of its own.

    Args:
        name: The folder's name below the sweep.
        overrides: Key → value of the command line, as text.
        status: ``finished``, ``failed``, ``interrupted`` or ``unfinished``.
        facts: By :data:`TEXTS` and :data:`NUMBERS`; what is not known is left out.
        path: Its folder; ``None``: a table alone tells of it.
        error: Why it did not finish, where that is known.
    """

    name: str
    overrides: dict[str, str]
    status: str
    facts: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None
    error: str | None = None

    @property
    def told(self) -> str:
        """How it ended, in one line."""
        overrides = " ".join(f"{key}={value}" for key, value in self.overrides.items())
        named = f"{self.name} ({overrides})" if overrides else self.name
        return f"job {named} {self.status}: {self.error or 'no reason is recorded'}"


def read_jobs(folder: str | Path) -> list[Job]:
    """Read the jobs below a folder, in the order of their numbers; or the one run that it is.

    A folder without any, such as a committed report, is read from its ``results.csv``, of which ``T``, ``spiking``,
    ``metric`` and ``status`` are needed; columns that no report has are taken for keys that were swept.

    Raises:
        RunFileError: There is no such folder, or it holds none of these.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RunFileError(
            f"{folder} is no folder; expected a sweep (multirun/NAME/TIME) or a run (outputs/...)"
        )
    jobs = [_read_folder(path, path.relative_to(folder).as_posix()) for path in job_folders(folder)]
    if jobs:
        return sorted(jobs, key=lambda job: _natural(job.name))
    if (folder / "summary.json").exists():
        return [_read_folder(folder, folder.name)]
    if (folder / TABLE).exists():
        return _read_table(folder / TABLE)
    raise RunFileError(
        f"{folder} holds no job: no folder below it has .hydra/overrides.yaml, and it has neither summary.json nor "
        f"{TABLE}"
    )


def count(jobs: Sequence[Job]) -> str:
    """Say how many jobs ended how.

    Example:
        >>> count([Job("0", {}, "finished"), Job("1", {}, "failed")])
        '2 jobs: 1 finished, 1 failed'
    """
    ends = Counter(job.status for job in jobs)
    told = ", ".join(
        f"{ends[status]} {status}" for status in sorted(ends, key=lambda s: (s != "finished", s))
    )
    return f"{len(jobs)} job{'s' if len(jobs) != 1 else ''}: {told}"


def varied(jobs: Sequence[Job]) -> list[str]:
    """Keys of the command line that differ between jobs."""
    keys = dict.fromkeys(key for job in jobs for key in job.overrides)
    return [key for key in keys if len({job.overrides.get(key) for job in jobs}) > 1]


def to_csv(jobs: Sequence[Job]) -> str:
    """The table of all facts in full precision; :func:`read_jobs` reads it back."""
    keys = [key for key in varied(jobs) if key not in (*TEXTS, *NUMBERS)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["job", *keys, *NUMBERS, *TEXTS, "status", "error", "overrides", "folder"])
    for job in jobs:
        overrides = shlex.join(f"{key}={value}" for key, value in job.overrides.items())
        facts = [job.facts.get(name) for name in (*NUMBERS, *TEXTS)]
        ended = [job.status, job.error, overrides, job.name if job.path else None]
        writer.writerow([job.name, *(job.overrides.get(key) for key in keys), *facts, *ended])
    return text.getvalue()


def job_folders(folder: Path) -> Iterator[Path]:
    """The folders below a sweep's in which Hydra ran a job."""
    found = (file.parent.parent for file in folder.rglob(".hydra/overrides.yaml"))
    return (path for path in found if path != folder)


def _natural(name: str) -> list[tuple[int, str]]:
    return [(len(part), part) if part.isdigit() else (99, part) for part in re.split(r"(\d+)", name)]


def _read_folder(path: Path, name: str) -> Job:
    overrides = _overrides(path / ".hydra" / "overrides.yaml")
    if not (path / "summary.json").exists():
        reason = "no summary.json: it was killed, or it still runs"
        return Job(name, overrides, "unfinished", path=path, error=reason)
    try:
        summary = read_json(path / "summary.json")
    except RunFileError as error:
        return Job(name, overrides, "failed", path=path, error=str(error))
    if not isinstance(summary, dict):
        return Job(name, overrides, "failed", path=path, error="summary.json does not hold a table")
    status = str(summary.get("status") or "unfinished")
    reason = " ".join(str(summary.get("error") or "").split())
    return Job(name, overrides, status, _facts(summary), path, reason or None)


def _overrides(file: Path) -> dict[str, str]:
    if not file.exists():
        return {}
    import yaml

    listed = yaml.safe_load(file.read_text("utf-8")) or []
    return dict(str(item).lstrip("+").partition("=")[::2] for item in listed)


def _facts(summary: Mapping[str, Any]) -> dict[str, Any]:
    results = nested(summary, "results")
    spiking, metric = nested(results, "spiking"), main_metric(summary)
    agreement, latency = nested(spiking, "agreement"), nested(summary, "latency")
    energy = nested(summary, "energy")
    by_network = [network["energy_uj"] for network in energy.get("networks") or ()]
    seconds, samples = nested(summary, "durations").get("evaluate spiking"), spiking.get("samples")
    found: dict[str, Any] = {
        **{key: summary.get(key) for key in ("model", "dataset", "split", "neuron", "order", "command")},
        "T": spiking.get("T") or summary.get("T"),
        "samples": samples,
        "metric": metric if results else None,
        **{
            name: nested(results, network, "metrics").get(metric)
            for name, network in (("float", "float"), ("quantised", "quantized"), ("spiking", "spiking"))
        },
        "spike rate": spiking.get("spike_rate"),
        "spikes per sample": spiking.get("spikes_per_sample"),
        "mean steps": spiking.get("mean_steps"),
        "energy profile": nested(energy, "profile").get("name"),
        "latency (ms)": latency.get("milliseconds"),
        "latency batch": latency.get("batch"),
        "execution": latency.get("execution"),
        "decision step": _mean_step(spiking.get("decisions_per_timestep") or ()),
        "evaluation (ms)": 1e3 * seconds / samples if seconds and samples else None,
    }
    if agreement.get("samples"):
        found["same prediction"] = agreement["same_prediction"] / agreement["samples"]
    exited = nested(summary, "early_exit")
    if (
        exited.get("causal")
        and exited.get("metric") == metric
        and exited.get("split") == summary.get("split")
    ):
        reported = nested(exited, "reported")
        found |= {
            "early exit score": reported.get("score"),
            "early exit steps": reported.get("mean_steps"),
            "early exit spikes": reported.get("spikes_per_sample"),
            "early exit energy (µJ)": reported.get("energy_uj"),
        }
    names = ("float energy (µJ)", "quantised energy (µJ)", "energy (µJ)")
    found |= dict(zip(names, by_network))
    return {key: value for key, value in found.items() if value is not None}


def _mean_step(decided: Sequence[int]) -> float | None:
    total = sum(decided)
    return sum(t * number for t, number in enumerate(decided, 1)) / total if total else None


def _read_table(file: Path) -> list[Job]:
    with file.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    missing = [name for name in ("T", "spiking", "metric", "status") if rows and name not in rows[0]]
    if missing or not rows:
        wanted = f"has no column {', '.join(missing)}" if missing else "is empty"
        raise RunFileError(f"{file} {wanted}, so it is no table of a sweep's report")
    jobs = []
    for number, row in enumerate(rows):
        try:
            facts: dict[str, Any] = {name: _number(row[name]) for name in NUMBERS if row.get(name)}
        except ValueError as error:
            raise RunFileError(f"{file}, line {number + 2}: {error}") from None
        facts |= {name: row[name] for name in TEXTS if row.get(name)}
        overrides = {key: value for key, value in row.items() if value and key not in _KNOWN}
        overrides |= dict(item.partition("=")[::2] for item in shlex.split(row.get("overrides") or ""))
        jobs.append(
            Job(
                row.get("job") or str(number), overrides, row["status"], facts, error=row.get("error") or None
            )
        )
    return jobs


def _number(text: str) -> int | float:
    return int(text) if re.fullmatch(r"-?\d+", text) else float(text)
