"""Three stages of distillation at a tiny size: one by one, in a row, killed and resumed; and what is refused."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import snn
from snn.data.builtin import synthetic_text
from snn.errors import ConfigError
from snn.models.tokenizer import load_tokenizer
from snn.tracking.files import read_json, read_metrics
from snn.training.experiment import run
from snn.training.resume import read_progress
from tests.scripts.composing import composed
from tests.scripts.conftest import Train
from tests.scripts.processes import Script

STUDENT = [
    "model=spikingbert",
    "model.args.hidden_size=8",
    "model.args.num_hidden_layers=1",
    "model.args.num_attention_heads=2",
    "model.args.intermediate_size=12",
    "optimizer=bert_adam",
    "optimizer.lr=1e-3",
    "debug=tiny",
    "device=cpu",
    "threads=1",
    "T=3",
]
ROW = [
    "training.stages=[general,layers,logits,evaluate]",
    "dataset=synthetic_text",
    "training.general.dataset.max_length=24",
    "training.general.dataset.limit_train=32",
    "training.general.dataset.limit_validation=8",
    "training.general.dataset.limit_test=8",
    "training.batch_size=4",
    "training.save_every=2",
    "training.log_every=1",
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The words of the synthetic texts, as documents of five lines."""
    texts = synthetic_text().tables["train"].columns["text"][:300]
    path = tmp_path_factory.mktemp("corpus") / "words.txt"
    path.write_text("\n\n".join("\n".join(texts[i : i + 5]) for i in range(0, 300, 5)))
    return path


@pytest.fixture(scope="module")
def teacher(train: Train, text: list[str]) -> Path:
    """A float BERT of two layers."""
    return train(*text, "training.stages=[float]", "model.args.num_hidden_layers=2")[0]


@pytest.fixture(scope="module")
def student(tokenizer_folder: Path, teacher: Path) -> list[str]:
    return [*STUDENT, f"model.tokenizer={tokenizer_folder}", f"distillation.teacher={teacher}"]


@pytest.fixture(scope="module")
def general(student: list[str], corpus: Path) -> list[str]:
    """Overrides: the first stage by itself."""
    return [*student, "distillation=general", "dataset=corpus", f"dataset.data_dir={corpus}"]


@pytest.fixture(scope="module")
def row(student: list[str], corpus: Path) -> list[str]:
    """Overrides: all stages in a row."""
    return [
        *student,
        *(s for s in ROW if not s.startswith("training.general.dataset")),
        "distillation=logits",
        "+dataset@training.general.dataset=corpus",
        f"training.general.dataset.data_dir={corpus}",
        *(s for s in ROW if s.startswith("training.general.dataset")),
        "+distillation@training.general.distillation=general",
        "+distillation@training.layers.distillation=layers",
        "training.general.distillation.teacher=${distillation.teacher}",
        "training.layers.distillation.teacher=${distillation.teacher}",
        "+scheduler@training.layers.scheduler=constant",
    ]


def about(checkpoint: Path) -> dict:
    return yaml.safe_load((checkpoint / "model.yaml").read_text())["about"]


def test_each_stage_as_a_command_of_its_own(
    train: Train, student: list[str], general: list[str], teacher: Path
) -> None:
    first, loss = train(*general, "training.stages=[general,evaluate]")
    summary = read_json(first / "summary.json")
    found = summary["distillation"]
    assert (found["stage"], found["split"]) == ("general", "test")
    assert found["loss"] == pytest.approx(found["hidden"] + found["attention"])
    assert summary["validation"]["general"] == {"loss": loss, "epoch": 1}
    assert summary.get("results", {}) == {}  # nothing is said of a head that nobody trained
    report = (first / "report.md").read_text()
    assert "## Distance from the teacher" in report
    assert "accuracy" not in report
    assert snn.load(first).classifier.out_features == 1

    task = [*student, "dataset=synthetic_text"]
    second, _ = train(
        *task, "distillation=layers", "training.stages=[layers,evaluate]", f"checkpoint={first}"
    )
    parent = about(second / "checkpoint")["parent"]
    assert parent["checkpoint"] == str(first / "checkpoint")
    assert parent["config_hash"] == summary["lineage"]["config_hash"]
    # The adapter goes on where the first stage left it; the network itself has none.
    assert (first / "checkpoint" / "adapter.safetensors").exists()
    assert not any("adapter" in name for name in load_file(second / "checkpoint" / "model.safetensors"))
    assert snn.load(second).classifier.out_features == 2

    third, accuracy = train(
        *task, "distillation=logits", "training.stages=[logits,evaluate]", f"checkpoint={second}"
    )
    summary = read_json(third / "summary.json")
    assert summary["results"]["spiking"]["metrics"]["accuracy"] == accuracy
    assert about(third / "checkpoint")["parent"]["checkpoint"] == str(second / "checkpoint")
    assert "distillation" not in summary


