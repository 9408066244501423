"""What a run hands to a sweep."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from snn.training.experiment import run
from tests.scripts.composing import composed


@pytest.mark.parametrize(
    ("metric", "settings"),
    [
        ("accuracy", ["training.quantized.lr=1.0", "training.float.epochs=8"]),
        ("loss", ["training.monitor=loss", "training.float.lr=0", "training.quantized.epochs=8"]),
    ],
)
def test_a_run_that_is_not_evaluated_is_worth_what_its_last_stage_reached(
    tmp_path: Path, metric: str, settings: list[str]
) -> None:
    """Not the largest figure of any stage: a loss is better if it is smaller, and the last network is what is left."""
    task = ["dataset=synthetic_text", "model=bert_tiny", "debug=tiny", "device=cpu"]
    stages = ["training.stages=[float,calibrate,quantized]", "training.quantized.distill=0"]
    worth = run(composed("train", *task, *stages, *settings), tmp_path)
    validation = json.loads((tmp_path / "summary.json").read_text())["validation"]
    assert worth == validation["quantized"][metric] < validation["float"][metric]
