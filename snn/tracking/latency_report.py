"""The section of a report on latency: wall time by execution and batch size, steps in sequence, time to decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from snn.tracking.table import markdown_table

_COLUMNS = {
    "execution": "execution",
    "batch": "batch",
    "milliseconds": "ms per sample",
    "low": "first quartile",
    "high": "third quartile",
    "calls": "calls",
}


def latency_section(found: Mapping[str, Any]) -> str:
    """Markdown of ``summary["latency"]``; empty where it was not measured."""
    if not found:
        return ""
    measured = (
        f"Wall time of the warm network, spikes not counted, on {found['device']} with {found['threads']} "
        f"thread{'s' if found['threads'] != 1 else ''}; batches of the {found['split']} split as they come."
    )
    table = markdown_table(
        list(_COLUMNS.values()),
        [[_rounded(timing[key]) for key in _COLUMNS] for timing in found["timings"]],
    )
    refused = "\n".join(f"- no {name}: {reason}" for name, reason in found["refused"].items())
    return "\n\n".join(part for part in ("## Latency", measured, table, refused, _sequence(found)) if part)


def _rounded(value: Any) -> Any:
    return float(f"{value:.3g}") if isinstance(value, float) else value


def _sequence(found: Mapping[str, Any]) -> str:
    layers, T, steps = found["layers"], found["T"], found["steps"]
    if not layers:
        return ""
    if found["causal"]:
        return (
            f"In steps: {layers} layers of neurons lie one behind the other, and each passes a step on as it comes, so "
            f"the last of T = {T} steps is out after {layers} + {T} − 1 = {steps} of them."
        )
    return (
        f"In steps: {layers} layers of neurons lie one behind the other. They are not causal: each needs all T = {T} "
        f"steps of its input before its first spike, so the read-out takes {layers} × {T} = {steps} of them."
    )


def decision_sentence(decisions: Sequence[int], causal: bool) -> str:
    """When predictions stay, in a sentence; empty where that was not counted.

    Args:
        decisions: How many samples decided at each step, 1 first.
        causal: Whether an early step means what it says.

    Example:
        >>> decision_sentence([6, 2, 0, 2], causal=True)
        'Time to decision, the first step from which the prediction stays: 1.80 steps on average, 4 for nine in ten.'
    """
    total = sum(decisions)
    if not total:
        return ""
    mean = sum(t * number for t, number in enumerate(decisions, 1)) / total
    done, most = 0, len(decisions)
    for t, number in enumerate(decisions, 1):
        done += number
        if done >= 0.9 * total:
            most = t
            break
    note = "" if causal else " *Prefix*: the neurons are not causal, so only step T is final."
    return (
        "Time to decision, the first step from which the prediction stays: "
        f"{mean:.2f} steps on average, {most} for nine in ten.{note}"
    )
