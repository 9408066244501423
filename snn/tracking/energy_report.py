"""The section of a report on energy: three networks side by side, what takes it, and what the figures rest on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from snn.tracking.table import markdown_table

_NETWORKS = {
    "network": "network",
    "macs": "MACs",
    "acs": "ACs",
    "membrane_updates": "membrane updates",
    "energy_uj": "energy (µJ)",
    "of_float": "of the float ANN's",
}
_PARTS = {
    "part": "what",
    "macs": "MACs",
    "acs": "ACs",
    "float_uj": "float ANN (µJ)",
    "quantized_uj": "quantised ANN (µJ)",
    "spiking_uj": "spiking (µJ)",
}
_SUMMARY = {
    "parameters": "parameters",
    "footprint_bytes": "footprint (bytes)",
    "connection_sparsity": "connection sparsity",
    "activation_sparsity": "activation sparsity",
    "dense_macs": "MACs without time",
    "effective_macs": "effective MACs",
    "effective_acs": "effective ACs",
}


def energy_section(summary: Mapping[str, Any], figure: str = "") -> str:
    """Markdown of ``summary["energy"]`` and ``summary["neurobench"]``; empty where there is neither.

    Args:
        summary: As in ``summary.json``.
        figure: A link to the figure.
    """
    found, short = summary.get("energy") or {}, summary.get("neurobench") or {}
    parts = []
    if found:
        parts += ["## Energy", f"{found['verdict'][0].upper()}{found['verdict'][1:]}."]
        parts += [_table(_NETWORKS, found["networks"]), figure]
        parts += ["By what is computed:", _table(_PARTS, found["parts"])]
        parts.append(
            "What the figures rest on:\n\n" + "\n".join(f"- {line}" for line in found["assumptions"])
        )
        parts.append("Every operator and step: [energy.json](energy.json).")
    if short:
        parts.append("### NeuroBench summary" if found else "## NeuroBench summary")
        parts.append(_table({key: name for key, name in _SUMMARY.items() if key in short}, [short]))
    return "\n\n".join(part for part in parts if part)


def _table(columns: Mapping[str, str], rows: list[Mapping[str, Any]]) -> str:
    def cell(key: str, value: Any) -> Any:
        counted = key.endswith(("macs", "acs", "updates")) and value is not None
        return round(value) if counted else value

    return markdown_table(list(columns.values()), [[cell(k, row.get(k)) for k in columns] for row in rows])
