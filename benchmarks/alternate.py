"""Timing of things against a baseline, run alternately in one process, so that a busy machine slows both alike."""

from __future__ import annotations

import argparse
import gc
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from snn.allocator import keep_freed_memory
from snn.tracking.table import text_table

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Timing:
    """What :func:`compare` found for one callable.

    Args:
        seconds: Median time of one call.
        ratio: Median over the pairs of this time to the baseline's; 1 for the baseline.
        quartiles: First and third quartile of the pairs' ratios.
    """

    seconds: float
    ratio: float
    quartiles: tuple[float, float]


def compare(
    things: Mapping[str, Callable[[], Any]], baseline: str, rounds: int = 16, least: float = 0.2
) -> dict[str, Timing]:
    """Time every callable next to the baseline.

    Each round runs, for each of the others, the baseline and that one, in turns first and second, and takes the
    ratio of the two. A disturbance longer than a pair changes both of its times, and leaves the ratio.

    Args:
        things: By name; called without arguments.
        baseline: Name of the one that ratios refer to.
        rounds: Number of pairs for each of the others; even, so that each comes first as often as second.
        least: Seconds; what takes less is repeated within its half of the pair.
    """
    keep_freed_memory()  # as train.py, convert.py and evaluate.py do
    # The first call loads and allocates; the second says how many calls fill the least time.
    warm = {name: [seconds_of(thing) for _ in range(2)][-1] for name, thing in things.items()}
    calls = {name: max(1, math.ceil(least / seconds)) for name, seconds in warm.items()}
    others = [name for name in things if name != baseline]
    times: dict[str, list[float]] = {name: [] for name in things}
    ratios: dict[str, list[float]] = {name: [] for name in others}
    gc.collect()
    gc.freeze()  # networks and libraries are then no longer searched for garbage in the midst of a call
    try:
        for number in range(rounds):
            for name in others:
                for which in (baseline, name) if number % 2 == 0 else (name, baseline):
                    times[which].append(seconds_of(things[which], calls[which]))
                ratios[name].append(times[name][-1] / times[baseline][-1])
    finally:
        gc.unfreeze()
    found = {baseline: Timing(float(np.median(times[baseline])), 1.0, (1.0, 1.0))}
    for name in others:
        low, middle, high = np.percentile(ratios[name], [25, 50, 75])
        found[name] = Timing(float(np.median(times[name])), float(middle), (float(low), float(high)))
    return {name: found[name] for name in things}


def seconds_of(thing: Callable[[], Any], calls: int = 1) -> float:
    """Wall time of one call, in seconds, as the mean of so many."""
    start = time.perf_counter()
    for _ in range(calls):
        thing()
    return (time.perf_counter() - start) / calls


def print_timings(
    title: str, timings: Mapping[str, Timing], targets: Mapping[str, float] | None = None
) -> bool:
    """Print one row per callable; ``targets`` are the largest ratios allowed. Return whether all are met."""
    rows, met = [], True
    for name, timing in timings.items():
        target = (targets or {}).get(name)
        met &= target is None or timing.ratio <= target
        low, high = timing.quartiles
        cells = [name, f"{1e3 * timing.seconds:.1f}", f"{timing.ratio:.3f}", f"{low:.3f}–{high:.3f}"]
        rows.append([*cells, *verdict(timing.ratio, target)])
    columns = ["", "median ms", "ratio", "quartiles", "target", "verdict"]
    print(f"\n{title}\n{text_table(columns, rows)}", flush=True)
    return met


def verdict(value: float, target: float | None) -> tuple[str, str]:
    """Cells for the target and for whether it is met; empty where there is none."""
    return ("", "") if target is None else (f"≤ {target:g}", "pass" if value <= target else "FAIL")


def parser(description: str | None, rounds: int = 16) -> argparse.ArgumentParser:
    """Options that all benchmarks share."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument(
        "--rounds", type=int, default=rounds, help="pairs per comparison (default: %(default)s)"
    )
    made.add_argument(
        "--quick", action="store_true", help="a tiny case, to see that it works; judges nothing"
    )
    return made
