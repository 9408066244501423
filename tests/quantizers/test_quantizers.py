"""What holds for every registered quantiser."""

from __future__ import annotations

import copy

import pytest
import torch

from snn.errors import ConfigError, ConversionError
from snn.quantizers.base import Quantizer
from snn.quantizers.registry import QUANTIZERS

every_quantizer = pytest.mark.parametrize("name", QUANTIZERS.names())
both_signs = pytest.mark.parametrize("signed", [False, True])


def make(name: str, per_channel: torch.Tensor | None = None, **arguments) -> Quantizer:
    quantizer = QUANTIZERS.get(name)(**arguments)
    if per_channel is not None:
        quantizer.set_threshold(per_channel)
    return quantizer


def test_ranges_of_codes() -> None:
    assert make("qcfs", levels=8).bounds == (0, 8)
    assert make("qcfs", levels=8, signed=True).bounds == (-8, 8)
    assert make("lsq", levels=8).bounds == (0, 7)
    assert make("lsq", levels=8, signed=True).bounds == (-4, 3)
    assert make("lsq", levels=15, signed=True).bounds == (-8, 6)


@every_quantizer
@both_signs
def test_outputs_are_codes_times_the_step(name: str, signed: bool) -> None:
    quantizer = make(name, torch.tensor([0.3, 1.0, 2.0]), levels=8, signed=signed).double()
    x = 4 * torch.randn(50, 3, dtype=torch.float64)
    code = quantizer(x) / quantizer.step_size(x)
    torch.testing.assert_close(code, code.round(), rtol=0, atol=1e-12)
    assert (code.round().min(), code.round().max()) == quantizer.bounds


@every_quantizer
@both_signs
def test_quantising_twice_changes_nothing(name: str, signed: bool) -> None:
    quantizer = make(name, torch.tensor([0.25, 1.0, 2.0]), levels=8, signed=signed)
    once = quantizer(torch.randn(50, 3))
    assert torch.equal(quantizer(once), once)


@every_quantizer
@pytest.mark.parametrize(
    ("shape", "axis"), [((2, 3, 5, 6), None), ((2, 5, 3), None), ((2, 3), None), ((2, 3, 5), 1)]
)
def test_each_channel_has_its_threshold(name: str, shape: tuple[int, ...], axis: int | None) -> None:
    x = torch.randn(shape)
    quantizer = make(name, torch.tensor([0.3, 1.0, 2.0]), signed=True, axis=axis)
    channel = quantizer.resolve_axis(x)
    together = quantizer(x)
    for index, value in enumerate([0.3, 1.0, 2.0]):
        alone = make(name, torch.tensor([value]), signed=True)
        assert torch.equal(together.select(channel, index), alone(x.select(channel, index)))


@every_quantizer
def test_input_and_every_threshold_get_a_gradient(name: str) -> None:
    quantizer = make(name, torch.tensor([0.5, 1.5]), levels=8, signed=True)
    x = torch.randn(20, 2, requires_grad=True)
    quantizer(x).square().sum().backward()
    assert quantizer.threshold.grad.abs().min() > 0
    assert x.grad.abs().max() > 0


@every_quantizer
def test_an_optimiser_cannot_make_the_threshold_negative(name: str) -> None:
    quantizer = make(name, torch.tensor([0.5, 1.5]), signed=True)
    x = torch.randn(20, 2)
    before = quantizer(x)
    with torch.no_grad():
        quantizer.threshold.neg_()
    assert (quantizer.positive_threshold() > 0).all()
    assert torch.equal(quantizer(x), before)
    with torch.no_grad():
        quantizer.threshold.zero_()
    assert quantizer(x).isfinite().all()


@every_quantizer
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_quantised_in_single(name: str, dtype: torch.dtype) -> None:
    """Codes and gradients are those of single precision, rounded at the end; as under autocast."""
    quantizer = make(name, torch.tensor([0.7]))
    half = (2 * torch.randn(300)).to(dtype)
    found = []
    for x in (half.requires_grad_(), half.detach().float().requires_grad_()):
        quantizer.threshold.grad = None
        y = quantizer(x)
        y.backward(torch.linspace(-1, 1, 300).to(dtype).to(x.dtype))
        assert y.dtype == x.dtype
        found.append((y.detach().to(dtype), x.grad.to(dtype), quantizer.threshold.grad.clone()))
    for a, b in zip(*found):
        assert torch.equal(a, b)


