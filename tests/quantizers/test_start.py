"""Steps from the first training batches."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from snn.errors import ConversionError
from snn.functional.padding import valid_positions
from snn.quantizers.base import Quantizer
from snn.quantizers.lsq import LSQ
from snn.quantizers.registry import QUANTIZERS
from snn.quantizers.start import STARTS
from snn.quantizers.thresholds import estimate_threshold

every_quantizer = pytest.mark.parametrize("name", QUANTIZERS.names())
every_start = pytest.mark.parametrize("init", STARTS)


def make(name: str = "lsq", init: str = "first_batch", **arguments) -> Quantizer:
    return QUANTIZERS.get(name)(**{"levels": 10, "signed": True, "init": init, **arguments})


def steps(quantizer: Quantizer, channels: int = 1) -> Tensor:
    return quantizer.step_size(torch.zeros(1, channels)).detach().flatten()


def magnitude_step(x: Tensor, quantizer: Quantizer, dims: int | None = None) -> Tensor:
    """2 mean|x| / sqrt(largest code), as published."""
    return 2 * x.abs().mean(dims) / math.sqrt(quantizer.bounds[1])


@every_quantizer
def test_first_batch_alone_sets_the_step(name: str) -> None:
    quantizer, first, second = make(name), torch.randn(7, 3), 9 * torch.randn(7, 3)
    y = quantizer(first)
    torch.testing.assert_close(steps(quantizer, 3), magnitude_step(first, quantizer, 0))
    # It is set before that batch is quantised.
    code = y / steps(quantizer, 3)
    torch.testing.assert_close(code, code.round(), rtol=0, atol=1e-5)
    before = steps(quantizer, 3)
    quantizer(second)
    assert torch.equal(steps(quantizer, 3), before)


@every_quantizer
def test_moving_average_over_twenty_batches(name: str) -> None:
    quantizer = make(name, "ema20", granularity="tensor")
    batches = torch.randn(25, 6, 3)
    expected: list[Tensor] = []
    for index, x in enumerate(batches):
        quantizer(x)
        m = magnitude_step(x, quantizer)
        if index < 20:
            expected.append(m if index == 0 else 0.9 * expected[-1] + 0.1 * m)
        torch.testing.assert_close(steps(quantizer)[0], expected[-1])


def test_one_over_largest_code() -> None:
    quantizer = make(init="one_over_qp", levels=16, signed=False, axis=1)
    probabilities = torch.randn(2, 3, 4, 4).softmax(-1)
    y = quantizer(probabilities)
    assert torch.equal(quantizer.threshold, torch.full((3,), 1 / 15))
    assert torch.equal(
        quantizer(torch.ones(1, 3, 1, 1)), torch.full((1, 3, 1, 1), 15 * (1 / torch.tensor(15)))
    )
    assert (y - probabilities).abs().max() <= 0.5 / 15 + 1e-6


@every_quantizer
@every_start
def test_calibration_pass_gives_the_step_that_training_gives(name: str, init: str) -> None:
    """Where nothing is trained in between: the mean magnitudes of the same batches."""
    batches = torch.randn(23, 5, 3)
    trained, observed = make(name, init), make(name, init)
    observed.observe(0)
    for x in batches:
        trained(x)
        assert torch.equal(observed(x), x)
    assert not observed.calibrated
    observed.set_threshold(observed.from_step(observed.step_for(estimate_threshold(observed, init))))
    torch.testing.assert_close(observed.threshold, trained.threshold)


@every_start
def test_an_optimiser_built_before_trains_the_step(init: str) -> None:
    quantizer, layer = make(init=init), nn.Linear(3, 3)
    optimizer = torch.optim.Adam([*layer.parameters(), *quantizer.parameters()], lr=0.01)
    for _ in range(2 * STARTS[init].batches):
        optimizer.zero_grad()
        quantizer(layer(torch.randn(8, 3))).square().sum().backward()
        optimizer.step()
    before = quantizer.threshold.detach().clone()
    quantizer(layer(torch.randn(8, 3))).square().sum().backward()
    assert torch.equal(quantizer.threshold, before)
    optimizer.step()
    assert (quantizer.threshold != before).all()


@every_quantizer
def test_a_saved_count_goes_on_and_never_starts_anew(name: str) -> None:
    whole, batches = make(name, "ema20"), torch.randn(30, 5, 3)
    for x in batches[:7]:
        whole(x)
    halfway = make(name, "ema20")
    halfway.load_state_dict(copy.deepcopy(whole.state_dict()))
    for x in batches[7:]:
        whole(x)
        halfway(x)
        assert torch.equal(halfway.threshold, whole.threshold)
    finished = make(name, "ema20")
    finished.load_state_dict(copy.deepcopy(whole.state_dict()))
    finished(100 * torch.randn(5, 3))
    assert torch.equal(finished.threshold, whole.threshold)


@every_quantizer
def test_thresholds_that_were_set_are_not_started(name: str) -> None:
    given = make(name, threshold=0.5)
    given(torch.randn(5, 3))
    assert given.threshold.item() == 0.5
    loud = make(name)
    loud.set_threshold(torch.tensor([0.25]))
    loud(torch.randn(5, 3))
    assert loud.threshold.item() == 0.25
    # As the state of a neuron is, which has a threshold and nothing to count.
    loaded = make(name)
    state = {key: value for key, value in loud.state_dict().items() if key != "batches_left"}
    loaded.load_state_dict({**state, "threshold": torch.tensor([0.75])})
    loaded(torch.randn(5, 3))
    assert loaded.threshold.item() == 0.75


@every_start
def test_in_evaluation_it_has_to_be_calibrated_first(init: str) -> None:
    quantizer = make(init=init).eval()
    with pytest.raises(ConversionError, match="a lsq quantiser has no threshold yet: calibrate first"):
        quantizer(torch.randn(3, 2))
    assert not quantizer.calibrated


def test_without_a_start_training_does_not_set_it_either() -> None:
    for init in (None, "mse"):
        with pytest.raises(ConversionError, match="calibrate first"):
            LSQ(init=init)(torch.randn(3, 2))


@every_quantizer
@pytest.mark.parametrize("init", ["first_batch", "ema20"])
def test_no_step_is_zero(name: str, init: str) -> None:
    silent = make(name, init)
    silent(torch.zeros(4, 3))
    torch.testing.assert_close(steps(silent, 3), torch.full((3,), 1 / silent.bounds[1]))
    for _ in range(25):
        silent(torch.zeros(4, 3))
    torch.testing.assert_close(steps(silent, 3), torch.full((3,), 1 / silent.bounds[1]))
    partly, x = make(name, init), torch.randn(50, 4)
    x[:, 1] = 0
    partly(x)
    others = steps(partly, 4)[[0, 2, 3]]
    torch.testing.assert_close(others, magnitude_step(x, partly, 0)[[0, 2, 3]])
    assert steps(partly, 4)[1] == others.median()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_not_finite(value: float) -> None:
    quantizer, x = make(), torch.randn(4, 3)
    x[1, 1] = value
    with pytest.raises(ConversionError, match="activations are not finite while a lsq quantiser starts"):
        quantizer(x)
    assert not quantizer.calibrated
    quantizer.observe(0)
    quantizer(x)
    with pytest.raises(ConversionError, match="activations are not finite while thresholds were set"):
        estimate_threshold(quantizer, "first_batch")


@every_quantizer
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 2, 3, 4)])
def test_padding_counts_in_no_step(name: str, granularity: str, shape: tuple[int, ...]) -> None:
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    x = torch.randn(shape)
    real = mask.bool().reshape(2, *[1] * (len(shape) - 3), 3, 1).expand(shape)
    quantizer = make(name, granularity=granularity, axis=-1)
    with valid_positions(mask):
        quantizer(x.masked_fill(~real, torch.inf))
    kept = x[real].reshape(-1, 4)
    want = magnitude_step(kept, quantizer, 0 if granularity == "channel" else None)
    torch.testing.assert_close(steps(quantizer, want.numel()), want.reshape(-1))


def test_padded_keys_count_in_no_step_of_attention_probabilities() -> None:
    mask = torch.tensor([[1, 1, 1, 0, 0, 0]])
    scores = torch.randn(1, 2, 6, 6).masked_fill(mask[:, None, None] == 0, -torch.inf)
    quantizer = make(granularity="tensor")
    quantizer.over_keys = True
    with valid_positions(mask):
        quantizer(scores.softmax(-1))
    # Each of the three real queries spreads 1 over three real keys.
    torch.testing.assert_close(steps(quantizer)[0], 2 * torch.tensor(1 / 3) / quantizer.bounds[1] ** 0.5)


@every_quantizer
@every_start
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_any_precision_counts_in_single(name: str, init: str, dtype: torch.dtype) -> None:
    quantizer, single = make(name, init), make(name, init)
    for _ in range(3):
        x = torch.randn(64, 3).to(dtype)
        quantizer(x)
        single(x.float())
    assert torch.equal(quantizer.threshold, single.threshold)
    assert quantizer.threshold.dtype == torch.float32
