"""Losses of a training step."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def classification_loss(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy, in float32 whatever the precision of the network."""
    return F.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing)


def loss_over_time(logits: Tensor, labels: Tensor, kind: str, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of a network that spikes by itself.

    Args:
        logits: Output of each step.
        labels: Classes.
        kind: ``mean``: of the mean output over the steps; ``tet``: mean of the losses of all steps, so that each
            of them is right by itself.
        label_smoothing: In [0, 1).

    Shape:
        ``[T, B, C]`` and ``[B]``.

    Reference:
        Deng et al., ICLR 2022 (TET), without its second term.
    """
    if kind == "tet":
        return classification_loss(logits.flatten(0, 1), labels.repeat(len(logits)), label_smoothing)
    return classification_loss(logits.float().mean(0), labels, label_smoothing)


def regression_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean squared error, in float32 whatever the precision of the network.

    Shape:
        Outputs ``[B, 1]``, labels ``[B]``.
    """
    return F.mse_loss(outputs.float()[:, 0], labels.float())


def distillation_loss(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence from the teacher's softened predictions, times the squared temperature.

    Shape:
        ``[B, C]`` both.

    Reference:
        Hinton et al., 2015.
    """
    student = F.log_softmax(logits.float() / temperature, -1)
    target = F.log_softmax(teacher.float() / temperature, -1)
    return F.kl_div(student, target, log_target=True, reduction="batchmean") * temperature**2
