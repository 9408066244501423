"""Quantisers that fade in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from snn.conversion.quantize import quantize, quantizers
from snn.quantizers.base import Quantizer
from snn.quantizers.da_qcfs import DAQCFS
from snn.quantizers.registry import QUANTIZERS
from snn.training.fade import Fade
from snn.training.loop import Trainer
from snn.training.objective import Batch
from tests.training.small import Record, config, pictures, seeded, stage

RULES = [{"match": "act", "do": "replace", "signed": False}]


def quantised() -> nn.Module:
    return quantize(seeded(), RULES, levels=2, threshold=1.0)


@pytest.mark.parametrize("name", ["qcfs", "lsq"])
@pytest.mark.parametrize("signed", [False, True])
def test_clipping_is_half_a_step_from_quantising_at_most(name: str, signed: bool) -> None:
    x = torch.linspace(-3, 3, 101)
    quantizer = QUANTIZERS.get(name)(levels=4, signed=signed, granularity="tensor")
    quantizer.set_threshold(quantizer.from_step(torch.tensor([0.5])))
    clipped = quantizer.clip(x).detach()
    assert clipped.allclose(x.clamp(*(0.5 * bound for bound in quantizer.bounds)), atol=1e-4)
    assert 0.2 < (clipped - quantizer(x)).abs().max() <= 0.25 + 1e-4


def test_clipping_passes_the_gradient_of_the_input_within_and_of_the_threshold_beyond() -> None:
    quantizer, x = QUANTIZERS.get("qcfs")(levels=4, threshold=2.0), torch.tensor([-1.0, 0.7, 3.0])
    quantizer.clip(x.requires_grad_()).sum().backward()
    assert x.grad is not None
    assert x.grad.equal(torch.tensor([0.0, 1.0, 0.0]))
    assert quantizer.threshold.grad.allclose(torch.tensor([1.0]), atol=1e-4)


@pytest.mark.parametrize("name", ["qcfs", "lsq"])
def test_beyond_the_range_clipping_and_quantising_move_the_threshold_alike(name: str) -> None:
    found = []
    for way in ("clip", "quantize"):
        quantizer = QUANTIZERS.get(name)(levels=4, signed=False, granularity="tensor", threshold=2.0)
        getattr(quantizer, way)(torch.tensor([9.0, 20.0])).sum().backward()
        [gradient] = [p.grad for p in quantizer.parameters() if p.grad is not None]
        found.append(gradient)
    torch.testing.assert_close(*found, rtol=1e-3, atol=0)


def test_clipping_has_the_shift_and_the_height() -> None:
    quantizer = DAQCFS(levels=4, threshold=1.0)
    quantizer.correct(shift=torch.tensor([0.2]), height=torch.tensor([2.0]))
    assert quantizer.clip(torch.tensor([-0.3, 0.3, 3.0])).allclose(torch.tensor([0.0, 1.0, 2.0]), atol=1e-4)


def test_it_blends_what_is_clipped_with_what_is_quantised() -> None:
    model, x = quantised().train(), torch.tensor([[0.1, 0.6, 0.8, 2.0]])
    [quantizer] = quantizers(model).values()
    fade = Fade(model, steps=4)
    found = {}
    for step in (0, 1, 4):
        fade.move_to(step)
        found[step] = quantizer(x).detach()
    clipped, full = torch.tensor([[0.1, 0.6, 0.8, 1.0]]), torch.tensor([[0.0, 0.5, 1.0, 1.0]])
    assert found[0].allclose(clipped, atol=1e-4)
    assert found[1].allclose(0.75 * clipped + 0.25 * full, atol=1e-4)
    assert found[4].equal(full)


def test_evaluation_and_observation_are_without_it() -> None:
    model, x = quantised(), torch.tensor([[0.1, 0.6, 0.8, 2.0]])
    [quantizer] = quantizers(model).values()
    Fade(model, steps=4).move_to(0)
    assert quantizer.eval()(x).equal(torch.tensor([[0.0, 0.5, 1.0, 1.0]]))
    quantizer.train().observe(4)
    assert quantizer(x).equal(x)


@pytest.mark.parametrize("fade", [0.0, 0.5])
def test_a_stage_ends_with_full_quantisers_and_no_hook(tmp_path: Path, fade: float) -> None:
    """With 18 steps, and a fade over half of them, the first nine blend."""
    model, seen, where = quantised(), [], []
    [quantizer] = quantizers(model).values()

    def watch(module: Quantizer, inputs: tuple[Tensor], output: Tensor) -> None:
        where.append(module.training)
        if module.training:
            seen.append(output.equal(module.quantize(inputs[0])))

    trainer = Trainer(
        "quantized", model, pictures(), config(), stage(epochs=3, fade=fade), Record(), tmp_path / "resume"
    )
    quantizer.register_forward_hook(watch)
    trainer.run()
    assert seen == [False] * (9 if fade else 0) + [True] * (9 if fade else 18)
    assert False in where  # validation
    quantizer._forward_hooks.popitem()
    assert not quantizer._forward_hooks


def test_a_stage_that_is_resumed_fades_on(tmp_path: Path) -> None:
    settings, section = config(save_every=1), stage(epochs=3, fade=0.9)

    def trainer(folder: str) -> Trainer:
        return Trainer("quantized", quantised(), pictures(), settings, section, Record(), tmp_path / folder)

    whole = trainer("whole")
    whole.run()
    stopped = trainer("part")
    train = stopped._learn

    def stop_at_the_eighth(batch: Batch) -> Tensor:
        if stopped.progress.step == 7:
            raise KeyboardInterrupt
        return train(batch)

    stopped._learn = stop_at_the_eighth  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    resumed = trainer("part")
    resumed.run()
    assert resumed.progress.step == 18
    for name, value in whole.plain.state_dict().items():
        assert value.equal(resumed.plain.state_dict()[name]), name
