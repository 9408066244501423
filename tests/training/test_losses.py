"""Losses against formulas written out in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from snn.training.losses import classification_loss, distillation_loss, regression_over_time


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


@pytest.fixture
def logits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    draw = [torch.randn(5, 4, generator=generator, dtype=torch.float64) for _ in range(2)]
    return draw[0], draw[1], torch.tensor([0, 3, 1, 1, 2])


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_cross_entropy_with_smoothed_labels(
    logits: tuple[torch.Tensor, torch.Tensor, torch.Tensor], smoothing: float
) -> None:
    x, _, labels = logits
    target = np.full((5, 4), smoothing / 4)
    target[np.arange(5), labels] += 1 - smoothing
    expected = -(target * log_softmax(x.numpy())).sum(-1).mean()
    assert float(classification_loss(x, labels, smoothing)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_distillation(logits: tuple[torch.Tensor, torch.Tensor, torch.Tensor], temperature: float) -> None:
    student, teacher, _ = logits
    p, q = (log_softmax(x.numpy() / temperature) for x in (teacher, student))
    expected = (np.exp(p) * (p - q)).sum(-1).mean() * temperature**2
    assert float(distillation_loss(student, teacher, temperature)) == pytest.approx(expected, rel=1e-5)
    assert float(distillation_loss(student, student, temperature)) == pytest.approx(0.0, abs=1e-6)
    assert float(distillation_loss(student, teacher, temperature)) > 0


def test_the_gradient_of_distillation_does_not_vanish_with_temperature() -> None:
    """For large temperatures it tends to the difference of the centred logits, over the classes and rows."""
    student = torch.tensor([[1.0, -2.0, 0.5]], requires_grad=True)
    teacher = torch.tensor([[0.0, 1.0, 2.0]])
    distillation_loss(student, teacher, 1000.0).backward()
    difference = (student - teacher).detach()
    expected = (difference - difference.mean()) / 3
    assert student.grad is not None
    torch.testing.assert_close(student.grad, expected, rtol=0.05, atol=1e-2)


def test_half_precision_is_summed_in_single() -> None:
    x = torch.tensor([[20.0, -20.0]], dtype=torch.bfloat16)
    assert classification_loss(x, torch.tensor([1])).dtype == torch.float32


@pytest.mark.parametrize("kind", ["mean", "tet"])
def test_measurements_over_time(kind: str) -> None:
    outputs, labels = torch.randn(4, 5, 1), torch.randn(5)
    errors = outputs[..., 0].numpy() - labels.numpy()  # [T, B]
    expected = np.square(errors).mean() if kind == "tet" else np.square(errors.mean(0)).mean()
    assert float(regression_over_time(outputs, labels, kind)) == pytest.approx(expected, rel=1e-5)
