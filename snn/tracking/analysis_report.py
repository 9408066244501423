"""What the analyses of a run add to its figures and to ``report.md``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from snn.tracking.latency_report import latency_section
from snn.tracking.table import markdown_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_analyses(summary: Mapping[str, Any], subtitle: str) -> dict[str, Figure]:
    """The figures that the analyses in a summary give, by name."""
    figures: dict[str, Figure] = {}
    tokens = summary.get("tokens")
    if tokens:
        from snn.tracking.token_figures import attention_and_spikes, decision_times, rate_by_place

        figures["spike_rate_by_place"] = rate_by_place(tokens["places"], subtitle=subtitle)
        if tokens["attention"]:
            figures["attention_and_spikes"] = attention_and_spikes(tokens["attention"], subtitle=subtitle)
        if tokens["decision_times"]:
            figures["decision_times"] = decision_times(
                tokens["decision_times"], causal=tokens["causal"], subtitle=subtitle
            )
    if summary.get("early_exit"):
        from snn.tracking.early_exit_figure import early_exit_curve

        figures["early_exit"] = early_exit_curve(summary["early_exit"], subtitle=subtitle)
    return figures


def analysis_sections(summary: Mapping[str, Any], image: Callable[[str, str], str]) -> list[str]:
    """Sections of ``report.md``.

    Args:
        summary: As in ``summary.json``.
        image: Name and text of a figure → its Markdown; empty where there is none.
    """
    return [
        _tokens(summary.get("tokens") or {}, image),
        _early_exit(summary.get("early_exit") or {}, image),
        latency_section(summary.get("latency") or {}),
    ]


def _tokens(found: Mapping[str, Any], image: Callable[[str, str], str]) -> str:
    if not found:
        return ""
    parts = [
        "## Spikes over words",
        f"{found['samples']:,} texts of the {found['split']} split; sentences, word by word: "
        "[tokens/index.html](tokens/index.html). All numbers: `tables/token_*.csv`, "
        "`tables/attention_and_spikes.csv`.",
        _ranking(found),
        image("spike_rate_by_place", "Spike rate by place in the text"),
        _decisions(found),
        image("decision_times", "From when on the prediction stays"),
    ]
    if found["attention"]:
        parts.append(
            "Attention that a token receives, against its spike rate in the same block, within each text:"
        )
        parts.append(image("attention_and_spikes", "Attention received against spike rate"))
    return "\n\n".join(part for part in parts if part)


def _ranking(found: Mapping[str, Any]) -> str:
    most, least = found["most_active"], found["least_active"]
    if not most:
        return ""
    columns = ("token", "occurrences", "rate")
    rows = [[*map(a.get, columns), *map(b.get, columns)] for a, b in zip(most, least)]
    return markdown_table(["most active", "seen", "rate", "least active", "seen", "rate"], rows)


def _decisions(found: Mapping[str, Any]) -> str:
    rows = []
    for kind, counts in found["decision_times"].items():
        total = sum(counts)
        mean = sum(n * t for t, n in enumerate(counts, 1)) / total
        rows.append([kind, total, mean, _by(counts, 0.5), _by(counts, 0.9)])
    if not rows:
        return ""
    prefix = "" if found["causal"] else " *Prefix*: the neurons are not causal, so only step T is final."
    columns = ["prediction", "samples", "mean decision time", "half by step", "nine of ten by step"]
    return f"Decision time: the first step from which the prediction stays.{prefix}\n\n{markdown_table(columns, rows)}"


def _by(counts: Sequence[int], share: float) -> int:
    """First step by which ``share`` of the samples had decided."""
    done = 0
    for t, number in enumerate(counts, 1):
        done += number
        if done >= share * sum(counts):
            return t
    raise ValueError("no sample")


def _early_exit(found: Mapping[str, Any], image: Callable[[str, str], str]) -> str:
    if not found:
        return ""
    threshold = found["threshold"]
    if threshold is None:
        rule = "no threshold saves a step within the tolerance"
    else:
        rule = f"{found['criterion']} {'at least' if found['criterion'] == 'margin' else 'at most'} {threshold:.4g}"
    note = (
        f"A sample stops at the first step with {rule}: the fewest mean steps whose validation "
        f"{found['metric']} is within {found['tolerance']:g} of that at T = {found['T']}."
    )
    if not found["causal"]:
        note += (
            " *Prefix*: the neurons are not causal, so a network that really stops there would need its whole "
            "input before its first spike."
        )
    costs = {"spikes per sample": "spikes_per_sample", "energy (µJ)": "energy_uj"}
    costs = {name: key for name, key in costs.items() if key in found["reported"]}
    rows = [
        [name, part["samples"], part["score_at_T"], part["score"], part["mean_steps"]]
        + [part.get(key) for key in costs.values()]
        for name, part in (
            ("validation (chosen on)", found["validation"]),
            (f"{found['split']} (reported)", found["reported"]),
        )
    ]
    columns = ["split", "samples", f"{found['metric']} at T", "with early exit", "mean steps", *costs]
    table = markdown_table(columns, rows)
    return "\n\n".join(
        part
        for part in ("## Early exit", note, table, image("early_exit", "Score against mean time steps"))
        if part
    )
