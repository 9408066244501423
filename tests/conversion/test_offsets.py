"""Charge that integrate-and-fire neurons get beside their input: that it helps, lasts, and suits one T."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

import snn
from snn.conversion.checkpoint import load_checkpoint, save_checkpoint
from snn.conversion.convert import with_levels
from snn.conversion.network import SpikingNetwork
from snn.conversion.quantize import quantizers
from snn.conversion.training_free.offsets import KINDS, drop_offsets, set_offsets
from snn.errors import ConversionError
from snn.training.through_time import ThroughTime
from tests.conversion.test_training_free import (
    LEVELS,
    Shared,
    Tokens,
    pictures,
    ready,
    resnet,
    tokens,
    vectors,
)


def calibrated(kind: str) -> nn.Module:
    batches = pictures()
    return set_offsets(ready(resnet(), batches, name="qcfs"), batches, LEVELS, kind)


def spiking(model: nn.Module) -> SpikingNetwork:
    return snn.convert(model, "integrate_fire", T=LEVELS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["qcfs", "da_qcfs"])
def test_they_bring_the_spiking_network_closer_to_the_quantised_one(name: str, kind: str) -> None:
    batches = pictures()
    model = ready(resnet(), batches, name=name)
    with torch.no_grad():
        want = torch.cat([model(**b) for b in batches])

        def error() -> float:
            got = torch.cat([spiking(model)(**b).logits[-1] for b in batches])
            return float((got - want).square().mean())

        before = error()
        set_offsets(model, batches, LEVELS, kind)
        assert error() < before
        assert torch.equal(
            torch.cat([model(**b) for b in batches]), want
        )  # the quantised network is what it was


@pytest.mark.parametrize(("kind", "want"), [("membrane", [0.2]), ("steps", [0.0, 0.1, 0.0, 0.2])])
def test_the_smallest_charge_that_does(kind: str, want: list[float]) -> None:
    """By hand: 0.46 thresholds a step ought to make t/2 spikes by step t; without, they make 0, 0, 1, 1."""
    rules = [{"type": "ReLU", "do": "replace", "signed": False}]
    model = snn.quantize(nn.Sequential(nn.Flatten(), nn.ReLU()), rules, levels=LEVELS, threshold=1.0).eval()
    batch = {"input": torch.full((2, 3), 0.46)}
    set_offsets(model, [batch], LEVELS, kind, initial=0.0)
    (quantizer,) = quantizers(model).values()
    assert quantizer.offset.flatten().tolist() == pytest.approx(want)
    rates = snn.convert(model, "integrate_fire", T=LEVELS, initial=0.0)(**batch).logits[:, 0, 0]
    assert (rates * torch.arange(1, 5)).tolist() == [0, 1, 1, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_steps_than_levels_go_for_the_network_that_was_trained(kind: str) -> None:
    batches = pictures()
    trained = ready(resnet(), batches, name="qcfs")
    with torch.no_grad():
        want = torch.cat([trained(**b) for b in batches])

        def error(of: nn.Module | None) -> float:
            model = set_offsets(with_levels(trained, 1), batches, 1, kind, trained=of)
            got = torch.cat([snn.convert(model, "integrate_fire", T=1)(**b).logits[-1] for b in batches])
            return float((got - want).square().mean())

        assert error(trained) < error(None)


@pytest.mark.parametrize("kind", KINDS)
def test_shared_activations_have_one(kind: str) -> None:
    model = set_offsets(ready(Shared().eval(), vectors(), name="qcfs"), vectors(), LEVELS, kind)
    assert [quantizer.offset.shape[1] for quantizer in quantizers(model).values()] == [6]


@pytest.mark.parametrize("kind", KINDS)
def test_padding_says_nothing(kind: str) -> None:
    torch.manual_seed(0)
    model = ready(Tokens().eval(), tokens(), name="qcfs")
    padded = set_offsets(copy.deepcopy(model), tokens(padded=1e4), LEVELS, kind)
    set_offsets(model, tokens(), LEVELS, kind)
    for one, other in zip(quantizers(model).values(), quantizers(padded).values()):
        assert torch.equal(one.offset, other.offset)


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_keeps_them(kind: str, tmp_path: Path) -> None:
    model = calibrated(kind)
    network, batch = spiking(model), pictures()[0]
    save_checkpoint(network, tmp_path / "kept")
    loaded = load_checkpoint(tmp_path / "kept")
    assert isinstance(loaded, SpikingNetwork)
    assert torch.equal(loaded(**batch).logits, network(**batch).logits)
    save_checkpoint(load_checkpoint(tmp_path / "kept", spiking=False), tmp_path / "again")
    again = spiking(load_checkpoint(tmp_path / "again"))
    assert torch.equal(again(**batch).logits, network(**batch).logits)


@pytest.mark.parametrize("kind", KINDS)
def test_training_through_time_starts_with_them(kind: str) -> None:
    network, batch = spiking(calibrated(kind)), pictures()[0]
    through = ThroughTime(network)
    output = through(**batch)
    assert torch.equal(output, network(**batch).logits[-1])
    output.square().sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in through.parameters() if p.grad is not None)
    assert torch.equal(through.trained()(**batch).logits, network(**batch).logits)


def test_those_per_step_suit_one_T() -> None:
    steps, membrane, batch = calibrated("steps"), calibrated("membrane"), pictures()[0]
    with pytest.raises(ConversionError, match=r"calibrated for T=4, but T=8: conversion.offsets=steps"):
        snn.convert(steps, "integrate_fire", T=8)(**batch)
    assert snn.convert(membrane, "integrate_fire", T=8)(**batch).logits.shape[0] == 8
    drop_offsets(steps)
    assert snn.convert(steps, "integrate_fire", T=8)(**batch).logits.shape[0] == 8


def test_new_thresholds_drop_them() -> None:
    model = calibrated("steps")
    snn.calibrate(model, pictures())
    assert all(quantizer.offset is None for quantizer in quantizers(model).values())


def test_numbers_that_are_not_finite_are_refused() -> None:
    batches = pictures()
    model = ready(resnet(), batches, name="qcfs")
    batches[0]["pixel_values"][0, 0, 0, 0] = float("nan")
    with pytest.raises(ConversionError, match="not finite while offsets were chosen"):
        set_offsets(model, batches, LEVELS)
