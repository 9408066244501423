"""The experiments of the folder: their first lines, and that each runs on a few rows of files at hand."""

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
SST2: Said = {"dataset.data_dir": SHARED / "sst2"}
MRPC: Said = {"dataset.data_dir": SHARED / "mrpc"}
DATA = {"sst2": SST2, "mrpc": MRPC}
IMDB: Said = {"dataset.data_dir": SHARED / "imdb_subset"}
#: Ten classes for a hundred, and small pictures for large ones.
TEN: Said = {"dataset": "cifar10", **CIFAR}
SMALL: Said = {**CIFAR, "dataset.image_size": "32", "dataset.resize": "null", "training.workers": "0"}
VGG: Said = {"model.args.widths": "[8,8,16,16,16]", "model.args.hidden_size": "64"}
RESNET: Said = {"model.args.widths": "[8,8,16,16]", "model.args.blocks": "[1,1,1,1]"}
VIT: Said = {"model.args.options": "{depth: 1, embed_dim: 24, num_heads: 2, patch_size: 8}"}
UNTRAINED: Said = {**SMALL, "model.weights": "null"}
#: Networks that spike by themselves: small ones, on small pictures and made-up recordings.
PICTURES: Said = {"dataset": "digits", "dataset.image_size": "32", "dataset.channels": "3"}
RECORDINGS: Said = {"dataset": "synthetic_events", "T": "3"}
WIDTH: Said = {"model.args.embed_dim": "32", "model.args.num_heads": "2"}
TINY: Said = {**WIDTH, "model.args.depth": "1"}
#: SpikingBERT learns from MiniLM as it is, or after a few rows of the task.
STUDENT: Said = {"model.args.hidden_size": "24", "model.args.num_hidden_layers": "2", "T": "3"}
LESSON: Said = {**STUDENT, "distillation.teacher": "minilm"}
TAUGHT = "MiniLM after a few rows"
PLAIN = "{train: valid, validation: null, test: test}"
#: What the command of each is told besides its name: files of the user's own, what needs no network, and smaller sizes.
RUN: dict[str, Said] = {
    "parainf_bert_agnews": {"dataset": "trec", **TREC},
    "parainf_bert_cola": {"dataset.data_dir": SHARED / "cola"},
    "parainf_bert_imdb": IMDB,
    "parainf_bert_rotten_tomatoes": {},
    "parainf_bert_sst2": SST2,
    "parainf_distilbert_imdb": IMDB,
    "parainf_resnet20_cifar10": CIFAR,
    "parainf_resnet20_cifar100": TEN,
    "parainf_resnet20_imagenet": SMALL,
    "parainf_resnet20_mnist5k": {},
    "parainf_resnet34_cifar10": {**CIFAR, **RESNET},
    "parainf_resnet34_cifar100": {**TEN, **RESNET},
    "parainf_resnet34_imagenet": {**SMALL, **RESNET},
    "parainf_vgg16_cifar10": {**CIFAR, **VGG},
    "parainf_vgg16_cifar100": {**TEN, **VGG},
    "parainf_vgg16_imagenet": {**SMALL, **VGG},
    "qkformer_cifar10": {**PICTURES, **WIDTH},
    "qkformer_cifar100": {**PICTURES, **WIDTH},
    "qkformer_cifar10dvs": {**RECORDINGS, **WIDTH},
    "qkformer_gesture": {**RECORDINGS, **WIDTH},
    "qkformer_imagenet": {**PICTURES, **WIDTH},
    "sdt_cifar10": {**PICTURES, **TINY},
    "sdt_cifar100": {**PICTURES, **TINY},
    "sdt_cifar10dvs": {**RECORDINGS, **TINY},
    "sdt_gesture": {**RECORDINGS, **TINY},
    "sdt_imagenet": {**PICTURES, **TINY},
    "spikezip_bert_trec": TREC,
    "spikezip_roberta_mrpc": {"model": "roberta", **MRPC},
    "spikezip_roberta_sst2": {"model": "roberta", **SST2},
    "spikezip_vit_base_imagenet": {**UNTRAINED, **VIT},
    "spikezip_vit_large_imagenet": {**UNTRAINED, **VIT},
    "spikezip_vit_micro_cifar10": CIFAR,
    "spikezip_vit_micro_mnist": {"dataset.data_dir": SHARED / "mnist"},
    "spikezip_vit_small_imagenet": {**UNTRAINED, **VIT},
    "spikezip_vit_tiny_imagenet": {**UNTRAINED, **VIT},
    "spikformer_cifar10": {**PICTURES, **TINY},
    "spikformer_cifar100": {**PICTURES, **TINY},
    "spikformer_cifar10dvs": {**RECORDINGS, **TINY},
    "spikformer_imagenet": {**PICTURES, **TINY},
    "spikingbert_all_sst2": {
        **SST2,
        **STUDENT,
        "distillation.teacher": TAUGHT,
        "training.general.dataset.data_dir": SHARED / "wikitext2",
        "training.general.dataset.splits": PLAIN,
    },
    "spikingbert_general_wikitext": {
        "dataset.data_dir": SHARED / "wikitext2",
        "dataset.splits": PLAIN,
        **LESSON,
    },
    "spikingbert_layers_mrpc": {**MRPC, **LESSON},
    "spikingbert_layers_sst2": {**SST2, **LESSON},
    "spikingbert_logits_mrpc": {**MRPC, **STUDENT, "distillation.teacher": TAUGHT},
    "spikingbert_logits_sst2": {**SST2, **STUDENT, "distillation.teacher": TAUGHT},
    "tim_cifar10dvs": {**RECORDINGS, **TINY},
    "tim_gesture": {**RECORDINGS, **TINY},
    "training_free_efficientnet_lite0": {
        "dataset.data_dir": SHARED / "cifar10",
        "dataset.image_size": "32",
        "T": "4",
    },
    "training_free_resnet101_imagenet": {**UNTRAINED, "model.args.name": "test_resnet"},
    "training_free_resnet20_cifar10": {
        "dataset.data_dir": SHARED / "cifar10",
        "model.weights": SHARED / "weights" / "resnet20_cifar10.safetensors",
    },
    "training_free_resnet34_imagenet": {**UNTRAINED, "model.args.name": "test_resnet"},
    "training_free_resnet50_imagenet": {**UNTRAINED, "model.args.name": "test_resnet"},
}


