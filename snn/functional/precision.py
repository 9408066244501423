"""In which type rounding and thresholds are exact enough."""

from __future__ import annotations

import torch
from torch import Tensor


def exact_type(x: Tensor) -> torch.dtype:
    """Type in which spikes and codes of ``x`` are computed: its own, or float32 where it is of half precision, whose 8
    or 11 bits are too few to round a ratio, or to add up a membrane.

    Example:
        >>> exact_type(torch.ones(1, dtype=torch.bfloat16)), exact_type(torch.ones(1, dtype=torch.float64))
        (torch.float32, torch.float64)
    """
    return torch.promote_types(x.dtype, torch.float32)
