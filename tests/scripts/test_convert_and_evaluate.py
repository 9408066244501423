"""``convert.py`` and ``evaluate.py`` on a run of ``train.py``; sweeps; what is refused."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from snn.conversion.checkpoint import load_checkpoint, read_description
from snn.conversion.network import SpikingNetwork
from snn.conversion.quantize import quantizers
from snn.data.schema import DatasetConfig
from snn.errors import CheckpointError, ConfigError, ConversionError, SNNError
from snn.evaluation.jobs import convert_checkpoint, evaluate_checkpoint
from snn.tracking.files import read_json
from snn.training.experiment import run
from tests.scripts.composing import composed
from tests.scripts.processes import Script

Run = tuple[Path, float]
SMALL = ["debug=tiny", "device=cpu", "threads=1"]


def test_conversion_to_another_neuron_and_T(text_run: Run, tmp_path: Path) -> None:
    config = composed("convert", f"checkpoint={text_run[0]}", "neuron=integrate_fire", "T=9", *SMALL)
    convert_checkpoint(config, tmp_path)
    network = load_checkpoint(tmp_path / "checkpoint")
    assert isinstance(network, SpikingNetwork)
    assert network.T == 9
    assert {type(n).__name__ for n in network.neurons.values()} == {"IntegrateFire"}
    # Levels follow T, and so do the thresholds that are set anew for them.
    quantized = load_checkpoint(tmp_path / "checkpoint", spiking=False)
    assert {q.levels for q in quantizers(quantized).values()} == {9}
    assert {n.qmax for n in network.neurons.values()} == {9}
    before = quantizers(load_checkpoint(text_run[0], spiking=False))
    after = quantizers(quantized)
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[k].threshold, after[k].threshold) for k in before)
    summary = read_json(tmp_path / "summary.json")
    assert (summary["T"], summary["neuron"]) == (9, "integrate_fire")
    assert summary["lineage"]["parents"] == [str(text_run[0])]
    text = (tmp_path / "conversion.md").read_text()
    assert "## Verification" in text
    assert "qcfs 9" in text or "qcfs ±9" in text


def test_fixed_thresholds_are_kept(image_run: Run, tmp_path: Path) -> None:
    config = composed("convert", f"checkpoint={image_run[0]}", "T=2", "conversion.thresholds=fixed", *SMALL)
    convert_checkpoint(config, tmp_path)
    before = quantizers(load_checkpoint(image_run[0], spiking=False))
    after = quantizers(load_checkpoint(tmp_path / "checkpoint", spiking=False))
    assert {q.levels for q in after.values()} == {2}
    assert all(torch.equal(before[k].threshold, after[k].threshold) for k in before)


@pytest.mark.parametrize(("thresholds", "kept"), [("follow", False), ("fixed", True)])
def test_training_on_a_quantised_checkpoint_follows_T_too(
    image_run: Run, tmp_path: Path, thresholds: str, kept: bool
) -> None:
    said = ["model=resnet20", "dataset=digits", "T=8", f"conversion.thresholds={thresholds}"]
    stages = ["training.stages=[quantized,convert,evaluate]", "training.quantized.epochs=0"]
    run(composed("train", f"checkpoint={image_run[0]}", *said, *stages, *SMALL), tmp_path)
    before = quantizers(load_checkpoint(image_run[0], spiking=False))
    after = quantizers(load_checkpoint(tmp_path / "stages" / "quantized"))
    assert {q.levels for q in before.values()} == {4}
    assert {q.levels for q in after.values()} == {8}
    assert all(torch.equal(before[k].threshold, after[k].threshold) for k in before) is kept
    verification = read_json(tmp_path / "summary.json")["verification"]
    assert verification["exact"]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("evaluate", "quantization.levels=2"),
        ("evaluate", "quantization=lsq"),
        ("train", "quantization.granularity=tensor"),
        ("train", "quantization.threshold=2.0"),
    ],
)
def test_a_quantised_checkpoint_has_its_quantisers(
    image_run: Run, tmp_path: Path, script: str, said: str
) -> None:
    """What would change nothing is refused, not written into the run's config."""
    stages = ["model=resnet20", "dataset=digits", "training.stages=[convert]"] if script == "train" else []
    arguments = [f"checkpoint={image_run[0]}", said, *stages, *SMALL, f"hydra.run.dir={tmp_path}/run"]
    found = Script(script, arguments, tmp_path / "out")
    assert found.wait() == 1
    assert f"is quantised already (qcfs); leave out {said}" in found.err


