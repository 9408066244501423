"""Which rows make up which batch, in an order that depends on (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

#: Batches that are sorted by length together; enough for little padding, few enough to mix anew each epoch.
_POOL = 50


class Batches:
    """The batches of one epoch; a batch sampler for a torch ``DataLoader``.

    Args:
        rows: Number of rows in the split.
        batch_size: Rows per batch; the last one may be smaller.
        shuffle: Draw the order from (seed, epoch); otherwise the order of the file.
        seed: The run's seed.
        epoch: Counted from 0.
        start_batch: Skip this many batches, those already seen.
        drop_last: Leave out a last batch that is not full.
        lengths: Length of each row, to group rows of similar length; None: no grouping.
        limit: Only so many batches, of rows spread evenly over the split; None: all.

    Example:
        >>> list(Batches(5, 2, start_batch=1))
        [[2, 3], [4]]
        >>> list(Batches(100, 2, limit=2))
        [[0, 25], [50, 75]]
    """

    def __init__(
        self,
        rows: int,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        epoch: int = 0,
        start_batch: int = 0,
        drop_last: bool = False,
        lengths: np.ndarray | None = None,
        limit: int | None = None,
    ):
        self.batch_size, self.drop_last = batch_size, drop_last
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(rows) if shuffle else np.arange(rows)
        if limit is not None and limit * batch_size < rows:  # not the first: files may be sorted by class
            order = order[np.arange(limit * batch_size) * rows // (limit * batch_size)]
            rows = len(order)
        if lengths is not None:
            pool = _POOL * batch_size if shuffle else rows
            pools = [order[start : start + pool] for start in range(0, rows, max(pool, 1))]
            order = np.concatenate([piece[np.argsort(lengths[piece], kind="stable")] for piece in pools])
        end = rows - rows % batch_size if drop_last else rows
        batches = [order[start : min(start + batch_size, end)] for start in range(0, end, batch_size)]
        if lengths is not None and shuffle:
            batches = [batches[i] for i in rng.permutation(len(batches))]
        #: Row numbers per batch.
        self.batches = [batch.tolist() for batch in batches[start_batch:]]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)
