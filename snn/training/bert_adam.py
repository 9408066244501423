"""The Adam that BERT was released with: no bias correction, and every tensor clipped by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class BertAdam(torch.optim.Optimizer):
    """Adam without bias correction, with decoupled weight decay.

        m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2,  p = p - lr (m / (sqrt(v) + eps) + decay p)

    where ``g`` is the gradient of one tensor, scaled down to ``max_norm`` if it is longer. Without the correction the
    first steps are short, so that a warm-up of the rate matters less than with ``torch.optim.AdamW``. A clipping of
    the whole gradient by the training loop comes before this one: ``training.clip_norm: null`` leaves it out.

    Args:
        params: Parameters or groups of them.
        lr: Learning rate, >= 0.
        betas: Decay of the two means, in [0, 1).
        eps: Added to the root.
        weight_decay: Share of a parameter that is taken off per unit of rate.
        max_norm: Longest gradient of one tensor; None: any.

    Raises:
        ValueError: A value out of range.

    Reference:
        Devlin et al., NAACL 2019 (released code).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 5e-5,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        max_norm: float | None = 1.0,
    ):
        for name, value in (("lr", lr), ("eps", eps), ("weight_decay", weight_decay)):
            if not value >= 0:
                raise ValueError(f"{name} must not be negative; got {value}")
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas must be two numbers in [0, 1); got {betas}")
        if max_norm is not None and not max_norm > 0:
            raise ValueError(f"max_norm must be positive; got {max_norm}")
        defaults = {"lr": lr, "betas": tuple(betas), "eps": eps}
        super().__init__(params, defaults | {"weight_decay": weight_decay, "max_norm": max_norm})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """One update of all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            first, second = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                gradient = parameter.grad
                if group["max_norm"] is not None:
                    # The small number is that of torch.nn.utils.clip_grad_norm_.
                    gradient = gradient * (group["max_norm"] / (gradient.norm() + 1e-6)).clamp(max=1)
                state = self.state[parameter]
                if not state:
                    state.update(mean=torch.zeros_like(parameter), square=torch.zeros_like(parameter))
                mean, square = state["mean"], state["square"]
                mean.lerp_(gradient, 1 - first)
                square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
                update = mean / square.sqrt().add_(group["eps"])
                update.add_(parameter, alpha=group["weight_decay"])
                parameter.sub_(update, alpha=group["lr"])
        return loss
