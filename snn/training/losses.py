"""Losses of a training step."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def classification_loss(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy, in float32 whatever the precision of the network."""
    return F.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing)


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
