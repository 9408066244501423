"""Measurements in place of classes, as STS-B has them, from training to the spiking network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from snn.errors import ConfigError
from snn.evaluation.jobs import convert_checkpoint, evaluate_checkpoint
from snn.tracking.files import read_json
from snn.training.experiment import run
from tests.scripts.composing import composed

SAME = ["dataset=text_file", "dataset.task=regression", "dataset.metrics=[pearson,spearman]", "T=8"]
SMALL = ["debug=tiny", "device=cpu", "threads=1"]


def write_pairs(folder: Path, rows: int) -> Path:
    """Pairs of texts, and the share of good words in the second one."""
    rng, lines = np.random.default_rng(0), ["first\tsecond\tscore"]
    for _ in range(rows):
        good = int(rng.integers(5))
        lines.append(
            f"{rng.choice(['one', 'two'])}\t{' '.join(['good'] * good + ['bad'] * (4 - good))}\t{good / 4}"
        )
    (folder / "train.tsv").write_text("\n".join(lines) + "\n")
    return folder / "train.tsv"


@pytest.fixture(scope="module")
def trained(text: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("regression")
    data = write_pairs(folder, 400)
    fields = ["dataset.text_fields=[first,second]", "dataset.label_field=score", f"dataset.data_dir={data}"]
    long = ["dataset.limit_train=300", "dataset.limit_test=40", "training.float.epochs=8"]
    fine = [
        "quantization.granularity=channel",
        "quantization.batches=8",
        "training.quantized={epochs: 4, lr: 1e-3}",
    ]
    model = [said for said in text if not said.startswith("dataset=")]
    run(composed("train", *SAME, *SMALL, *model, *fields, *long, *fine), folder / "run")
    return folder / "run"


def test_every_network_is_measured_by_correlation(trained: Path) -> None:
    results = read_json(trained / "summary.json")["results"]
    assert {"float", "quantized", "spiking"} <= results.keys()
    assert all({"pearson", "spearman"} <= found["metrics"].keys() for found in results.values())
    assert results["float"]["metrics"]["pearson"] > 0.8
    assert results["quantized"]["metrics"]["pearson"] > 0.8


def test_the_spiking_network_measures_what_the_quantised_one_does(trained: Path) -> None:
    results = read_json(trained / "summary.json")["results"]
    quantized, spiking = (results[name]["metrics"] for name in ("quantized", "spiking"))
    assert spiking == pytest.approx(quantized, abs=1e-5)
    over_time = results["spiking"]["per_timestep"]["pearson"]
    assert len(over_time) == 8
    assert over_time[-1] == pytest.approx(spiking["pearson"])


def test_another_T_goes_through_the_other_scripts(trained: Path, tmp_path: Path) -> None:
    found = evaluate_checkpoint(composed("evaluate", f"checkpoint={trained}", "T=16", *SMALL), tmp_path)
    spiking = read_json(tmp_path / "summary.json")["results"]["spiking"]
    assert found == pytest.approx(spiking["metrics"]["pearson"])
    assert spiking["T"] == len(spiking["per_timestep"]["pearson"]) == 16


def test_a_read_out_for_classes_is_refused(trained: Path, text: list[str], tmp_path: Path) -> None:
    """Before anything is trained, and the other way round for a checkpoint."""
    data = [f"dataset.data_dir={write_pairs(tmp_path, 60)}", "dataset.text_fields=[first,second]"]
    model = [said for said in text if not said.startswith("dataset=")]
    wide = composed("train", *SAME, *SMALL, *model, *data, "dataset.label_field=score", "model.num_classes=2")
    with pytest.raises(ConfigError, match=r"model\.num_classes=2, but dataset=text_file has measurements"):
        run(wide, tmp_path / "wide")
    classes = composed("convert", f"checkpoint={trained}", "dataset=synthetic_text", *SMALL)
    with pytest.raises(
        ConfigError, match="its read-out has width 1, but dataset=synthetic_text has 2 classes"
    ):
        convert_checkpoint(classes, tmp_path / "classes")
