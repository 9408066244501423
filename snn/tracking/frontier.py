"""What accuracy costs: the networks of one or many sweeps as points, and which of them no other one beats.

A cost is the number of time steps, spikes, energy or time of one sample. A network is in the Pareto set of a cost
if no other one of the same data set is at least as good at no more of it, and better in one of the two.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from snn.tracking.sweep_jobs import TEXTS, Job, varied

#: Keys, and groups of keys, that are no part of a network's name: axes and panels, and how and where it was run.
_AXES = ("T", "seed", "dataset")
_CIRCUMSTANCES = (
    "name",
    "device",
    "threads",
    "paths",
    "hydra",
    "tracking",
    "analysis",
    "evaluation",
    "execution",
)
#: Where they speak for themselves.
_SPEAKING = ("experiment", "checkpoint")
#: What the networks beside the spiking one cost in energy.
_TWINS = {
    "float ANN": ("float", "float energy (µJ)"),
    "quantised ANN": ("quantised", "quantised energy (µJ)"),
}
#: What is known of early exits, and which fact of a job it takes the place of.
_EXIT = {"score": "spiking", "steps": "T", "spikes": "spikes per sample", "energy (µJ)": "energy (µJ)"}


@dataclass(frozen=True)
class Cost:
    """One axis.

    Args:
        key: Name in files.
        fact: Which fact of a job it is.
        label: Name on the axis, with its unit.
    """

    key: str
    fact: str
    label: str


STEPS = Cost("T", "T", "T (time steps)")
SPIKES = Cost("spikes", "spikes per sample", "spikes per sample")
ENERGY = Cost("energy", "energy (µJ)", "energy per sample (µJ)")
LATENCY = Cost("time", "latency (ms)", "wall time per sample (ms)")
EVALUATION = Cost("time", "evaluation (ms)", "evaluation time per sample (ms)")


@dataclass(frozen=True)
class Point:
    """A network at T steps, averaged over seeds.

    Args:
        label: Names the network among the others.
        T: Number of time steps; of a network whose samples stop early their mean.
        jobs: What it is the mean of.
        score: Of the spiking network, in the data set's first metric.
        scores: Lowest and highest.
        costs: By :attr:`Cost.fact`, where they are known of all jobs.
    """

    label: str
    T: float
    jobs: tuple[Job, ...]
    score: float
    scores: tuple[float, float]
    costs: Mapping[str, float]


@dataclass
class Facet:
    """The points that may be compared: those of the same samples of one data set, in one metric.

    Args:
        dataset: Name of the data set, and of the split and samples where there are several.
        metric: Name of the metric.
        points: In the order of the jobs, by label and T.
    """

    dataset: str
    metric: str
    points: list[Point] = field(default_factory=list)

    @property
    def labels(self) -> list[str]:
        return list(dict.fromkeys(point.label for point in self.points))

    def series(self, label: str) -> list[Point]:
        """The points of one network, ascending in T."""
        return sorted((point for point in self.points if point.label == label), key=lambda point: point.T)

    @property
    def costs(self) -> list[Cost]:
        """The costs that are known of all points, early exits aside; measured time before the time that an evaluation
        took."""
        points = [p for p in self.points if not all(_is_exit(job) for job in p.jobs)]
        known = [c for c in (STEPS, SPIKES, ENERGY) if all(c.fact in p.costs for p in points)]
        times = [c for c in (LATENCY, EVALUATION) if all(c.fact in p.costs for p in points)]
        return known + times[:1]

    def knowing(self, cost: Cost) -> Facet:
        """The points of which a cost is known, in the same order."""
        return Facet(self.dataset, self.metric, [point for point in self.points if cost.fact in point.costs])

    def frontier(self, cost: Cost) -> list[Point]:
        """The Pareto set, ascending in cost."""
        points = self.knowing(cost).points
        best = pareto([(point.costs[cost.fact], point.score) for point in points])
        return sorted((points[i] for i in best), key=lambda point: point.costs[cost.fact])

    def on_frontier(self, job: Job) -> list[Cost]:
        """The costs in whose Pareto set a job is."""
        return [cost for cost in self.costs if any(job in point.jobs for point in self.frontier(cost))]

    def twins(self) -> dict[str, list[tuple[float, float]]]:
        """Energy and score of the networks without spikes that were measured beside these, by name."""
        found: dict[str, list[tuple[float, float]]] = {}
        for name, (score, energy) in _TWINS.items():
            facts = [job.facts for point in self.points for job in point.jobs]
            pairs = {(f[energy], f[score]) for f in facts if energy in f and score in f}
            if pairs:
                found[name] = sorted(pairs)
        return found

    def common(self, name: str) -> float | None:
        """A fact that is the same for all jobs that know it, to six digits."""
        facts = [job.facts for point in self.points for job in point.jobs]
        known = {round(f[name], 6) for f in facts if name in f}
        return known.pop() if len(known) == 1 else None


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which points no other one beats: at no higher cost and no lower score, and better in one of them.

    Args:
        points: Cost (less is better) and score (more is better) of each.

    Example:
        >>> pareto([(1, 0.5), (2, 0.8), (3, 0.7), (2, 0.8), (4, 0.9)])
        [0, 1, 3, 4]
    """
    return [
        i
        for i, (cost, score) in enumerate(points)
        if not any(c <= cost and s >= score and (c < cost or s > score) for c, s in points)
    ]


def marker_name(cost: Cost, index: int) -> str:
    """What the marker of a facet's point is called in an SVG, by which pages find it."""
    return f"point-{cost.key}-{index}"