def name_of(path: Path) -> str:
    return path.relative_to(CONF / "experiment").with_suffix("").as_posix()


@pytest.mark.parametrize("path", EXPERIMENTS, ids=name_of)
def test_the_command_stands_in_the_first_comment(path: Path) -> None:
    first = path.read_text("utf-8").splitlines()[:4]
    assert any(line.startswith("#") and f"experiment={name_of(path)}" in line for line in first)


@pytest.mark.parametrize("name", [name_of(path) for path in EXPERIMENTS])
def test_an_experiment_runs_in_seconds(name: str, tmp_path: Path) -> None:
    for said in RUN[name].values():
        if isinstance(said, Path) and not said.exists():
            pytest.skip(f"no data at {said}")
    told = {"experiment": name, **RUN[name]}
    if told.get("distillation.teacher") == TAUGHT:
        dataset = name.rpartition("_")[2]
        tiny("teacher", {"dataset": dataset, **DATA[dataset], "training.stages": "[float]"}, tmp_path)
        told["distillation.teacher"] = tmp_path / "teacher"
    tiny("run", told, tmp_path)


def tiny(name: str, said: Said, folder: Path) -> None:
    """Train on a few rows, in ``folder / name``."""
    run = folder / name
    script = Script(
        "train",
        [
            *(f"{k}={v}" for k, v in said.items()),
            "debug=tiny",
            f"hydra.run.dir={run}",
            "device=cpu",
            "threads=1",
        ],
        folder / f"{name}_out",
    )
    assert script.wait() == 0, script.err
    assert script.errors == []
    assert read_json(run / "summary.json")["status"] == "finished"
    assert (run / "report.md").exists()
