"""What is kept of an activation while thresholds are set: some of its rows and its largest magnitude, or its mean
magnitude. Padding counts in none of them.
"""

from __future__ import annotations

from torch import Tensor

from snn.errors import ConversionError
from snn.functional.padding import current_mask
from snn.quantizers.processes import mean_over_processes


def sample_rows(
    x: Tensor, axis: int, per_channel: bool, over_keys: bool, budget: int, turn: int = 0
) -> Tensor:
    """Evenly spaced rows of a batch.

    Args:
        x: An activation.
        axis: Axis of its channels.
        per_channel: Whether channels are kept apart; otherwise every number is a row.
        over_keys: Whether its last axis runs over tokens; such distributions are kept whole, an eighth as many.
        budget: Rows to keep at most.
        turn: Number of the batch: the spacing starts one row later for each.

    Shape:
        ``[B, ..., C, ...]`` to ``[rows, C, keys]``; C is 1 unless ``per_channel``, keys is 1 unless
        ``over_keys``.

    Raises:
        ConversionError: Distributions that are not ``[B, heads, queries, keys]``.
    """
    if over_keys and x.dim() != 4:
        raise ConversionError(
            f"probabilities of shape {tuple(x.shape)}; expected [B, heads, queries, keys]. A rule with do: keep on "
            "this call leaves them alone"
        )
    mask = current_mask(x, over_keys)
    values = x.detach().float()
    rows = values.movedim(axis, -1)
    if over_keys:
        # Whole distributions over keys stay together: [B, queries, keys, heads].
        budget = max(1, budget // 8)
        rows = rows[mask[:, 0].any(-1)] if mask is not None else rows.flatten(0, 1)
        rows = rows.transpose(1, 2)
        if not per_channel:
            rows = rows.flatten(0, 1)[:, None]
    else:
        if mask is not None:
            rows = rows[mask.expand_as(values).movedim(axis, -1)[..., 0]]
        rows = rows.reshape(-1, values.shape[axis] if per_channel else 1, 1)
    stride = max(1, -(-rows.shape[0] // budget))
    return rows[turn % stride :: stride].clone()


def mean_magnitude(x: Tensor, axis: int, per_channel: bool, over_keys: bool) -> Tensor:
    """Mean of ``|x|`` over the batches of all processes.

    Args:
        x: An activation.
        axis: Axis of its channels.
        per_channel: Whether channels are kept apart.
        over_keys: Whether its last axis runs over tokens.

    Shape:
        ``[B, ..., C, ...]`` to ``[C]``, or to ``[1]`` unless ``per_channel``.
    """
    values = x.detach().float().abs().movedim(axis, 0)
    rows = values.shape[0] if per_channel else 1
    mask = current_mask(x, over_keys)
    if mask is None:
        values = values.reshape(rows, -1)
        mean, count = values.mean(1), values.new_full((rows,), values.shape[1])
    else:
        real = mask.expand_as(x).movedim(axis, 0)
        values = values.masked_fill(~real, 0).reshape(rows, -1)
        count = real.reshape(rows, -1).sum(1).to(values.dtype)
        mean = values.sum(1) / count.clamp_min(1)
    return mean_over_processes(mean, count)


def largest_magnitude(x: Tensor, axis: int, per_channel: bool, over_keys: bool, signed: bool) -> Tensor:
    """Largest ``|x|`` of a batch, or, unless ``signed``, largest ``x`` above 0; of all its values, not of some rows.

    Shape:
        ``[B, ..., C, ...]`` to ``[C]``, or to ``[1]`` unless ``per_channel``.
    """
    values, mask = x.detach().float(), current_mask(x, over_keys)
    values = values.abs() if signed else values.clamp_min(0)
    if mask is not None:
        values = values.masked_fill(~mask, 0)
    return values.movedim(axis, 0).flatten(1).amax(1) if per_channel else values.amax().reshape(1)
