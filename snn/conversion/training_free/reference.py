"""The reference: what an ideal activation in a quantiser's place would put out."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from snn.errors import ConfigError, did_you_mean
from snn.functional.quantize import codes

#: From an input, a threshold that broadcasts to it, and whether the output may be negative.
Reference = Callable[[Tensor, Tensor, bool], Tensor]
REFERENCES = ("relu", "clipped_relu", "qcfs")


def reference_activation(name: str, levels: int = 8) -> Reference:
    """The reference called ``name``.

    Args:
        name: ``relu``: what the float network does; ``clipped_relu``: the same up to the threshold, as released
            for ReLU networks; ``qcfs``: a QCFS of ``levels`` levels without corrections, as released for
            networks that were trained with QCFS. Where codes are signed, each goes on below zero likewise.
        levels: At least 1.

    Raises:
        ConfigError: Unknown name, or ``levels`` below 1.

    Example:
        >>> import torch
        >>> ideal = reference_activation("clipped_relu")
        >>> ideal(torch.tensor([-1.0, 0.3, 9.0]), torch.tensor(2.0), False).tolist()
        [0.0, 0.30000001192092896, 2.0]
    """
    if name not in REFERENCES:
        raise ConfigError(
            f"conversion.correction.reference: unknown name {name!r}; {did_you_mean(name, REFERENCES)}"
        )
    if levels < 1:
        raise ConfigError(f"conversion.correction.reference_levels must be at least 1; got {levels}")

    def relu(x: Tensor, _threshold: Tensor, signed: bool) -> Tensor:
        return x if signed else x.clamp_min(0)

    def clipped_relu(x: Tensor, threshold: Tensor, signed: bool) -> Tensor:
        return relu(x, threshold, signed).minimum(threshold).maximum(-threshold)

    def qcfs(x: Tensor, threshold: Tensor, signed: bool) -> Tensor:
        step = threshold / levels
        return codes(x, step, -levels if signed else 0, levels).mul_(step)

    return {"relu": relu, "clipped_relu": clipped_relu, "qcfs": qcfs}[name]
