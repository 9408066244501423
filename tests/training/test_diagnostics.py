"""Health figures of a quantised network whose defects are built in."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from snn.quantizers.lsq import LSQ
from snn.quantizers.qcfs import QCFS
from snn.training.diagnostics import diagnose


class One(nn.Module):
    """A quantiser and nothing else."""

    def __init__(self, quantizer: nn.Module):
        super().__init__()
        self.quantizer = quantizer

    def forward(self, x: Tensor) -> Tensor:
        return self.quantizer(x)


def qcfs(thresholds: list[float], levels: int = 4, signed: bool = False) -> One:
    quantizer = QCFS(levels, signed=signed)
    quantizer.threshold = nn.Parameter(torch.tensor(thresholds))
    return One(quantizer)


def test_a_healthy_layer() -> None:
    x = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [4.0, 4.0]])
    expected = {
        "threshold_crossed": 0.0,
        "dead_channels": 0.0,
        "saturated": 0.2,  # the fours: at the outermost code, and right there
        "clipped": 0.0,
        "unused_levels": 0.0,
    }
    assert diagnose(qcfs([4.0, 4.0]), {"x": x, "labels": torch.zeros(5)}) == pytest.approx(expected)


def test_a_dead_channel() -> None:
    x = torch.tensor([[0.1, 4.0], [-3.0, 0.0], [0.4, 1.0]])
    assert diagnose(qcfs([4.0, 4.0]), {"x": x})["dead_channels"] == 0.5


def test_saturation_and_clipping() -> None:
    """Above the threshold by less than half a step is saturated only; beyond it is clipped as well."""
    x = torch.tensor([[4.2], [4.6], [9.0], [1.0]])
    found = diagnose(qcfs([4.0]), {"x": x})
    assert found["saturated"] == 0.75
    assert found["clipped"] == 0.5
    assert found["unused_levels"] == pytest.approx(3 / 5)  # of the codes 0 to 4, 1 and 4 occur


def test_signed_codes_have_two_ends() -> None:
    x = torch.tensor([[-9.0], [-4.0], [9.0], [0.0]])
    found = diagnose(qcfs([4.0], signed=True), {"x": x})
    assert found["saturated"] == 0.75
    assert found["clipped"] == 0.5
    assert found["unused_levels"] == pytest.approx(6 / 9)


def test_padding_does_not_count() -> None:
    """What a padded place holds is nobody's value: here a code that nothing else has, beyond the range."""
    model = qcfs([4.0, 4.0])
    model.forward = lambda x, attention_mask: model.quantizer(x)  # type: ignore[method-assign]
    real = torch.tensor([[[4.0, 0.0], [1.0, 0.0]]])
    padded = torch.cat([real, torch.full((1, 3, 2), 9.0)], 1)
    alone = diagnose(model, {"x": real, "attention_mask": torch.ones(1, 2)})
    mask = torch.tensor([[1, 1, 0, 0, 0]])
    assert diagnose(model, {"x": padded, "attention_mask": mask}) == pytest.approx(alone)
    assert alone["dead_channels"] == 0.5


def test_thresholds_that_went_negative() -> None:
    x = torch.ones(2, 4)
    assert diagnose(qcfs([1.0, -1.0, 0.0, 2.0]), {"x": x})["threshold_crossed"] == 0.5


def test_lsq_codes() -> None:
    quantizer = LSQ(4, signed=True)  # codes -2, -1, 0, 1
    quantizer.threshold = nn.Parameter(torch.tensor([1.0]))
    x = torch.tensor([[-2.0], [-2.6], [1.0], [1.6], [0.0]])
    found = diagnose(One(quantizer), {"x": x})
    assert found["saturated"] == pytest.approx(0.8)
    assert found["clipped"] == pytest.approx(0.4)
    assert found["unused_levels"] == pytest.approx(1 / 4)


def test_the_mean_over_layers_and_the_mode_put_back() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.drop = qcfs([1.0]), qcfs([-1.0]), nn.Dropout(0.9)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(self.drop(x)))

    model = Two().train()
    graphs = []
    model.register_forward_hook(lambda _, given, out: graphs.append(out.requires_grad))
    found = diagnose(model, {"x": torch.ones(3, 1)})
    assert found["threshold_crossed"] == 0.5
    assert found["dead_channels"] == 0.0  # dropout was off
    assert model.training
    assert not model.a.quantizer._forward_hooks
    assert graphs
    assert not any(graphs)


def test_a_float_network_has_no_such_figures() -> None:
    assert diagnose(nn.Linear(2, 2), {"input": torch.ones(1, 2)}) == {}