def test_training_goes_on_with_the_data_of_the_checkpoint_or_with_what_is_said(
    image_run: Run, tmp_path: Path
) -> None:
    """Not with the data set that the script has by default."""
    stages = ["model=resnet20", "training.stages=[convert]", "conversion.verify=false"]
    arguments = [f"checkpoint={image_run[0]}", *stages, *SMALL]
    unsaid = Script("train", [*arguments, f"hydra.run.dir={tmp_path}/unsaid"], tmp_path / "out")
    assert unsaid.wait() == 1
    assert "was trained on digits, and no data set is given: dataset=from_checkpoint goes on" in unsaid.err
    said = [*arguments, "dataset=from_checkpoint", f"hydra.run.dir={tmp_path}/said"]
    assert Script("train", said, tmp_path / "out").wait() == 0
    assert read_description(tmp_path / "said" / "checkpoint")["about"]["dataset"]["name"] == "digits"


def test_a_quantised_checkpoint_has_no_float_stage(image_run: Run, tmp_path: Path) -> None:
    said = ["model=resnet20", "dataset=digits", "training.stages=[float,evaluate]"]
    with pytest.raises(ConfigError, match="float trains a network without quantisers"):
        run(composed("train", f"checkpoint={image_run[0]}", *said, *SMALL), tmp_path)


def test_what_is_said_about_the_neuron_of_a_checkpoint_holds(text_run: Run, tmp_path: Path) -> None:
    saved = read_description(text_run[0] / "checkpoint")["neuron"]
    assert saved["order"] == "early"
    config = composed("convert", f"checkpoint={text_run[0]}", "+neuron.order=late", *SMALL)
    convert_checkpoint(config, tmp_path)
    assert read_description(tmp_path / "checkpoint")["neuron"] == saved | {"order": "late"}


def test_conversion_leaves_its_parent_alone(text_run: Run, tmp_path: Path) -> None:
    before = {p: p.read_bytes() for p in (text_run[0] / "checkpoint").iterdir()}
    convert_checkpoint(composed("convert", f"checkpoint={text_run[0]}", "T=2", *SMALL), tmp_path)
    assert {p: p.read_bytes() for p in (text_run[0] / "checkpoint").iterdir()} == before


def test_the_checkpoint_decides_what_is_not_said(text_run: Run, tmp_path: Path) -> None:
    convert_checkpoint(composed("convert", f"checkpoint={text_run[0]}", *SMALL), tmp_path)
    ours, theirs = (read_description(folder / "checkpoint") for folder in (tmp_path, text_run[0]))
    assert ours["neuron"] == theirs["neuron"]
    assert ours["about"]["dataset"] == theirs["about"]["dataset"] | {
        f"limit_{split}": {"train": 48}.get(split, 16) for split in ("train", "validation", "test")
    }


@pytest.mark.parametrize(("said", "same"), [(["dataset.max_length=128"], False), ([], True)])
def test_a_default_that_is_said_holds(text_run: Run, tmp_path: Path, said: list[str], same: bool) -> None:
    """On the command line of the script, although the config is then the same as if nothing were said."""
    trained = read_description(text_run[0] / "checkpoint")["about"]["dataset"]["max_length"]
    assert trained < DatasetConfig().max_length == 128
    few = ["device=cpu", "threads=1", "evaluation.limit=1", "evaluation.ann=false", "conversion.verify=false"]
    arguments = [f"checkpoint={text_run[0]}", *said, *few, f"hydra.run.dir={tmp_path}/run"]
    script = Script("evaluate", arguments, tmp_path / "out")
    assert script.wait() == 0, script.err
    ours, theirs = (read_json(f / "summary.json")["lineage"] for f in (tmp_path / "run", text_run[0]))
    assert (ours["data_fingerprint"] == theirs["data_fingerprint"]) is same