def facets(jobs: Sequence[Job]) -> list[Facet]:
    """The points of the finished jobs, data set by data set.

    A job that did not finish may hold numbers of a part of the data: fit for tables, not for comparisons. A job whose
    samples may stop early is two points: without that, and with it.
    """
    done = [job for job in jobs if job.status == "finished" and {"spiking", "T"} <= job.facts.keys()]
    done += [exited for job in done if (exited := _exited(job))]
    groups: dict[tuple[str, str], list[Job]] = {}
    for job, measured in zip(done, _measured_on(done)):
        groups.setdefault((measured, str(job.facts.get("metric"))), []).append(job)
    return [Facet(dataset, metric, _points(same)) for (dataset, metric), same in groups.items()]


def _exited(job: Job) -> Job | None:
    """The job as it is where samples stop early, if it says so: what does not follow is left out."""
    found = {name: job.facts.get(f"early exit {key}") for key, name in _EXIT.items()}
    if found["spiking"] is None or found["T"] is None:
        return None
    kept = {
        key: value for key, value in job.facts.items() if key in (*TEXTS, "samples", "float", "quantised")
    }
    known = {key: value for key, value in found.items() if value is not None}
    return replace(job, facts={**kept, **known, "stops": "early exit"})


def _is_exit(job: Job) -> bool:
    return "stops" in job.facts


def _points(jobs: Sequence[Job]) -> list[Point]:
    # Jobs that differ in the seed alone; with early exit each has a mean number of steps of its own.
    same: dict[tuple[str, Any], list[Job]] = {}
    for job, label in zip(jobs, names_of(jobs)):
        same.setdefault((label, job.overrides.get("T") if _is_exit(job) else job.facts["T"]), []).append(job)
    return [_point(label, tuple(of_one)) for (label, _), of_one in same.items()]


def _measured_on(jobs: Sequence[Job]) -> list[str]:
    """Data set of each job; its split and number of samples too where they differ between jobs of one data set."""
    result = []
    for job in jobs:
        same = [other.facts for other in jobs if other.facts.get("dataset") == job.facts.get("dataset")]
        told = [str(job.facts.get("split") or "no split")] if len({f.get("split") for f in same}) > 1 else []
        if len({f.get("samples") for f in same if f.get("split") == job.facts.get("split")}) > 1:
            told.append(f"{job.facts.get('samples') or 'unknown'} samples")
        dataset = str(job.facts.get("dataset") or "")
        result.append(f"{dataset} ({', '.join(told)})" if told else dataset)
    return result


def names_of(jobs: Sequence[Job]) -> list[str]:
    """What tells the networks of jobs apart: model, neuron and whatever else differs; T, seed and data set aside.

    How long a network was trained often differs from T to T, so keys of ``training`` are part of the names only where
    networks could not be told apart without them.

    Example:
        >>> names_of([Job("0", {"neuron": "st_bif"}, "finished"), Job("1", {"neuron": "para_inf"}, "finished")])
        ['st_bif', 'para_inf']
    """
    orders = {job.facts.get("order") for job in jobs} - {None}
    neuron = "neuron and order" if len(orders) > 1 else "neuron"
    asked = ("model", neuron, "stops", "energy profile")
    facts = [fact for fact in asked if len({_said(job, fact) for job in jobs}) > 1]
    if facts == ["stops"]:  # says how, but not what
        facts.insert(0, neuron)
    known = {"model", "neuron", "energy"} | ({"neuron.order"} if len(orders) > 1 else set())
    keys = [
        key for key in varied(jobs) if key.split(".")[0] not in (*_AXES, *_CIRCUMSTANCES) and key not in known
    ]
    recipe = [key for key in keys if key.split(".")[0] == "training"]
    if recipe and not _alike(jobs, facts, [key for key in keys if key not in recipe]):
        keys = [key for key in keys if key not in recipe]
    tails = Counter(key.split(".")[-1] for key in keys)
    result = []
    for job in jobs:
        told = [_said(job, fact) for fact in facts]
        for key in keys:
            value = job.overrides.get(key)
            if value is None:
                continue
            tail = key.split(".")[-1]
            value = value if " " in value else value.rstrip("/").split("/")[-1]  # of a folder its name
            told.append(value if key in _SPEAKING else f"{tail if tails[tail] == 1 else key}={value}")
        result.append(", ".join(filter(None, told)) or _said(job, "neuron") or "spiking")
    return result


def _alike(jobs: Sequence[Job], facts: Sequence[str], keys: Sequence[str]) -> bool:
    """Whether two jobs of one data set, T and seed have all of these in common."""
    seen = Counter(
        (
            *(_said(job, fact) for fact in (*facts, "dataset", "T")),
            *(job.overrides.get(key) for key in (*keys, "seed")),
        )
        for job in jobs
    )
    return max(seen.values(), default=0) > 1


def _said(job: Job, fact: str) -> str:
    """A fact as text, or what the command line said about it."""
    if fact == "neuron and order":
        neuron, order = _said(job, "neuron"), job.facts.get("order")
        return f"{neuron} ({order})" if order else neuron
    return str(job.facts.get(fact) or job.overrides.get(fact) or "")


def _point(label: str, jobs: tuple[Job, ...]) -> Point:
    scores = [job.facts["spiking"] for job in jobs]
    costs = {
        cost.fact: statistics.fmean(job.facts[cost.fact] for job in jobs)
        for cost in (STEPS, SPIKES, ENERGY, LATENCY, EVALUATION)
        if all(cost.fact in job.facts for job in jobs)
    }
    T = costs[STEPS.fact]
    return Point(label, T, jobs, statistics.fmean(scores), (min(scores), max(scores)), costs)
