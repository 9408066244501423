"""Steps over several processes: two real ones, each with a part of the data."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from snn.quantizers.lsq import LSQ
from snn.quantizers.registry import INITS
from snn.quantizers.start import STARTS
from snn.quantizers.thresholds import estimate_threshold

#: Rows of each process; their numbers differ on purpose.
ROWS = (5, 3)


def batches() -> Tensor:
    """``[batches, rows, channels]``; channel 1 speaks in the first process alone, channel 2 in neither."""
    x = torch.randn(22, sum(ROWS), 4, generator=torch.Generator().manual_seed(3))
    x[:, ROWS[0] :, 1] = 0
    x[:, :, 2] = 0
    return x


def thresholds(data: Tensor) -> dict[str, Tensor]:
    """What all initialisations make of batches: while training, and while observing."""
    found = {}
    for granularity in ("channel", "tensor"):
        for init in STARTS:
            quantizer = LSQ(signed=True, init=init, granularity=granularity)
            for x in data:
                quantizer(x)
            found[f"{granularity}, {init}, trained"] = quantizer.threshold.detach()
        for init in INITS:
            quantizer = LSQ(signed=True, granularity=granularity)
            quantizer.observe(0 if init in STARTS else 100)
            for x in data:
                quantizer(x)
            found[f"{granularity}, {init}, observed"] = estimate_threshold(quantizer, init)
    return found


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=len(ROWS))
    try:
        torch.save(thresholds(batches().split(ROWS, dim=1)[rank]), f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


def test_all_processes_hold_the_same_step(tmp_path: Path) -> None:
    mp.spawn(work, (str(tmp_path),), nprocs=len(ROWS))
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(len(ROWS)))
    alone = thresholds(batches())
    parts = [thresholds(part) for part in batches().split(ROWS, dim=1)]
    assert first.keys() == second.keys() == alone.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key
        if any(init in key for init in (*STARTS, "max")):
            # As one process finds it that has all of the data.
            torch.testing.assert_close(value, alone[key], msg=key)
        else:
            # The mean of what each finds, by their rows; a channel that is silent in one counts in the other alone.
            one, other = (part[key] for part in parts)
            expected = (ROWS[0] * one + ROWS[1] * other) / sum(ROWS)
            if key.startswith("channel"):
                expected[1] = one[1]
                expected[2] = expected[[0, 1, 3]].median()  # it never spoke
            torch.testing.assert_close(value, expected, msg=key)