def test_a_converted_checkpoint_is_a_checkpoint(text_run: Run, tmp_path: Path) -> None:
    """Converted, converted again, measured: at the levels of the parent nothing has changed."""
    convert_checkpoint(composed("convert", f"checkpoint={text_run[0]}", *SMALL), tmp_path / "a")
    convert_checkpoint(composed("convert", f"checkpoint={tmp_path}/a", *SMALL), tmp_path / "b")
    one, two = (load_checkpoint(tmp_path / name, spiking=False).state_dict() for name in "ab")
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_evaluation_gives_the_figures_of_the_run(text_run: Run, tmp_path: Path) -> None:
    """On the same rows: the whole test split of the run, in other batches."""
    folder, accuracy = text_run
    config = composed("evaluate", f"checkpoint={folder}", "training.eval_batch_size=7", "device=cpu")
    assert evaluate_checkpoint(config, tmp_path) == pytest.approx(accuracy)
    ours, theirs = (read_json(f / "summary.json")["results"] for f in (tmp_path, folder))
    for name in ("quantized", "spiking"):
        assert ours[name]["samples"] == theirs[name]["samples"]
        assert ours[name]["metrics"] == pytest.approx(theirs[name]["metrics"], rel=1e-4)
    assert ours["spiking"]["spike_rate"] == pytest.approx(theirs["spiking"]["spike_rate"], rel=1e-4)
    assert ours["spiking"]["agreement"] == theirs["spiking"]["agreement"]


def test_other_levels_than_T_are_measured_as_they_were_trained(
    images: list[str], train: Callable[..., Run], tmp_path: Path
) -> None:
    """train.py keeps the levels that it was told, and so does evaluate.py at the same T."""
    folder, accuracy = train(*images, "T=8", "quantization.levels=4", "conversion.thresholds=fixed")
    found = evaluate_checkpoint(composed("evaluate", f"checkpoint={folder}", "device=cpu"), tmp_path)
    assert found == pytest.approx(accuracy)
    ours, theirs = (read_json(f / "summary.json")["results"] for f in (tmp_path, folder))
    assert ours["quantized"]["metrics"] == pytest.approx(theirs["quantized"]["metrics"])
    levels = {q.levels for q in quantizers(load_checkpoint(folder, spiking=False)).values()}
    assert levels == {4}


def test_a_float_stage_is_quantised_on_the_way(text_run: Run, tmp_path: Path) -> None:
    config = composed(
        "evaluate",
        f"checkpoint={text_run[0]}/stages/float",
        "model=bert_tiny",
        "neuron=para_inf",
        "T=8",
        "quantization.levels=8",
        *SMALL,
    )
    evaluate_checkpoint(config, tmp_path)
    results = read_json(tmp_path / "summary.json")["results"]
    assert results["spiking"]["agreement"]["same_prediction"] == results["spiking"]["agreement"]["samples"]


