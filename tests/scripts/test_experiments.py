"""The experiments of the folder: their first lines, and one of each kind runs on a few rows of files at hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from snn.launch import CONF
from snn.tracking.files import read_json
from tests.scripts.processes import Script

EXPERIMENTS = sorted((CONF / "experiment").rglob("*.yaml"))
SHARED = CONF.parents[1] / "shared" / "data"
Said = dict[str, str | Path]
TREC: Said = {"dataset.data_dir": SHARED / "trec"}
CIFAR: Said = {
    "dataset.data_dir": SHARED / "cifar10",
    "dataset.splits.train": "train_jpeg_0",
    "dataset.splits.test": "test_jpeg",
}
#: Small pictures for large ones.
SMALL: Said = {**CIFAR, "dataset.image_size": "32", "dataset.resize": "null", "training.workers": "0"}
#: Networks that spike by themselves: small ones, on small pictures and made-up recordings.
PICTURES: Said = {"dataset": "digits", "dataset.image_size": "32", "dataset.channels": "3"}
RECORDINGS: Said = {"dataset": "synthetic_events", "T": "3"}
WIDTH: Said = {"model.args.embed_dim": "32", "model.args.num_heads": "2"}
TINY: Said = {**WIDTH, "model.args.depth": "1"}
#: One of each kind, and what its command is told besides its name: files of the user's own, and what needs no network.
RUN: dict[str, Said] = {
    "parainf_bert_agnews": {"dataset": "trec", **TREC},
    "parainf_bert_cola": {"dataset.data_dir": SHARED / "cola"},
    "parainf_distilbert_imdb": {"dataset.data_dir": SHARED / "imdb_subset"},
    "parainf_resnet20_cifar10": CIFAR,
    "parainf_resnet20_mnist5k": {},
    "parainf_vgg16_imagenet": {
        **SMALL,
        "model.args.widths": "[8,8,16,16,16]",
        "model.args.hidden_size": "64",
    },
    "qkformer_imagenet": {**PICTURES, **WIDTH},
    "sdt_gesture": {**RECORDINGS, **TINY},
    "spikezip_bert_trec": TREC,
    "spikezip_roberta_mrpc": {"model": "roberta", "dataset.data_dir": SHARED / "mrpc"},
    "spikezip_vit_micro_mnist": {"dataset.data_dir": SHARED / "mnist"},
    "spikformer_cifar10": {**PICTURES, **TINY},
    "tim_cifar10dvs": {**RECORDINGS, **TINY},
    "training_free_resnet20_cifar10": {
        "dataset.data_dir": SHARED / "cifar10",
        "model.weights": SHARED / "weights" / "resnet20_cifar10.safetensors",
    },
    "training_free_resnet50_imagenet": {
        **SMALL,
        "model.weights": "null",
        "model.args.name": "test_resnet",
    },
}


def name_of(path: Path) -> str:
    return path.relative_to(CONF / "experiment").with_suffix("").as_posix()


@pytest.mark.parametrize("path", EXPERIMENTS, ids=name_of)
def test_the_command_stands_in_the_first_comment(path: Path) -> None:
    first = path.read_text("utf-8").splitlines()[:4]
    assert any(line.startswith("#") and f"experiment={name_of(path)}" in line for line in first)


@pytest.mark.parametrize("name", RUN)
def test_an_experiment_runs_in_seconds(name: str, tmp_path: Path) -> None:
    for said in RUN[name].values():
        if isinstance(said, Path) and not said.exists():
            pytest.skip(f"no data at {said}")
    folder = tmp_path / "run"
    script = Script(
        "train",
        [
            f"experiment={name}",
            *(f"{k}={v}" for k, v in RUN[name].items()),
            "debug=tiny",
            f"hydra.run.dir={folder}",
            "device=cpu",
            "threads=1",
        ],
        tmp_path / "out",
    )
    assert script.wait() == 0, script.err
    assert script.errors == []
    assert read_json(folder / "summary.json")["status"] == "finished"
    assert (folder / "report.md").exists()
