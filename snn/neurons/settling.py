"""When each sample of a run settles: after which step none of its counts changes any more."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm

from snn.neurons.run import Run, Seen, Watcher


class Settling(Watcher):
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

    def watch(self, run: Run, neuron: nn.Module, call: int, mask: Tensor | None, samples: slice) -> Seen:
        if self._moved is None:
            assert run.rows is not None
            self._moved = torch.zeros(run.steps, run.rows.numel(), device=self.steps.device)
        moved = iter(self._moved[:, samples])

        def see(spikes: Tensor) -> None:
            if mask is not None:  # how long padding goes on depends on what the batch looks like
                spikes = spikes * mask
            by_sample = spikes.unflatten(0, (samples.stop - samples.start, -1))
            # A norm: on a CPU many times as fast as ``any``.
            next(moved).add_(vector_norm(by_sample, dim=tuple(range(1, by_sample.dim()))))

        return see

    def end_chunk(self, run: Run) -> Tensor:
        """Take note of the chunk.

        Returns:
            For each sample in force, whether one of its counts changed in the last step.
        """
        assert run.rows is not None
        if self._moved is None:
            return torch.zeros_like(run.rows, dtype=torch.bool)
        moved, self._moved = self._moved != 0, None
        times = torch.arange(run.times.start, run.times.stop, device=moved.device)
        last = (moved * times[:, None]).amax(0)
        self.steps[run.rows] = torch.maximum(self.steps[run.rows], last)
        return moved[-1]