@pytest.mark.parametrize("job", ["convert", "evaluate"])
@pytest.mark.parametrize(
    ("overrides", "kind", "expected"),
    [
        (["checkpoint={nowhere}"], CheckpointError, "checkpoint=.*: no such folder"),
        (["checkpoint={run}/figures"], CheckpointError, "no model.yaml here or in checkpoint/"),
        (
            ["checkpoint={run}", "neuron=st_bif"],
            ConfigError,
            "neuron=st_bif needs quantization=lsq; got qcfs",
        ),
        (["checkpoint={run}/stages/float", "neuron=para_inf", "T=4"], ConversionError, "without quantisers"),
        (["checkpoint={run}/stages/quantized", "T=4"], ConfigError, "give neuron="),
        (["checkpoint={run}/stages/quantized", "neuron=para_inf"], ConfigError, "so it has no T; give T="),
        (
            ["checkpoint={run}", "dataset=digits"],
            ConfigError,
            "dataset=digits has 10 classes, but the checkpoint has 2",
        ),
    ],
)
def test_what_is_refused(
    text_run: Run, tmp_path: Path, job: str, overrides: list[str], kind: type[SNNError], expected: str
) -> None:
    places = {"run": text_run[0], "nowhere": tmp_path / "nowhere"}
    config = composed(job, *(o.format(**places) for o in overrides), *SMALL)
    work = {"convert": convert_checkpoint, "evaluate": evaluate_checkpoint}[job]
    with pytest.raises(kind, match=expected) as error:
        work(config, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert read_json(tmp_path / "out" / "summary.json")["status"] == "failed"
    assert not (tmp_path / "out" / "checkpoint").exists()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda f: cut(f / "model.safetensors"), "model.safetensors cannot be read"),
        (lambda f: (f / "model.yaml").write_text("format: ["), "model.yaml cannot be read"),
        (lambda f: replace(f, "name: bert\n", "name: brt\n"), "unknown name 'brt'; did you mean 'bert'"),
        (lambda f: replace(f, "neuron: para_inf", "neuron: parainf"), "unknown name 'parainf'"),
        (lambda f: replace(f, "model:\n", "model:\n  _target_: os.system\n"), "'_target_' is not allowed"),
        (lambda f: (f / "tokenizer_config.json").unlink(), "holds no tokenizer"),
    ],
)
def test_damaged_checkpoints(
    text_run: Run, tmp_path: Path, damage: Callable[[Path], object], expected: str
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(text_run[0] / "checkpoint", folder)
    damage(folder)
    config = composed("convert", f"checkpoint={folder}", *SMALL)
    with pytest.raises(SNNError, match=expected) as error:
        convert_checkpoint(config, tmp_path / "out")
    assert "\n" not in str(error.value)


def replace(folder: Path, old: str, new: str) -> None:
    path = folder / "model.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("job", ["train", "convert", "evaluate"])
def test_the_plan_is_printed_and_nothing_done(
    text_run: Run, text: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], job: str
) -> None:
    if job == "train":
        from snn.training.experiment import run

        assert run(composed("train", *text, "plan=true"), tmp_path) == 0.0
    else:
        work = {"convert": convert_checkpoint, "evaluate": evaluate_checkpoint}[job]
        work(composed(job, f"checkpoint={text_run[0]}", "plan=true", *SMALL), tmp_path)
    out = capsys.readouterr().out
    assert "bert.encoder.layer.{0..1}\n" in out
    assert "attention.self.query" in out
    assert "softmax" in out
    assert not (tmp_path / "checkpoint").exists()
    assert not (tmp_path / "stages").exists()
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def jobs(sweep: Path) -> list[dict]:
    with (sweep / "results.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_a_sweep_over_T_and_neurons_ends_in_one_report(text_run: Run, tmp_path: Path) -> None:
    script = Script(
        "evaluate",
        ["-m", f"checkpoint={text_run[0]}", "T=2,4", "neuron=para_inf,integrate_fire"]
        + [f"paths.multirun={tmp_path / 'multirun'}", *SMALL],
        tmp_path / "out",
    )
    assert script.wait() == 0, script.err
    assert script.errors == []
    (sweep,) = (tmp_path / "multirun" / "evaluate").iterdir()  # where a sweep lands if nobody says where
    found = {}
    for index in range(4):
        summary = read_json(sweep / str(index) / "summary.json")
        assert summary["status"] == "finished"
        found[summary["neuron"], summary["T"]] = summary["results"]["spiking"]["metrics"]["accuracy"]
    assert len(found) == 4
    rows = jobs(sweep)
    measured = {(row["neuron"], int(row["T"])): float(row["spiking"]) for row in rows}
    assert measured == pytest.approx(found)
    report = (sweep / "report.md").read_text()
    assert "para_inf" in report
    assert "integrate_fire" in report
    assert list((sweep / "figures").glob("*.png"))
    for value in found.values():
        assert f"{value:.4f}" in report
    assert "Report:" in script.out


def test_one_failing_job_does_not_stop_the_others(text_run: Run, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    script = Script(
        "evaluate",
        ["-m", f"checkpoint={text_run[0]}", "neuron=st_bif,para_inf", f"hydra.sweep.dir={sweep}", *SMALL],
        tmp_path / "out",
    )
    assert script.wait() == 1
    assert "Traceback" not in script.out + script.err
    statuses = [read_json(sweep / str(i) / "summary.json")["status"] for i in range(2)]
    assert statuses == ["failed", "finished"]
    report = (sweep / "report.md").read_text()
    assert "neuron=st_bif needs quantization=lsq; got qcfs" in report
    assert "neuron=st_bif needs quantization=lsq; got qcfs" in script.out + script.err
