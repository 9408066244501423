"""One value for all processes of a distributed run."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def mean_over_processes(mean: Tensor, weight: Tensor) -> Tensor:
    """The mean over all processes, each counting by its weight; ``mean`` itself where there is one process.

    A collective: every process has to call it, equally often.

    Args:
        mean: What this process found.
        weight: How many values it comes from, >= 0; where the weights of all processes are 0, so is the result.

    Shape:
        Both of the same shape, as the result.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return mean
    both = torch.stack([mean * weight, weight])
    dist.all_reduce(both)
    return both[0] / both[1].clamp_min(torch.finfo(both.dtype).tiny)


def largest_over_processes(value: Tensor) -> Tensor:
    """The largest value of all processes, number by number; a collective likewise."""
    if not (dist.is_available() and dist.is_initialized()):
        return value
    value = value.clone()
    dist.all_reduce(value, dist.ReduceOp.MAX)
    return value
