"""Averaged weights, mixed pictures, memory layout: what they compute, and that a resumed run goes on bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snn.checks import check
from snn.config import TrainingConfig
from snn.errors import ConfigError
from snn.evaluation.evaluate import evaluate
from snn.quantizers.lsq import LSQ
from snn.training.ema import WeightAverage
from snn.training.loop import Trainer
from snn.training.losses import classification_loss, loss_over_time
from snn.training.mixing import Mixing
from snn.training.objective import LabelObjective
from tests.scripts.composing import composed
from tests.training.small import Flat, Record, config, pictures, seeded, stage


class Small(nn.Module):
    """Convolutions with norm, so that there are statistics and whole numbers; several channels, for a memory layout."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(1, 3, 1), nn.Conv2d(3, 4, 2)
        self.norm, self.classifier = nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = self.conv(self.stem(pixel_values.to(self.conv.weight.dtype)))
        return self.classifier(self.norm(x).relu().flatten(1))


def trainer(folder: Path, model: nn.Module, epochs: int = 3, **settings: Any) -> Trainer:
    keep = settings.pop("keep_best", lambda model: None)
    return Trainer(
        "float",
        model,
        pictures(),
        config(**settings),
        stage(epochs=epochs),
        Record(),
        folder / "resume",
        keep_best=keep,
    )


def state(model: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(v, other[k]) for k, v in one.items())


