"""Losses of a training step."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def for_outputs(labels: Tensor, outputs: int) -> Tensor:
    """Shares of the data's classes ``[B, C]`` for a network of more outputs; class numbers ``[B]`` as they are."""
    return labels if labels.dim() == 1 else F.pad(labels, (0, outputs - labels.shape[1]))


def classification_loss(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy, in float32 whatever the precision of the network.

    Shape:
        ``[B, C]``, and classes ``[B]`` or shares of classes ``[B, C]``.
    """
    return F.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing)


def loss_over_time(logits: Tensor, labels: Tensor, kind: str, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of a network that spikes by itself.

    Args:
        logits: Output of each step.
        labels: Classes, or shares of classes.
        kind: ``mean``: of the mean output over the steps; ``tet``: mean of the losses of all steps, so that each
            of them is right by itself.
        label_smoothing: In [0, 1).

    Shape:
        ``[T, B, C]``, and ``[B]`` or ``[B, C]``.

    Reference:
        Deng et al., ICLR 2022 (TET), without its second term.
    """
    if kind == "tet":
        every = labels.expand(len(logits), *labels.shape).flatten(0, 1)
        return classification_loss(logits.flatten(0, 1), every, label_smoothing)
    return classification_loss(logits.float().mean(0), labels, label_smoothing)


def regression_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean squared error, in float32 whatever the precision of the network.

    Shape:
        Outputs ``[B, 1]``, labels ``[B]``.
    """
    return F.mse_loss(outputs.float()[:, 0], labels.float())


def regression_over_time(outputs: Tensor, labels: Tensor, kind: str) -> Tensor:
    """Mean squared error of a network that spikes by itself: of the mean output over the steps, or of every step.

    Args:
        outputs: Of each step.
        labels: Measurements.
        kind: ``mean`` or ``tet``, see :func:`loss_over_time`.

    Shape:
        ``[T, B, 1]`` and ``[B]``.
    """
    if kind == "tet":
        return regression_loss(outputs.flatten(0, 1), labels.repeat(len(outputs)))
    return regression_loss(outputs.float().mean(0), labels)


def distillation_loss(
    logits: Tensor, teacher: Tensor, temperature: float, weights: Tensor | None = None
) -> Tensor:
    """Kullback-Leibler divergence from the teacher's softened predictions, times the squared temperature.

    Args:
        logits: Of the student.
        teacher: Those of the teacher.
        temperature: That both are divided by, > 0.
        weights: Of the samples, which are averaged; None: 1.

    Shape:
        ``[B, C]`` both, weights ``[B]``.

    Reference:
        Hinton et al., 2015.
    """
    student = F.log_softmax(logits.float() / temperature, -1)
    target = F.log_softmax(teacher.float() / temperature, -1)
    divergence = F.kl_div(student, target, log_target=True, reduction="none").sum(-1)
    return (divergence if weights is None else divergence * weights).mean() * temperature**2


@torch.no_grad()
def error_weights(logits: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """How much each sample's soft target counts: ``1 - exp(-l_s / l_t)``, from the cross-entropies of both networks.

    Near 1 where the student is much worse than the teacher, near 0 where it is much better, or the teacher wrong.

    Shape:
        ``[B, C]`` both, and labels ``[B]``, or ``[B, C]`` where they are shares of classes, to ``[B]``.

    Reference:
        The released training of SpikeZIP-TF (You et al., ICML 2024).
    """
    ours = F.cross_entropy(logits.float(), labels, reduction="none")
    theirs = F.cross_entropy(teacher.float(), labels, reduction="none")
    return 1 - (-ours / (theirs + 1e-7)).exp()


def masked_difference(ours: Tensor, theirs: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference where a mask, which broadcasts, says so; in float32.

    What is masked may be as large as it likes: scores of padding are.
    """
    difference = torch.where(mask, ours.float() - theirs.float(), 0.0)
    return difference.square().sum() / mask.expand_as(difference).sum()
