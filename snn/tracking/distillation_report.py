"""What a run's report says of a network that has learnt from a teacher and predicts nothing yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from snn.tracking.table import markdown_table

_PARTS = {
    "loss": "all, as weighted in training",
    "hidden": "outputs of embedding and layers, summed over them",
    "attention": "attention scores, summed over the layers",
    "logits": "predictions",
}


def distillation_section(summary: Mapping[str, Any]) -> str:
    """How far the network is from its teacher; empty where a run says nothing of it.

    Example:
        >>> found = {"stage": "general", "split": "test", "loss": 1.5, "hidden": 1.5}
        >>> print(distillation_section({"distillation": found}))
        ## Distance from the teacher
        <BLANKLINE>
        After `general`, on test. Nothing has trained the head yet, so there are no predictions to be judged.
        <BLANKLINE>
        | part                                              | mean squared difference |
        |:--------------------------------------------------|------------------------:|
        | all, as weighted in training                      |                 1.5e+00 |
        | outputs of embedding and layers, summed over them |                 1.5e+00 |
    """
    found = summary.get("distillation") or {}
    if not found:
        return ""
    rows = [[text, found[part]] for part, text in _PARTS.items() if part in found]
    return "\n\n".join(
        (
            "## Distance from the teacher",
            f"After `{found['stage']}`, on {found['split']}. Nothing has trained the head yet, so there are no "
            "predictions to be judged.",
            markdown_table(["part", "mean squared difference"], rows),
        )
    )
