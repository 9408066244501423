"""Thresholds from data."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from snn.errors import ConfigError, ConversionError
from snn.functional.padding import valid_positions
from snn.functional.quantize import qcfs
from snn.quantizers.base import Quantizer
from snn.quantizers.qcfs import QCFS
from snn.quantizers.registry import ESTIMATES, QUANTIZERS
from snn.quantizers.thresholds import estimate_threshold

every_quantizer = pytest.mark.parametrize("name", QUANTIZERS.names())


def seen(name: str, *batches: Tensor, rows: int = 10_000, **arguments) -> Quantizer:
    quantizer = QUANTIZERS.get(name)(**{"levels": 4, "signed": True, **arguments})
    quantizer.observe(rows)
    for batch in batches:
        quantizer(batch)
    return quantizer


@every_quantizer
def test_what_is_passed_on_while_observing_is_what_infinitely_many_levels_would_give(name: str) -> None:
    x = torch.randn(20, 3)
    for signed, want in ((True, x), (False, x.relu())):
        quantizer = QUANTIZERS.get(name)(signed=signed)
        quantizer.observe(100)
        assert torch.equal(quantizer(x), want)


def test_maximum_is_of_the_magnitude_over_all_batches() -> None:
    first, second = torch.tensor([[1.0, -3.0], [0.5, 2.0]]), torch.tensor([[-4.0, 0.0]])
    assert estimate_threshold(seen("qcfs", first, second), "max").tolist() == [4, 3]
    assert estimate_threshold(seen("qcfs", first, second, signed=False), "max").tolist() == [1, 2]
    assert estimate_threshold(seen("qcfs", first, second, granularity="tensor"), "max").tolist() == [4]


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_maximum_is_exact_however_few_rows_are_kept(granularity: str) -> None:
    x = torch.randn(3, 500, 4)
    found = estimate_threshold(seen("qcfs", *x, rows=5, granularity=granularity), "max")
    assert torch.equal(found, x.abs().amax((0, 1)) if granularity == "channel" else x.abs().max().reshape(1))
    x[2, 17, 1] = torch.inf
    with pytest.raises(ConversionError, match="not finite"):
        estimate_threshold(seen("qcfs", *x, rows=5, granularity=granularity), "max")


def test_percentile() -> None:
    x = torch.arange(1.0, 101)[:, None] * torch.tensor([1.0, -2.0])
    assert estimate_threshold(seen("qcfs", x), "percentile", 90).tolist() == [90, 180]
    assert estimate_threshold(seen("qcfs", x), "percentile", 100).tolist() == [100, 200]


def test_masked_keys_count_in_no_percentile_of_attention_probabilities() -> None:
    """Padded keys and, under a causal mask, later ones have probability 0; how many must not matter."""
    keys = torch.arange(8)
    scores = torch.randn(50, 2, 8, 8)
    found = []
    for longer in (0, 5):
        wide = nn.functional.pad(
            scores.masked_fill(keys > keys[:, None], -torch.inf), (0, longer), value=-torch.inf
        )
        quantizer = QCFS(levels=4)
        quantizer.over_keys = True
        quantizer.observe(10_000)
        quantizer(wide.softmax(-1))
        found.append(estimate_threshold(quantizer, "percentile", 50))
        probabilities = wide.softmax(-1).movedim(1, 0).flatten(1)
        real = torch.stack([p[p > 0] for p in probabilities])
        torch.testing.assert_close(found[-1], real.quantile(0.5, dim=1), rtol=0, atol=2e-3)
    assert torch.equal(*found)


@pytest.mark.parametrize("percentile", [0, -1, 100.1])
def test_percentile_out_of_range(percentile: float) -> None:
    with pytest.raises(ConfigError, match=r"quantization.percentile must be in \(0, 100\]; got"):
        estimate_threshold(seen("qcfs", torch.ones(3, 2)), "percentile", percentile)


@every_quantizer
@pytest.mark.parametrize("signed", [False, True])
def test_least_squared_error_beats_the_maximum_in_every_channel(name: str, signed: bool) -> None:
    x = torch.randn(500, 6) ** 3 * torch.logspace(-2, 2, 6)
    errors = {}
    for method in ("mse", "max"):
        quantizer = seen(name, x, signed=signed)
        estimate = estimate_threshold(quantizer, method)
        quantizer.set_threshold(quantizer.from_step(quantizer.step_for(estimate)))
        errors[method] = (quantizer(x) - x).square().sum(0)
    assert (errors["mse"] < errors["max"]).all()


@pytest.mark.parametrize("method", ESTIMATES)
def test_a_channel_that_never_spoke_takes_the_median(method: str) -> None:
    x = torch.rand(200, 4) * torch.tensor([1.0, 0.0, 2.0, 3.0])
    threshold = estimate_threshold(seen("qcfs", x), method, 100)
    assert threshold[1] == threshold[[0, 2, 3]].median()
    negative = torch.cat([x[:, :1], -x[:, 2:3], x[:, 2:]], 1)
    unsigned = estimate_threshold(seen("qcfs", negative, signed=False), method, 100)
    assert unsigned[1] == unsigned[[0, 2, 3]].median()


@pytest.mark.parametrize("method", ESTIMATES)
def test_all_channels_silent(method: str) -> None:
    threshold = estimate_threshold(seen("qcfs", torch.zeros(5, 3)), method)
    assert (threshold == 1).all()


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 2, 3, 4)])
def test_padding_counts_in_no_threshold(granularity: str, shape: tuple[int, ...]) -> None:
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    x = torch.randn(shape)
    real = mask.bool().reshape(2, *[1] * (len(shape) - 3), 3, 1)
    dirty = torch.where(real, x, torch.tensor(1000.0))
    with valid_positions(mask):
        got = estimate_threshold(seen("qcfs", dirty, granularity=granularity, axis=-1), "max")
    kept = x[real.expand(shape)].reshape(-1, 4) if len(shape) == 3 else (x * real).reshape(-1, 4)
    want = kept.abs().amax(0 if granularity == "channel" else None).reshape(-1)
    assert torch.equal(got, want)


def test_no_more_rows_than_asked_for_are_kept_and_batches_differ_in_which() -> None:
    x = torch.arange(100.0)[:, None]
    quantizer = seen("qcfs", x, x, rows=10)
    assert quantizer.take_samples().flatten().tolist() == [*range(0, 100, 10), *range(1, 100, 10)]


def test_pictures_have_their_channels_on_axis_one() -> None:
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(estimate_threshold(seen("qcfs", x), "max"), x.abs().amax((0, 2, 3)))


def test_nothing_seen() -> None:
    with pytest.raises(ConversionError, match="saw no data while thresholds were set: is its module used"):
        estimate_threshold(seen("qcfs"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_finite(value: float) -> None:
    with pytest.raises(ConversionError, match="activations are not finite while thresholds were set"):
        estimate_threshold(seen("qcfs", torch.tensor([[1.0, value]])))


def test_unknown_method() -> None:
    with pytest.raises(
        ConfigError,
        match=r"quantization.init must be one of mse, max, percentile, first_batch, ema20, one_over_qp; got 'mean'",
    ):
        estimate_threshold(seen("qcfs", torch.ones(2, 2)), "mean")


def test_a_distribution_over_keys_keeps_more_of_its_mass() -> None:
    """By squared error alone, many small probabilities would round to zero beside a few large ones."""
    probabilities = (3 * torch.randn(64, 1, 1, 24)).softmax(-1)  # [B, heads, queries, keys]
    mass, squared = {}, {}
    for over_keys in (False, True):
        quantizer = QCFS(levels=4, axis=1)
        quantizer.over_keys = over_keys
        quantizer.observe(10_000)
        quantizer(probabilities)
        error = qcfs(probabilities, estimate_threshold(quantizer, "mse"), 4) - probabilities
        mass[over_keys] = float(error.sum(-1).square().sum())
        squared[over_keys] = float(error.square().sum())
    assert mass[True] < 0.85 * mass[False]
    assert squared[True] + mass[True] < squared[False] + mass[False]
