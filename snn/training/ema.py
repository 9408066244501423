"""Moving average of a network's weights: a network of its own, which is judged and kept in place of the trained one."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class WeightAverage(nn.Module):
    """``average <- d * average + (1 - d) * weights`` after every step, with ``d = min(decay, (1 + n) / (10 + n))`` at
    step n, so that the random start is forgotten soon.

    Statistics of norms are averaged alike; whole numbers are copied. Thresholds that are set while training are taken
    as they are when they come.

    Args:
        network: What is averaged; not changed.
        decay: In (0, 1).

    Reference:
        Polyak and Juditsky, 1992; the warm-up is TensorFlow's ``ExponentialMovingAverage``.

    Example:
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> average = WeightAverage(layer, decay=0.5)
        >>> before = layer.weight.item()
        >>> with torch.no_grad():
        ...     _ = layer.weight.add_(1)
        >>> average.update(layer)
        >>> round(average.network.weight.item() - before, 4)
        0.9
    """

    updates: Tensor

    def __init__(self, network: nn.Module, decay: float):
        super().__init__()
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.register_buffer("updates", torch.tensor(0))

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take one step's weights into the average."""
        count = int(self.updates)
        share = 1 - min(self.decay, (1 + count) / (10 + count))
        self.updates += 1
        ours, theirs = self.network.state_dict(), network.state_dict()
        if any(ours[key].shape != value.shape for key, value in theirs.items()):
            self.network.load_state_dict(theirs)
            return
        floating = [key for key, value in ours.items() if value.is_floating_point()]
        torch._foreach_lerp_([ours[key] for key in floating], [theirs[key] for key in floating], share)
        for key in ours.keys() - set(floating):
            ours[key].copy_(theirs[key])
