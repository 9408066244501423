"""Small runs that several tests look at: trained once, in this process, without Hydra."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from snn.data.schema import DatasetConfig
from tests.scripts.composing import composed


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of the synthetic texts' own words, so that no pretrained one is needed."""
    from snn.data.tokenizer import build_tokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    build_tokenizer(DatasetConfig(name="synthetic_text"), vocabulary_size=200).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def text(tokenizer_folder: Path) -> list[str]:
    """Overrides: a very small BERT with dropout on synthetic texts."""
    return [
        "dataset=synthetic_text",
        "model=bert_tiny",
        f"model.tokenizer={tokenizer_folder}",
        "model.args.vocab_size=200",
        "model.args.hidden_size=16",
        "model.args.intermediate_size=24",
        "model.args.max_position_embeddings=24",
        "debug=tiny",
        "device=cpu",
        "threads=1",
        "optimizer.lr=5e-3",
    ]


@pytest.fixture(scope="session")
def images() -> list[str]:
    """Overrides: a very small ResNet on pictures of 8 x 8."""
    return [
        "dataset=digits",
        "model=resnet20",
        "model.args.widths=[4,8,8]",
        "model.args.blocks=[1,1,1]",
        "debug=tiny",
        "device=cpu",
        "threads=1",
        "optimizer.lr=1e-2",
    ]


# Enough to learn something: a network that says the same of every sample agrees with any other.
LONGER = ["dataset.limit_train=400", "dataset.limit_test=45", "training.float.epochs=4"]

Train = Callable[..., tuple[Path, float]]


@pytest.fixture(scope="session")
def train(tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Trains with the given overrides in a new folder."""
    from snn.training.experiment import run

    def train(*overrides: str) -> tuple[Path, float]:
        folder = tmp_path_factory.mktemp("run")
        return folder, run(composed("train", *overrides), folder)

    return train


@pytest.fixture(scope="session")
def text_run(train: Train, text: list[str]) -> tuple[Path, float]:
    return train(*text, *LONGER, "T=4")


@pytest.fixture(scope="session")
def image_run(train: Train, images: list[str]) -> tuple[Path, float]:
    return train(*images, *LONGER, "T=4")


@pytest.fixture(scope="session")
def bipolar_run(train: Train, text: list[str]) -> tuple[Path, float]:
    return train(*text, *LONGER, "neuron=st_bif", "T=24")


@pytest.fixture(scope="session", params=["text_run", "image_run", "bipolar_run"])
def finished(request: pytest.FixtureRequest) -> Path:
    """The folder of each of the runs in turn."""
    folder: Any = request.getfixturevalue(request.param)[0]
    return folder
