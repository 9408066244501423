"""The loop: early stopping, the best network, accumulation, clipping, distillation, what it logs."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from snn.config import Config, DistillationConfig, StageConfig
from snn.conversion.call import call_model, labels_removed
from snn.conversion.quantize import quantize, quantizers
from snn.data.data import Data
from snn.errors import TrainingError
from snn.evaluation.evaluate import evaluate
from snn.models.registry import create_model
from snn.training.distillation import DistilledObjective
from snn.training.loop import Progress, Trainer, autocast_type, stop_dropout
from snn.training.losses import classification_loss, distillation_loss
from snn.training.objective import LabelObjective
from snn.training.teacher import Teacher
from tests.training.small import Flat, Record, config, pictures, seeded, stage


def train(
    model: nn.Module,
    settings: Config,
    section: StageConfig,
    folder: Path,
    data: Data | None = None,
    **more: Any,
) -> tuple[Progress, Record, Trainer]:
    record = Record()
    trainer = Trainer(
        "float", model, data or pictures(), settings, section, record, folder / "resume", **more
    )
    return trainer.run(), record, trainer


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.detach().clone() for k, v in model.state_dict().items()}


def test_training_stops_when_validation_no_longer_improves(tmp_path: Path) -> None:
    best: list[tuple[float, dict[str, torch.Tensor]]] = []
    data = pictures(noise=0.45)
    loader = data.loader("validation", 64)

    def keep(model: nn.Module) -> None:
        best.append((evaluate(model, loader).score, weights(model)))

    at, _, trainer = train(seeded(), config(), stage(epochs=40, patience=3), tmp_path, data, keep_best=keep)
    assert at.epoch == at.best_epoch + 3 < 40
    assert len(at.history) == at.epoch
    # The first epoch that reached the maximum, and no later one that only equals it.
    assert at.best == max(at.history)
    assert at.best_epoch == at.history.index(at.best) + 1
    risen = [a for i, a in enumerate(at.history) if a > max(at.history[:i], default=-1)]
    assert [accuracy for accuracy, _ in best] == risen
    # What was kept is the network of that epoch, not the last one.
    assert not torch.equal(best[-1][1]["first.weight"], weights(trainer.plain)["first.weight"])


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_best_epoch_can_be_that_of_the_least_loss(tmp_path: Path, share: float) -> None:
    """Of labels, or, where a teacher has a share, of what is minimised; the metric is still seen."""
    data, settings = pictures(noise=0.45), config(monitor="loss")
    labels = LabelObjective(["accuracy"], settings.training)
    objective: Any = labels
    if share:
        example = next(iter(data.loader("train", 2)))
        objective = DistilledObjective(
            seeded(), Teacher(seeded(hidden=5)), DistillationConfig(), share, labels, example
        )
    at, record, _ = train(seeded(), settings, stage(epochs=12), tmp_path, data, objective=objective)
    lines = [line for line in record.lines if "epoch" in line]
    losses = [line["float/validation/loss"] for line in lines]
    accuracies = [line["float/validation/accuracy"] for line in lines]
    assert at.best_epoch == losses.index(min(losses)) + 1 != accuracies.index(max(accuracies)) + 1
    assert objective.metric == "loss"
    assert objective.value(at.best) == min(losses)


def test_without_patience_all_epochs_are_trained(tmp_path: Path) -> None:
    at, record, _ = train(seeded(), config(), stage(epochs=3), tmp_path)
    assert (at.epoch, at.step) == (3, 18)
    assert [line["epoch"] for line in record.lines if "epoch" in line] == [1, 2, 3]


def test_no_epochs_leave_the_weights_alone(tmp_path: Path) -> None:
    model = seeded()
    before = weights(model)
    at, record, _ = train(model, config(), stage(epochs=0), tmp_path)
    assert (at.step, record.lines) == (0, [])
    assert all(torch.equal(v, before[k]) for k, v in weights(model).items())


@pytest.mark.parametrize("dropout", [True, False])
def test_dropout_can_be_off_in_a_stage(tmp_path: Path, dropout: bool) -> None:
    model = seeded(Flat, dropout=0.5)
    model.norm = nn.BatchNorm1d(6)
    dropped: list[bool] = []
    model.drop.register_forward_hook(
        lambda module, inputs, output: dropped.append(not output.equal(inputs[0]))
    )
    train(model, config(), stage(epochs=2, dropout=dropout), tmp_path)
    # 12 steps of training; every validation is without it.
    assert sum(dropped) == (12 if dropout else 0)
    assert model.norm.num_batches_tracked == 12


def test_without_dropout_attention_has_none_and_quantisers_still_start() -> None:
    model = create_model(
        "bert",
        num_hidden_layers=1,
        hidden_size=16,
        num_attention_heads=2,
        intermediate_size=16,
        vocab_size=50,
    )
    model = quantize(
        model, [{"match": "re:.*intermediate_act_fn", "do": "append", "init": "first_batch"}], levels=4
    )
    batch = {
        "input_ids": torch.arange(12).reshape(2, 6),
        "attention_mask": torch.ones(2, 6, dtype=torch.long),
    }
    model.train()
    assert not call_model(model, batch).equal(call_model(model, batch))
    stop_dropout(model.train())
    (quantizer,) = quantizers(model).values()
    assert quantizer.calibrated
    assert quantizer.training
    assert call_model(model, batch).equal(call_model(model, batch))


@pytest.mark.parametrize(("batch", "accumulate"), [(2, 4), (4, 2), (1, 8)])
def test_accumulation_equals_a_larger_batch(tmp_path: Path, batch: int, accumulate: int) -> None:
    found = []
    for index, (size, count) in enumerate([(8, 1), (batch, accumulate)]):
        model = seeded().double()
        settings = config(batch_size=size, accumulate=count, clip_norm=0.5)
        at, _, _ = train(model, settings, stage(epochs=2), tmp_path / str(index))
        assert at.step == 6
        found.append(weights(model))
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-5, atol=1e-7)


def test_the_last_batches_of_an_epoch_are_not_lost(tmp_path: Path) -> None:
    """Six batches, accumulated by four: two steps per epoch, and the schedule counts the same."""
    at, record, trainer = train(seeded(), config(accumulate=4), stage(epochs=2), tmp_path, pictures(train=24))
    assert at.step == 4
    assert trainer.scheduler.last_epoch == 4
    assert [line["step"] for line in record.lines if "float/train/loss" in line] == [1, 2, 3, 4]


@pytest.mark.parametrize("unreadable", [{5}, {2}, {2, 3}])
def test_a_batch_that_cannot_be_read_leaves_its_gradient_to_no_other_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unreadable: set[int]
) -> None:
    """Six batches, accumulated by two, some of them without one picture that can be read."""
    data, batches = pictures(train=24), list(pictures(train=24).loader("train", 4))
    read = Data.loader

    def loader(data: Data, split: str, *sizes: Any, **options: Any) -> Any:
        if split != "train":
            return read(data, split, *sizes, **options)
        kept = [{} if i in unreadable else batch for i, batch in enumerate(batches)]
        return torch.utils.data.DataLoader(kept, batch_size=None)  # type: ignore[arg-type]

    monkeypatch.setattr(Data, "loader", loader)
    model, right = seeded(), seeded()
    at, _, trainer = train(model, config(accumulate=2), stage(epochs=2), tmp_path, data)
    objective = LabelObjective(["accuracy"], trainer.config.training)
    sgd = torch.optim.SGD(right.parameters(), lr=0.1)
    for pair in 2 * [(0, 1), (2, 3), (4, 5)]:
        for i in set(pair) - unreadable:
            (objective(right, batches[i]) / 2).backward()
        sgd.step()
        sgd.zero_grad()
    steps = 4 if unreadable == {2, 3} else 6  # nothing to learn, no step
    assert (at.step, trainer.scheduler.last_epoch) == (steps, steps)
    for name, value in weights(right).items():
        torch.testing.assert_close(weights(model)[name], value)


def one_step(folder: Path, data: Data, **settings: Any) -> torch.Tensor:
    """The change of all weights by one step of SGD with rate 1 on all rows."""
    model = seeded()
    before = torch.cat([p.detach().flatten() for p in model.parameters()]).clone()
    sgd = {"_target_": "torch.optim.SGD", "lr": 1.0}
    section = settings.pop("section", stage(epochs=1))
    more = settings.pop("more", {})
    train(model, config(sgd, batch_size=24, **settings), section, folder, data, **more)
    return torch.cat([p.detach().flatten() for p in model.parameters()]) - before


def gradient(data: Data, loss: Any) -> torch.Tensor:
    """Of the same weights and rows, by autograd and no trainer."""
    model = seeded()
    (batch,) = data.loader("train", 24)
    value = loss(model, labels_removed(batch), batch["labels"])
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(model.parameters()))])


def test_a_step_is_the_gradient_of_the_loss(tmp_path: Path) -> None:
    data = pictures()
    expected = gradient(data, lambda m, x, y: classification_loss(call_model(m, x), y, 0.1))
    change = one_step(tmp_path, data, clip_norm=None, label_smoothing=0.1)
    torch.testing.assert_close(-change, expected, rtol=1e-4, atol=1e-6)


def test_the_gradient_is_clipped_to_its_norm(tmp_path: Path) -> None:
    data = pictures()
    free = one_step(tmp_path / "a", data, clip_norm=None)
    limit = 0.25 * float(free.norm())
    clipped = one_step(tmp_path / "b", data, clip_norm=limit)
    torch.testing.assert_close(clipped, free * 0.25, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(one_step(tmp_path / "c", data, clip_norm=1e6), free)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_step_towards_a_teacher(tmp_path: Path, share: float) -> None:
    data = pictures()
    torch.manual_seed(5)
    teacher = copy.deepcopy(seeded()).train()
    with torch.no_grad():
        for p in teacher.parameters():
            p.add_(torch.randn_like(p))

    def loss(model: nn.Module, x: Any, y: torch.Tensor) -> torch.Tensor:
        logits = call_model(model, x)
        soft = distillation_loss(logits, call_model(teacher, x).detach(), 2.0)
        return (1 - share) * classification_loss(logits, y) + share * soft

    before = weights(teacher)
    labels = LabelObjective(["accuracy"], config().training)
    example = next(iter(data.loader("train", 2)))
    objective = DistilledObjective(
        seeded(), Teacher(teacher), DistillationConfig(temperature=2.0), share, labels, example
    )
    change = one_step(tmp_path, data, clip_norm=None, more={"objective": objective})
    torch.testing.assert_close(-change, gradient(data, loss), rtol=1e-4, atol=1e-6)
    assert all(torch.equal(v, before[k]) for k, v in weights(teacher).items())
    assert all(p.requires_grad for p in teacher.parameters())  # the caller's own is left as it was


def test_the_logged_loss_is_the_mean_since_the_last_line(tmp_path: Path) -> None:
    _, each, _ = train(seeded(), config(), stage(epochs=1), tmp_path / "a")
    _, pairs, _ = train(seeded(), config(log_every=2), stage(epochs=1), tmp_path / "b")
    single = [line["float/train/loss"] for line in each.lines if "float/train/loss" in line]
    double = [line["float/train/loss"] for line in pairs.lines if "float/train/loss" in line]
    assert len(single) == 6
    assert double == pytest.approx([sum(single[i : i + 2]) / 2 for i in (0, 2, 4)])


def test_a_network_ends_in_the_same_bits_each_time(tmp_path: Path) -> None:
    first, second = seeded(dropout=0.5), seeded(dropout=0.5)
    for index, model in enumerate((first, second)):
        torch.manual_seed(3)
        train(model, config(), stage(epochs=2), tmp_path / str(index))
    assert all(torch.equal(v, weights(second)[k]) for k, v in weights(first).items())


@pytest.mark.parametrize("stop", [4, 7, 12])
def test_a_stage_goes_on_where_its_state_was_saved(
    tmp_path: Path, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With momentum, dropout, a decaying rate and accumulation, whose middle is never saved."""
    monkeypatch.setattr("snn.training.loop.time", SimpleNamespace(monotonic=itertools.count().__next__))

    class Stop(Exception):
        pass

    class Stopping(Record):
        def log(self, metrics: Any, step: int) -> None:
            super().log(metrics, step)
            if step > stop:
                raise Stop

    def settings() -> Config:
        made = config({"_target_": "torch.optim.AdamW", "lr": 0.05}, batch_size=2, accumulate=2, save_every=2)
        made.scheduler = {"_target_": "snn.training.schedule.linear", "warmup": 0.3}
        return made

    whole = seeded(dropout=0.4)
    torch.manual_seed(7)
    at, record, _ = train(whole, settings(), stage(epochs=3), tmp_path / "whole")
    model = seeded(dropout=0.4)
    torch.manual_seed(7)
    with pytest.raises(Stop):
        Trainer(
            "float", model, pictures(), settings(), stage(epochs=3), Stopping(), tmp_path / "cut" / "resume"
        ).run()
    torch.manual_seed(99)
    again = seeded(dropout=0.4)
    after, rest, _ = train(again, settings(), stage(epochs=3), tmp_path / "cut")
    assert after == at
    assert all(torch.equal(v, weights(whole)[k]) for k, v in weights(again).items())
    speeds, left = ([x["samples_per_second"] for x in r.lines if "epoch" in x] for r in (record, rest))
    samples, steps = speeds[0], after.step // 3  # every epoch takes a second by this clock
    assert speeds == [samples] * 3
    saved = stop // 2 * 2
    assert left[0] == pytest.approx(samples * (1 - saved % steps / steps), abs=0.1)
    lines = [{k: v for k, v in line.items() if k != "samples_per_second"} for line in record.lines]
    tail = [{k: v for k, v in line.items() if k != "samples_per_second"} for line in rest.lines]
    assert lines[-len(tail) :] == tail