@every_quantizer
def test_a_network_of_half_precision_keeps_its_thresholds_in_single(name: str) -> None:
    value = torch.tensor([0.1234567, 3.1415927])
    for change in (torch.nn.Module.half, torch.nn.Module.bfloat16):
        quantizer = make(name, value)
        change(quantizer)
        assert quantizer.threshold.dtype == torch.float32
        assert torch.equal(quantizer.threshold, value)
    assert make(name, value).double().threshold.dtype == torch.float64


@every_quantizer
def test_an_optimiser_keeps_its_hold_when_a_state_is_loaded_or_a_threshold_set(name: str) -> None:
    """Its parameter changes in place, also where the number of channels becomes known only then."""
    saved = make(name, torch.tensor([0.5, 1.5])).state_dict()
    for change in (
        lambda quantizer: quantizer.load_state_dict(copy.deepcopy(saved)),
        lambda quantizer: quantizer.set_threshold(torch.tensor([0.5, 1.5])),
    ):
        quantizer = make(name)
        optimizer = torch.optim.SGD(quantizer.parameters(), lr=0.1)
        change(quantizer)
        quantizer(torch.randn(20, 2)).square().sum().backward()
        optimizer.step()
        assert (quantizer.threshold != torch.tensor([0.5, 1.5])).all()


@every_quantizer
def test_a_number_is_one_threshold_for_all(name: str) -> None:
    quantizer = make(name, threshold=0.5, granularity="channel")
    assert quantizer.granularity == quantizer.arguments()["granularity"] == "tensor"


@every_quantizer
def test_state_dict_carries_any_number_of_channels(name: str) -> None:
    quantizer = make(name, torch.tensor([0.5, 1.5, 2.5]))
    empty = make(name)
    assert not empty.calibrated
    empty.load_state_dict(copy.deepcopy(quantizer.state_dict()))
    assert empty.calibrated
    x = torch.randn(20, 3)
    assert torch.equal(empty(x), quantizer(x))


@every_quantizer
def test_arguments_rebuild_it(name: str) -> None:
    given = {"levels": 6, "signed": True, "granularity": "tensor", "axis": 1, "init": "ema20"}
    quantizer = make(name, **given)
    assert given.items() <= quantizer.arguments().items()
    assert make(name, **quantizer.arguments()).arguments() == quantizer.arguments()


@every_quantizer
def test_step_and_parameter_are_inverse(name: str) -> None:
    quantizer = make(name, torch.tensor([1.0]), levels=8)
    quantizer.set_threshold(quantizer.from_step(quantizer.step_for(torch.tensor([2.0, 3.0]))))
    largest = quantizer(torch.full((1, 2), 100.0))
    torch.testing.assert_close(largest, torch.tensor([[2.0, 3.0]]))


@every_quantizer
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": 0}, "quantization.levels must be at least 1; got 0"),
        ({"granularity": "layer"}, "quantization.granularity must be one of channel, tensor; got 'layer'"),
        (
            {"init": "first"},
            "quantization.init must be one of mse, max, percentile, first_batch, ema20, one_over_qp; got 'first'",
        ),
        ({"threshold": -1.0}, "quantization.threshold must be positive; got -1.0"),
        ({"threshold": 0.0}, "quantization.threshold must be positive; got 0.0"),
        ({"threshold": float("nan")}, "quantization.threshold must be positive; got nan"),
    ],
)
def test_bad_arguments(name: str, arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        make(name, **arguments)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("levels", "signed", "least"),
    [(1, False, "unsigned.*at least 2"), (2, True, "signed.*at least 4"), (3, True, "4")],
)
def test_lsq_needs_a_positive_code(levels: int, signed: bool, least: str) -> None:
    with pytest.raises(
        ConfigError, match=f"quantization.levels={levels} leaves no positive code for .*{least}"
    ):
        make("lsq", levels=levels, signed=signed)
    assert make("lsq", levels=int(least[-1]), signed=signed).bounds[1] == 1


@every_quantizer
def test_no_threshold_yet(name: str) -> None:
    with pytest.raises(ConversionError, match=f"a {name} quantiser has no threshold yet: calibrate first"):
        make(name)(torch.zeros(2))


@every_quantizer
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_thresholds_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConversionError, match="a threshold must be positive and finite"):
        make(name, torch.tensor([1.0, value]))


@every_quantizer
def test_another_number_of_channels_is_refused(name: str) -> None:
    with pytest.raises(
        ConversionError, match=rf"a {name} quantiser with 3 channels met an input of shape \(2, 4\)"
    ):
        make(name, torch.ones(3))(torch.zeros(2, 4))


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match="quantization: unknown name 'qcsf'; did you mean 'qcfs'"):
        QUANTIZERS.get("qcsf")