@pytest.fixture(scope="module")
def unbroken(row: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    run(composed("train", *row), folder)
    return folder


def test_all_stages_in_a_row(unbroken: Path) -> None:
    summary = read_json(unbroken / "summary.json")
    assert list(summary["validation"]) == ["general", "layers", "logits"]
    assert set(summary["results"]) == {"spiking"}
    assert len(summary["results"]["spiking"]["per_timestep"]["accuracy"]) == 3
    assert [layer["name"] for layer in summary["layers"]][::6] == ["embedding", "layers.0.output"]
    assert all(0 <= layer["rate"] <= 1 for layer in summary["layers"])
    assert (unbroken / "figures" / "spike_rate_per_layer.png").exists()
    stages = unbroken / "stages"
    assert about(stages / "layers")["parent"]["checkpoint"] == str(stages / "general")
    assert about(stages / "logits")["parent"]["checkpoint"] == str(stages / "layers")
    assert [about(stages / s)["dataset"]["name"] for s in ("general", "layers")] == [
        "corpus",
        "synthetic_text",
    ]
    before, after = (load_file(stages / s / "model.safetensors") for s in ("general", "layers"))
    assert not torch.equal(before["layers.0.key.weight"], after["layers.0.key.weight"])
    # Nothing in the first two stages trains the head.
    assert torch.equal(before["classifier.weight"], after["classifier.weight"])


def test_a_kill_in_the_second_stage_changes_nothing(
    row: list[str], unbroken: Path, tmp_path: Path, student: list[str]
) -> None:
    folder = tmp_path / "run"
    script = Script("train", [*row, f"hydra.run.dir={folder}"], tmp_path / "1")
    script.wait_for_line(folder / "metrics.jsonl", "layers/train/loss", 13)
    os.kill(script.pid, signal.SIGKILL)
    assert script.wait() == -signal.SIGKILL
    progress = read_progress(folder / "resume")
    assert progress is not None
    assert (progress["stage"], progress["batch"] % 12 > 0) == ("layers", True)
    run(composed("train", f"resume={folder}"), folder)
    for name in ("general", "layers", "logits"):
        ours, theirs = (load_file(f / "stages" / name / "model.safetensors") for f in (folder, unbroken))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), name
    ours, theirs = (
        [
            line["layers/train/loss"]
            for line in read_metrics(f / "metrics.jsonl")
            if "layers/train/loss" in line
        ]
        for f in (folder, unbroken)
    )
    assert ours == theirs
    assert read_json(folder / "summary.json")["results"] == read_json(unbroken / "summary.json")["results"]


def test_a_student_of_another_family_and_width(train: Train, text: list[str], teacher: Path) -> None:
    """An ordinary BERT, narrower than its teacher, then quantised and converted; labels count as well."""
    folder, _ = train(
        *text,
        "T=2",
        "model.args.hidden_size=8",
        "model.args.num_hidden_layers=1",
        "distillation=layers",
        "distillation.layers=[2]",
        "distillation.adapter=each",
        "distillation.logits=1.0",
        "training.float.distill=0.5",
        "training.quantized.distill=0.5",
        f"distillation.teacher={teacher}",
    )
    results = read_json(folder / "summary.json")["results"]
    assert {"float", "quantized", "spiking"} <= set(results)


def test_a_student_that_starts_from_its_teacher(train: Train, student: list[str], teacher: Path) -> None:
    task = [*student, "dataset=synthetic_text", "distillation=layers", "training.stages=[layers]"]
    task += [
        "model.args.hidden_size=16",
        "model.args.intermediate_size=24",
        "model.args.vocab_size=200",
        "model.args.max_position_embeddings=24",
    ]
    folder, _ = train(*task, "distillation.start=true", "training.layers.epochs=0")
    ours = load_file(folder / "checkpoint" / "model.safetensors")
    theirs = load_file(teacher / "stages" / "float" / "model.safetensors")
    assert torch.equal(ours["layers.0.key.weight"], theirs["bert.encoder.layer.1.attention.self.key.weight"])
    assert torch.equal(ours["embeddings.words.weight"], theirs["bert.embeddings.word_embeddings.weight"])


