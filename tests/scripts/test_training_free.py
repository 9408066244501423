"""``conversion=training_free``: one word brings quantiser, neuron and stages; what it leaves, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from snn import checks
from snn import config as schema
from snn.config import CorrectionConfig
from snn.conversion.checkpoint import load_checkpoint
from snn.conversion.quantize import quantizers
from snn.conversion.training_free.correct import ORDERS
from snn.conversion.training_free.offsets import KINDS
from snn.conversion.training_free.reference import REFERENCES
from snn.conversion.training_free.rules import RULES
from snn.errors import ConfigError, ConversionError
from snn.evaluation.jobs import convert_checkpoint, evaluate_checkpoint
from snn.evaluation.training_free import kind_of_offsets
from snn.quantizers.da_qcfs import DAQCFS
from snn.tracking.files import read_json
from snn.training.experiment import run
from tests.scripts.composing import composed

FREE = "conversion=training_free"


@pytest.fixture(scope="module")
def free_run(images: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("free")
    run(composed("train", *images, FREE, "T=4", "conversion.verify_dtype=float64"), folder)
    return folder


def test_one_word_brings_the_rest() -> None:
    config = composed("train", FREE)
    assert (config.quantization.name, config.neuron["name"]) == ("da_qcfs", "para_inf_channelwise")
    assert {"calibrate", "convert", "evaluate"} <= set(config.training.stages)
    assert not {"float", "quantized"} & set(config.training.stages)
    # What is said on the command line wins.
    config = composed("train", FREE, "neuron=integrate_fire", "training.stages=[calibrate,convert]")
    assert (config.quantization.name, config.neuron["name"]) == ("da_qcfs", "integrate_fire")
    assert config.training.stages == ["calibrate", "convert"]


def test_every_other_conversion_trains() -> None:
    assert composed("train").training.stages == list(schema.CONVERSION_STAGES)


def test_a_run_without_training(free_run: Path) -> None:
    summary = read_json(free_run / "summary.json")
    assert set(summary["results"]) == {"float", "calibrated", "spiking"}
    assert summary["verification"]["exact"]
    assert summary["verification"]["differing"] == 0
    assert (
        summary["results"]["spiking"]["agreement"]["same_prediction"]
        == summary["results"]["spiking"]["samples"]
    )
    floats = load_checkpoint(free_run / "stages" / "float").state_dict()
    made = load_checkpoint(free_run, spiking=False)
    assert all(torch.equal(value, made.state_dict()[name]) for name, value in floats.items())
    corrected = [q for q in quantizers(made).values() if isinstance(q, DAQCFS)]
    assert any(bool((q.shift != 0).any()) for q in corrected)
    assert all(bool((q.gain != 1).any()) for q in corrected)


def test_another_T_sets_everything_anew(free_run: Path, tmp_path: Path) -> None:
    small = ["debug=tiny", "device=cpu", "threads=1"]
    evaluate_checkpoint(composed("evaluate", f"checkpoint={free_run}", "T=2", *small), tmp_path)
    summary = read_json(tmp_path / "summary.json")
    assert (summary["T"], summary["neuron"]) == (2, "para_inf_channelwise")
    assert summary["verification"]["differing"] == summary["verification"]["ties"]


@pytest.mark.parametrize("kind", KINDS)
def test_offsets_follow_T_and_end_with_training(kind: str, images: list[str], tmp_path: Path) -> None:
    small = ["debug=tiny", "device=cpu", "threads=1"]
    asked = [FREE, "neuron=integrate_fire", f"conversion.offsets={kind}", "T=4"]
    run(composed("train", *images, *asked), tmp_path / "run")

    def kinds(folder: Path) -> set[str | None]:
        return {kind_of_offsets(load_checkpoint(folder, spiking=False))}

    assert kinds(tmp_path / "run") == {kind}
    again = [f"checkpoint={tmp_path / 'run'}", *small]
    for T in (2, 4):  # what is not said is as it was
        convert_checkpoint(composed("convert", *again, f"T={T}"), tmp_path / f"at_{T}")
        assert kinds(tmp_path / f"at_{T}") == {kind}
        assert read_json(tmp_path / f"at_{T}" / "summary.json")["offsets"] == kind
    first = next(iter(quantizers(load_checkpoint(tmp_path / "at_2", spiking=False)).values()))
    assert len(first.offset) == (1 if kind == "membrane" else 2)
    evaluate_checkpoint(composed("evaluate", *again), tmp_path / "evaluated")
    spiking = [
        read_json(tmp_path / name / "summary.json")["results"]["spiking"] for name in ("run", "evaluated")
    ]
    assert spiking[0]["metrics"] == spiking[1]["metrics"]
    stages = "training.stages=[quantized,convert]"
    run(composed("train", *images, *again, stages, "neuron=integrate_fire", "T=4"), tmp_path / "trained")
    assert kinds(tmp_path / "trained") == {None}


def test_solved_weights_suit_one_T(images: list[str], tmp_path: Path) -> None:
    run(composed("train", *images, FREE, "T=4", "conversion.correction.weights=true"), tmp_path / "run")
    small = [f"checkpoint={tmp_path / 'run'}", "debug=tiny", "device=cpu", "threads=1"]
    evaluate_checkpoint(composed("evaluate", *small), tmp_path / "same")
    with pytest.raises(ConversionError, match=r"solved anew for 4 levels .* start from the float network"):
        evaluate_checkpoint(composed("evaluate", *small, "T=2"), tmp_path / "other")


SPREAD = "shifts and heights set by spread"


@pytest.mark.parametrize(
    ("overrides", "done"),
    [
        (["neuron=integrate_fire"], [SPREAD]),
        (["conversion.correction.weights=true"], [SPREAD]),
        (
            ["conversion.correction.rule=leaky", "conversion.correction.order=online"],
            ["shifts and heights set by leaky"],
        ),
        (["conversion.correction.rule=null"], []),
        (
            [
                "quantization=qcfs",
                "neuron=integrate_fire",
                "neuron.initial=0",
                "quantization.init=percentile",
            ],
            [],
        ),
        (
            ["quantization=qcfs", "neuron=integrate_fire", "conversion.balance=local"],
            ["thresholds balanced for spiking inputs over 3 steps"],
        ),
        (["neuron=integrate_fire", "conversion.offsets=membrane"], [SPREAD, "offsets (membrane) for T = 3"]),
        (["neuron=integrate_fire", "conversion.offsets=steps"], [SPREAD, "offsets (steps) for T = 3"]),
    ],
    ids=lambda value: " ".join(o.split(".")[-1] for o in value),
)
def test_every_method_does_its_work_and_no_other(
    overrides: list[str], done: list[str], images: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    run(composed("train", *images, FREE, *overrides, "T=3"), tmp_path)
    said = [r.getMessage() for r in caplog.records]
    works = ("shifts and heights", "thresholds balanced", "offsets")
    assert [any(line.startswith(words) for line in said) for words in done] == [True] * len(done)
    assert sum(line.startswith(works) for line in said) == len(done)
    results = read_json(tmp_path / "summary.json")["results"]
    assert set(results) == {"float", "calibrated", "spiking"}
    assert results["spiking"]["T"] == 3


def test_the_config_names_what_there_is() -> None:
    assert set(checks.CORRECTION_RULES) == set(RULES)
    assert checks.CORRECTION_ORDERS == ORDERS
    assert checks.CORRECTION_REFERENCES == REFERENCES
    assert checks.OFFSETS == KINDS
    # The file says what the schema says, so that a checkpoint that is evaluated later is corrected likewise.
    assert composed("train", FREE).conversion.correction == CorrectionConfig()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "conversion.correction.rule=leeky",
            r"conversion.correction.rule: unknown name 'leeky'; did you mean 'leaky'",
        ),
        ("conversion.correction.order=all", r"conversion.correction.order: unknown name 'all'"),
        ("conversion.correction.reference=gelu", r"conversion.correction.reference: unknown name 'gelu'"),
        ("conversion.correction.decay=1", r"conversion.correction.decay must be in \[0, 1\); got 1"),
        ("conversion.correction.rate=0", r"conversion.correction.rate must be positive; got 0"),
        ("conversion.balance=global", r"conversion.balance: unknown name 'global'"),
        (
            "conversion.balance=local",
            r"conversion.balance needs neuron=integrate_fire; got para_inf_channelwise",
        ),
        ("conversion.offsets=step", r"conversion.offsets: unknown name 'step'; did you mean 'steps'"),
        (
            "conversion.offsets=steps",
            r"conversion.offsets needs neuron=integrate_fire; got para_inf_channelwise",
        ),
        ("neuron=para_inf", r"neuron=para_inf needs quantization=qcfs; got da_qcfs"),
        ("execution=stepwise", r"neuron=para_inf_channelwise needs all T steps at once"),
    ],
)
def test_refused_before_any_work(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        composed("train", FREE, override)
