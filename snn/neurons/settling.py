"""When each sample of a run settles: after which step none of its counts changes any more."""

from __future__ import annotations

import torch
from torch import Tensor

from snn.neurons.run import Event, Run


class Settling:
    """Observer that keeps the last step at which a count changed, sample by sample.

    Everything stays on the device: no neuron makes the host wait.

    Args:
        rows: The samples of the run.
        least: Step before which nothing counts as settled, because input is still arriving.
    """

    in_parts = True

    def __init__(self, rows: Tensor, least: int):
        #: The last step at which one of the sample's counts changed, ``[B]``.
        self.steps = torch.full_like(rows, least)
        self._moved: Tensor | None = None

    def __call__(self, run: Run, event: Event) -> None:
        counts = event.counts
        changed = torch.empty_like(counts, dtype=torch.bool)
        torch.ne(counts[0], event.previous, out=changed[0])
        torch.ne(counts[1:], counts[:-1], out=changed[1:])
        # The largest byte: on a CPU many times as fast as ``any``.
        moved = changed.view(torch.uint8).unflatten(1, (event.size, -1)).flatten(2).amax(2)
        if self._moved is None:
            self._moved = moved.new_zeros(len(counts), event.batch)
        self._moved[:, event.samples] |= moved

    def end_chunk(self, run: Run) -> Tensor:
        """Take note of the chunk.

        Returns:
            For each sample in force, whether one of its counts changed in the last step.
        """
        assert run.rows is not None
        if self._moved is None:
            return torch.zeros_like(run.rows, dtype=torch.bool)
        moved, self._moved = self._moved.bool(), None
        times = torch.arange(run.times.start, run.times.stop, device=moved.device)
        last = (moved * times[:, None]).amax(0)
        self.steps[run.rows] = torch.maximum(self.steps[run.rows], last)
        return moved[-1]