def test_outputs_kept_on_disk_make_no_difference(
    train: Train, student: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = [*student, "dataset=synthetic_text", "distillation=layers", "training.stages=[layers]"]
    _, plain = train(*task, "training.layers.epochs=2")
    caplog.set_level("INFO")
    kept = [*task, "training.layers.epochs=2", "distillation.cache=true", f"paths.cache={tmp_path}"]
    _, first = train(*kept)
    assert caplog.text.count("the teacher's outputs take") == 1
    _, second = train(*kept)
    assert caplog.text.count("the teacher's outputs take") == 1  # they were there already
    assert first == second == pytest.approx(plain, rel=1e-4)


@pytest.fixture
def rows(tmp_path: Path) -> list[str]:
    """Overrides: sixteen texts without labels for the quantised network to learn on, and as many others to judge it."""
    texts = synthetic_text().tables["train"].columns["text"]
    for number, split in enumerate(("train", "validation")):
        lines = ["words", *texts[16 * number : 16 * (number + 1)]]
        (tmp_path / f"{split}.tsv").write_text("\n".join(lines))
    key = "training.quantized.dataset"
    return [
        f"+dataset@{key}=unlabelled",
        f"{key}.data_dir={tmp_path}",
        f"{key}.splits={{train: train, validation: validation, test: validation}}",
        f"{key}.text_fields=[words]",
        f"{key}.max_length=24",
        "training.batch_size=4",
        "training.log_every=1",
    ]


@pytest.mark.parametrize("brought", [False, True])
def test_a_quantised_network_learns_on_texts_without_labels(
    train: Train, text: list[str], rows: list[str], teacher: Path, brought: bool
) -> None:
    """From the float network of its own run, and from a teacher that is brought along."""
    wanted = [f"distillation.teacher={teacher}", "training.float.distill=0"] if brought else []
    folder, _ = train(*text, *rows, *wanted, "training.quantized.distill=1")
    summary = read_json(folder / "summary.json")
    losses = [line for line in read_metrics(folder / "metrics.jsonl") if "quantized/train/loss" in line]
    assert len(losses) == 16 // 4
    assert set(summary["validation"]["quantized"]) == {"loss", "epoch"}
    # What it is for, and is measured on, is the task of the run.
    assert summary["dataset"] == "synthetic_text"
    kept = yaml.safe_load((folder / "stages" / "quantized" / "model.yaml").read_text())
    assert kept["about"]["dataset"]["name"] == "synthetic_text"
    assert kept["about"]["lineage"]["data_fingerprint"] == summary["lineage"]["data_fingerprint"]
    assert kept["labels"] == yaml.safe_load((folder / "checkpoint" / "model.yaml").read_text())["labels"]
    assert len(kept["labels"]) == 2
    assert summary["results"]["quantized"]["samples"] == 16


def test_texts_that_the_run_is_measured_on_are_not_learnt_from(
    train: Train, text: list[str], rows: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    measured = synthetic_text().tables["test"].columns["text"][:3]
    with (tmp_path / "train.tsv").open("a") as file:
        file.write("\n" + "\n".join(measured))
    caplog.set_level("INFO")
    folder, _ = train(
        *text, *rows, "training.quantized.distill=1", "dataset.max_length=24", "dataset.limit_test=null"
    )
    assert (
        "3 of 19 training rows left out: they are in validation or test of synthetic_text too" in caplog.text
    )
    losses = [line for line in read_metrics(folder / "metrics.jsonl") if "quantized/train/loss" in line]
    assert len(losses) == 16 // 4


Refused = Callable[[list[str]], str]


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    def refused(overrides: list[str]) -> str:
        with pytest.raises(ConfigError) as error:
            run(composed("train", *overrides), tmp_path / "run")
        assert "\n" not in str(error.value)
        return str(error.value)

    return refused


def test_a_teacher_with_other_tokens(refused: Refused, student: list[str]) -> None:
    found = refused(
        [*student, "dataset=synthetic_text", "distillation=logits", "distillation.teacher=minilm"]
    )
    assert "distillation.teacher=minilm: its tokenizer (30522 tokens) is not the student's" in found


def test_layers_that_do_not_divide(refused: Refused, student: list[str]) -> None:
    task = [*student, "dataset=synthetic_text", "distillation=layers", "model.args.num_hidden_layers=3"]
    found = refused(task)
    assert "3 layers of the student do not divide the teacher's 2" in found
    assert "model.args.num_hidden_layers of 1, 2" in found


def test_heads_that_differ(refused: Refused, student: list[str]) -> None:
    task = [*student, "dataset=synthetic_text", "distillation=layers", "model.args.num_attention_heads=4"]
    assert "the student has 4 attention heads, the teacher 2" in refused(task)


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_a_teacher_in_the_library_s_own_form(
    train: Train, refused: Refused, student: list[str], tokenizer_folder: Path, tmp_path: Path, family: str
) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    network: Any = snn.create_model(
        family, num_classes=3, vocab_size=200, max_position_embeddings=24, **sizes
    )
    network.save_pretrained(tmp_path / "teacher")
    load_tokenizer(str(tokenizer_folder)).save_pretrained(tmp_path / "teacher")
    task = [*student, "dataset=synthetic_text", f"distillation.teacher={tmp_path / 'teacher'}"]
    folder, loss = train(*task, "distillation=layers", "training.stages=[layers]")
    assert loss > 0
    # With three outputs for two classes it can teach layers, but no predictions.
    found = refused([*task, "distillation=logits"])
    assert "has no head for the 2 classes of dataset=synthetic_text" in found
    assert (folder / "stages" / "layers" / "adapter.safetensors").exists()


def test_nothing_to_learn_from(refused: Refused, student: list[str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    task = [*student, "dataset=synthetic_text", "distillation=logits"]
    assert "neither a run, nor a checkpoint" in refused([*task, f"distillation.teacher={tmp_path / 'empty'}"])
    assert "no file or folder" in refused([*task, "distillation.teacher=./nowhere"])


def test_a_later_stage_without_its_teacher(refused: Refused, row: list[str], tmp_path: Path) -> None:
    found = refused([*row, "training.layers.distillation.teacher=./nowhere"])
    assert "no file or folder './nowhere'" in found
    assert "training.layers.distillation.teacher" in found
    layers = refused([*row, "training.layers.distillation.layers=[5]"])
    assert "training.layers.distillation.layers=[5]" in layers
    everywhere = refused([*row, "distillation.teacher=./nowhere"])
    assert "distillation.teacher" in everywhere
    assert "training" not in everywhere
    assert not (tmp_path / "run" / "stages").exists()  # where the first stage would have left its network


def test_only_spikingbert_starts_from_its_teacher(refused: Refused, text: list[str], teacher: Path) -> None:
    task = [*text, "distillation=logits", "distillation.start=true", f"distillation.teacher={teacher}"]
    assert "distillation.start is for model=spikingbert" in refused([*task, "training.stages=[float]"])


def test_widths_without_an_adapter(refused: Refused, student: list[str]) -> None:
    task = [*student, "dataset=synthetic_text", "distillation=layers", "distillation.adapter=null"]
    assert "the student's is 8 and the teacher's 16" in refused(task)


def test_data_that_are_not_for_the_network(
    refused: Refused, text: list[str], rows: list[str], tmp_path: Path
) -> None:
    key = "training.quantized.dataset"
    assert "dataset=unlabelled has no labels, so training.quantized can only learn from a teacher" in refused(
        [*text, *rows]
    )
    learn = [*text, "training.quantized.distill=1"]
    found = refused([*learn, f"+dataset@{key}=digits"])
    assert f"{key}=digits: image, but dataset=synthetic_text is text" in found
    (tmp_path / "one.tsv").write_text("text\tlabel\n" + "water\tred\nday\tblue\n" * 20)
    found = refused([*learn, f"+dataset@{key}=text_file", f"{key}.data_dir={tmp_path}/one.tsv"])
    assert f"{key}=text_file has other labels than dataset=synthetic_text" in found
    assert f"{key}.task=unlabelled" in found


def test_errors_of_classes_where_there_are_none(refused: Refused, text: list[str], rows: list[str]) -> None:
    by_error = ["training.quantized.distill=1", "distillation.weighting=error"]
    found = refused([*text, *rows, *by_error])
    assert "distillation.weighting=error compares errors of classes; training.quantized learns" in found
    assert "whose task is unlabelled" in found


def test_a_corpus_has_no_labels(refused: Refused, general: list[str]) -> None:
    plain = [o for o in general if not o.startswith("distillation")]
    assert "dataset=corpus has no labels" in refused(plain)
    assert "dataset=corpus has no labels" in refused([*general, "training.native.distill=0.5"])
