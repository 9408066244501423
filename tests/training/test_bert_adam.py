"""BERT's Adam against reference trajectories, and against its equations written out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from snn.errors import ConfigError
from snn.instantiate import instantiate
from snn.training.bert_adam import BertAdam

PATH = Path(__file__).parents[3] / "shared" / "golden" / "spikingbert" / "bertadam.npz"
#: Those of the reference trajectories.
RATE, STEPS, WARMUP = 0.05, 12, 0.25


def published_warmup(step: int) -> float:
    done = step / STEPS
    return done / WARMUP if done < WARMUP else max((done - 1) / (WARMUP - 1), 0)


@pytest.mark.reference
@pytest.mark.parametrize(
    ("name", "factor"), [("constant", lambda step: 1.0), ("warmup_linear", published_warmup)]
)
def test_reference_trajectories(name: str, factor) -> None:
    if not PATH.exists():
        pytest.skip(f"no reference arrays at {PATH}")
    with np.load(PATH) as file:
        start, gradients, wanted = (torch.as_tensor(file[k]) for k in ("p0", "grads", f"traj_{name}"))
    parameter = torch.nn.Parameter(start)
    optimizer = BertAdam([parameter], lr=RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    for gradient, after in zip(gradients, wanted):
        parameter.grad = gradient
        optimizer.step()
        schedule.step()
        torch.testing.assert_close(parameter.detach(), after, rtol=0, atol=1e-6)


def test_every_tensor_is_clipped_by_itself() -> None:
    short, long = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
    optimizer = BertAdam([short, long], lr=1.0, eps=1.0, weight_decay=0.0)
    short.grad, long.grad = torch.tensor([0.3, 0.4]), torch.tensor([30.0, 40.0])
    optimizer.step()
    clipped = torch.tensor([0.6, 0.8])
    for parameter, gradient in ((short, torch.tensor([0.3, 0.4])), (long, clipped)):
        update = 0.1 * gradient / ((0.001 * gradient**2).sqrt() + 1)
        torch.testing.assert_close(parameter.detach(), -update)
    assert torch.equal(long.grad, torch.tensor([30.0, 40.0]))  # read only


def test_it_goes_on_where_it_stopped() -> None:
    def steps(optimizer: BertAdam, parameter: torch.nn.Parameter, numbers: range) -> None:
        for number in numbers:
            parameter.grad = torch.sin(number + torch.arange(3.0))
            optimizer.step()

    whole, first, second = (torch.nn.Parameter(torch.ones(3)) for _ in range(3))
    steps(BertAdam([whole], lr=0.1), whole, range(6))
    before = BertAdam([first], lr=0.1)
    steps(before, first, range(3))
    after = BertAdam([second], lr=0.1)
    after.load_state_dict(before.state_dict())
    second.data = first.detach().clone()
    steps(after, second, range(3, 6))
    assert torch.equal(whole, second)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lr": -1.0}, "lr must not be negative; got -1.0"),
        ({"betas": [0.9, 1.0]}, "betas must be two numbers in"),
        ({"max_norm": 0.0}, "max_norm must be positive; got 0.0"),
    ],
)
def test_settings_that_cannot_work(settings: dict, words: str) -> None:
    target = {"_target_": "snn.training.bert_adam.BertAdam"}
    with pytest.raises(ConfigError, match=f"optimizer: {words}"):
        instantiate({**target, **settings}, "optimizer", params=[torch.nn.Parameter(torch.ones(1))])