def test_the_average_is_the_formula() -> None:
    layer = nn.Linear(2, 2).double()
    average = WeightAverage(layer, 0.6)
    expected = layer.weight.detach().clone()
    for step in range(5):
        with torch.no_grad():
            layer.weight.add_(torch.randn(2, 2))
        average.update(layer)
        decay = min(0.6, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * layer.weight.detach()
    torch.testing.assert_close(average.network.weight, expected, rtol=0, atol=1e-12)
    assert not average.network.weight.requires_grad


def test_whole_numbers_are_copied_and_thresholds_taken_when_they_come() -> None:
    norm = nn.BatchNorm2d(3)
    average = WeightAverage(norm, 0.9)
    norm(torch.randn(4, 3, 2, 2))
    average.update(norm)
    assert int(average.network.num_batches_tracked) == 1
    quantizer = LSQ(levels=4, init="first_batch").train()
    average = WeightAverage(quantizer, 0.9)
    quantizer(torch.rand(5, 3))
    average.update(quantizer)
    assert torch.equal(average.network.threshold, quantizer.threshold)


def test_the_average_is_judged_and_kept(tmp_path: Path) -> None:
    kept: list[float] = []
    loader = pictures().loader("validation", 64)

    def keep(model: nn.Module) -> None:
        kept.append(evaluate(model, loader).score)
        assert run.average is not None
        assert same(state(model), state(run.average.network))

    run = trainer(tmp_path, seeded(), ema=0.9, keep_best=keep)
    at = run.run()
    assert run.average is not None
    assert int(run.average.updates) == at.step == 18
    assert kept == [a for i, a in enumerate(at.history) if a > max(at.history[:i], default=-1)]
    assert not same(state(run.plain), state(run.average.network))
    plain = trainer(tmp_path / "without", seeded())
    plain.run()
    assert same(state(run.plain), state(plain.plain)), "the average changes nothing about training"


@pytest.mark.parametrize(
    "settings",
    [
        {"ema": 0.9},
        {"mixup": 0.8, "cutmix": 1.0},
        {"channels_last": True, "ema": 0.8, "mixup": 0.4},
        # Moments lie in memory as their weights do: fused optimisers go through both without a look at strides.
        {"channels_last": True, "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.05, "fused": True}},
    ],
    ids=str,
)
def test_a_resumed_run_goes_on_bit_for_bit(tmp_path: Path, settings: dict) -> None:
    whole = trainer(tmp_path / "whole", seeded(Small), save_every=4, **settings)
    whole.run()

    class Stopped(Exception):
        pass

    first = trainer(tmp_path / "parts", seeded(Small), save_every=4, **settings)
    save, saves = first._save, []

    def stopping() -> None:
        save()
        saves.append(first.progress.step)
        if first.progress.step == 8:
            raise Stopped

    first._save = stopping  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        first.run()
    torch.manual_seed(77)
    second = trainer(tmp_path / "parts", Small(), save_every=4, **settings)
    second.run()
    assert same(state(second._resumable), state(whole._resumable))
    assert second.progress.history == whole.progress.history


def test_channels_last_is_the_same_network(tmp_path: Path) -> None:
    found = []
    for index, last in enumerate((False, True)):
        model = seeded(Small).double()
        run = trainer(tmp_path / str(index), model, channels_last=last, epochs=1)
        run.run()
        found.append(state(run.plain))
    assert model.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert not model.conv.weight.is_contiguous()
    for key, value in found[0].items():
        torch.testing.assert_close(found[1][key], value, rtol=1e-9, atol=1e-12)


def batch(rows: int = 6, size: int = 8) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "pixel_values": torch.randn(rows, 3, size, size, generator=generator),
        "labels": torch.arange(rows) % 3,
    }


def test_mixup_mixes_pictures_and_labels_in_one_proportion() -> None:
    plain = batch()
    mixed = Mixing(0.8, 0.0, 1.0, 3, seed=0)(plain, 0, 0)
    classes = nn.functional.one_hot(plain["labels"], 3).float()
    share = (mixed["labels"][0, 0]).item()  # classes 0 and 2 are mixed in the first row
    assert 0 < share < 1
    for name, values in (("pixel_values", plain["pixel_values"]), ("labels", classes)):
        torch.testing.assert_close(mixed[name], share * values + (1 - share) * values.flip(0))


def test_cutmix_pastes_a_rectangle_and_its_area_is_the_share() -> None:
    plain, seen = batch(), []
    for number in range(20):
        mixed = Mixing(0.0, 1.0, 1.0, 3, seed=0)(plain, 0, number)
        pasted = (mixed["pixel_values"] != plain["pixel_values"]).any(0).any(0)
        share = 1 - pasted.float().mean()
        torch.testing.assert_close(mixed["labels"].sum(1), torch.ones(6))
        torch.testing.assert_close(mixed["labels"][0, 0], share)
        rows, columns = pasted.any(1).sum(), pasted.any(0).sum()
        assert pasted.sum() == rows * columns
        assert torch.equal(mixed["pixel_values"][:, :, pasted], plain["pixel_values"].flip(0)[:, :, pasted])
        seen.append(float(share))
    assert len(set(seen)) > 8


def test_probability_and_choice() -> None:
    mixing = Mixing(0.8, 1.0, 0.5, 3, seed=0)
    kinds = []
    for number in range(300):
        mixed = mixing(batch(), 1, number)
        changed = (mixed["pixel_values"] != batch()["pixel_values"]).any(0).any(0).float().mean()
        kinds.append("none" if changed == 0 else "mixup" if changed == 1 else "cutmix")
    assert 110 <= kinds.count("none") <= 190
    assert 40 <= kinds.count("mixup") <= 110
    assert 40 <= kinds.count("cutmix") <= 110
    assert torch.equal(mixing(batch(), 1, 3)["pixel_values"], mixing(batch(), 1, 3)["pixel_values"])


def test_shares_of_classes_in_the_losses() -> None:
    logits, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0])
    shares = nn.functional.one_hot(labels, 3).float()
    for smoothing in (0.0, 0.1):
        torch.testing.assert_close(
            classification_loss(logits, shares, smoothing), classification_loss(logits, labels, smoothing)
        )
    steps = torch.randn(4, 5, 3)
    for kind in ("mean", "tet"):
        torch.testing.assert_close(loss_over_time(steps, shares, kind), loss_over_time(steps, labels, kind))


def test_a_network_may_know_more_classes_than_the_mixed_ones() -> None:
    objective, logits = LabelObjective(["accuracy"], TrainingConfig()), torch.randn(5, 7)
    labels = torch.tensor([0, 1, 2, 1, 0])
    shares = nn.functional.one_hot(labels, 3).float()
    torch.testing.assert_close(objective.loss(logits, shares), objective.loss(logits, labels))


def test_training_with_mixed_pictures_learns(tmp_path: Path) -> None:
    at = trainer(tmp_path, seeded(Flat), epochs=8, mixup=0.4).run()
    assert at.best > 0.9


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["training.ema=1.0"], r"training\.ema must be between 0 and 1"),
        (["training.mixup=-1"], r"training\.mixup must be at least 0"),
        (["training.mix_probability=2"], r"training\.mix_probability"),
        (["dataset=mr", "model=bert", "training.cutmix=1.0"], r"training\.cutmix mixes pictures.*dataset=mr"),
    ],
)
def test_settings_that_cannot_work(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check(composed("train", "model=resnet20", "dataset=digits", *overrides), "train")