def test_a_state_of_another_stage_is_not_taken(tmp_path: Path) -> None:
    train(seeded(), config(), stage(epochs=1), tmp_path)
    record = Record()
    at = Trainer(
        "quantized", seeded(), pictures(), config(), stage(epochs=1), record, tmp_path / "resume", 6
    ).run()
    assert (at.stage, at.step) == ("quantized", 12)


def test_a_loss_that_is_not_a_number_is_never_stepped_over(tmp_path: Path) -> None:
    model = seeded()
    with torch.no_grad():
        model.classifier.bias.fill_(float("nan"))  # type: ignore[union-attr]
    with pytest.raises(TrainingError, match=r"float: the loss is nan at step 1 \(epoch 1\)"):
        train(model, config(), stage(epochs=1), tmp_path)


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    """A finite loss whose step ruins the weights: the state before it is the last good one."""
    model = seeded()
    with torch.no_grad():
        model.classifier.weight.mul_(1000)  # type: ignore[operator, union-attr]
    sgd = {"_target_": "torch.optim.SGD", "lr": 3e38}
    with pytest.raises(TrainingError, match=r"weights are not finite at step 1 .*no state was saved before"):
        train(model, config(sgd, clip_norm=None, save_every=1), stage(epochs=1), tmp_path)
    assert not (tmp_path / "resume").exists()


def test_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert autocast_type("no", cpu) is None
    assert autocast_type("bf16", cpu) is torch.bfloat16
    for able in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda able=able: able)
        assert autocast_type("auto", cpu) is (torch.bfloat16 if able else None)


def test_bf16_trains_weights_of_float32(tmp_path: Path) -> None:
    model = seeded()
    before = weights(model)
    types = set()
    model.first.register_forward_hook(lambda layer, given, out: types.add((layer.training, out.dtype)))
    _, record, _ = train(model, config(precision="bf16"), stage(epochs=1), tmp_path)
    assert (True, torch.bfloat16) in types
    assert (True, torch.float32) not in types
    after = weights(model)
    assert {v.dtype for v in after.values()} == {torch.float32}
    assert not torch.equal(after["first.weight"], before["first.weight"])
    assert all(0 < line["float/train/loss"] < 5 for line in record.lines if "float/train/loss" in line)
