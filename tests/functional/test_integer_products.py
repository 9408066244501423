"""Products of spikes on integer units: as exact as float32, and never of something that has changed since."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from snn.functional.integer_products import Digits, IntegerProducts
from tests.needs import needs_integer_units

pytestmark = needs_integer_units


def emitted(
    counts: Tensor, scale: Tensor, units: list[float], products: IntegerProducts, source: str = "a"
) -> Tensor:
    steps = torch.tensor(units).repeat_interleave(len(counts) // len(units))
    output = counts.float() * scale * steps.view(-1, *[1] * (counts.dim() - 1))
    products.emit(source, output, counts, (scale,), units)
    return output


@pytest.mark.parametrize(("outputs", "inputs"), [(300, 200), (17, 768), (768, 33)])
@pytest.mark.parametrize("largest", [1, 127])
def test_no_less_exact_than_float32(outputs: int, inputs: int, largest: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(outputs, inputs) * torch.rand(outputs, 1)
    bias, scale = torch.randn(outputs), torch.rand(inputs) + 0.1
    counts = torch.randint(-largest, largest + 1, (70, inputs))
    exact = (counts.double() * scale.double()) @ weight.double().T + bias.double()
    found = Digits.of(weight, scale).linear(counts.to(torch.int8), bias)
    float32 = nn.functional.linear(counts.float() * scale, weight, bias)
    assert (found - exact).abs().max() <= 1.5 * (float32 - exact).abs().max()


def test_extremes_of_weights() -> None:
    weight = torch.tensor([[1e30, -1e30, 3e22], [0.0, 0.0, 0.0], [1e-30, -7e-31, 0.0]])
    counts = torch.tensor([[1, 0, 0], [127, -127, 1], [0, 1, -1]], dtype=torch.int8)
    exact = counts.double() @ weight.double().T
    found = Digits.of(weight).linear(counts)
    assert torch.allclose(found.double(), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("units", [[1.0], [0.25], [1.0, 0.5, 1 / 3]])
@pytest.mark.parametrize("bias", [True, False])
def test_layer_gives_the_same(units: list[float], bias: bool) -> None:
    torch.manual_seed(0)
    layer, products, scale = nn.Linear(24, 40, bias=bias), IntegerProducts(), torch.rand(24) + 0.1
    counts = torch.randint(-5, 6, (6, 16, 24), dtype=torch.int8)
    with torch.no_grad():
        x = emitted(counts, scale, units, products)
        with products:
            found = layer(x)
        expected = layer(x)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.equal(found, expected), "it was not multiplied as integers"


def test_changed_values_are_multiplied_as_they_are_now() -> None:
    torch.manual_seed(0)
    layer, products, scale = nn.Linear(24, 40), IntegerProducts(), torch.rand(24) + 0.1
    counts = torch.randint(-5, 6, (64, 24), dtype=torch.int8)
    with torch.no_grad():
        x = emitted(counts, scale, [1.0], products)
        x[:, 3] += 1  # through a view
        with products:
            assert torch.equal(layer(x), nn.functional.linear(x, layer.weight, layer.bias))


@pytest.mark.parametrize("how", ["in place", "fused optimiser", "data", "other scale"])
def test_changed_weights_are_split_anew(how: str) -> None:
    torch.manual_seed(0)
    layer, products, scale = nn.Linear(24, 40), IntegerProducts(), torch.rand(24) + 0.1
    counts = torch.randint(-5, 6, (64, 24), dtype=torch.int8)

    def run() -> Tensor:
        x = emitted(counts, scale, [1.0], products)
        with torch.no_grad(), products:
            found = layer(x)
        assert torch.allclose(found, nn.functional.linear(x, layer.weight, layer.bias), atol=1e-5)
        return found

    before = run()
    if how == "in place":
        with torch.no_grad():
            layer.weight[0] += 1
    elif how == "fused optimiser":
        optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True)
        layer(torch.randn(3, 24)).sum().backward()
        optimizer.step()
    elif how == "data":
        layer.weight.data.mul_(2)
    else:
        scale.mul_(2)
    assert not torch.allclose(run(), before, atol=1e-2)


def test_one_layer_fed_by_two_sources() -> None:
    torch.manual_seed(0)
    layer, products = nn.Linear(24, 40), IntegerProducts()
    with torch.no_grad():
        inputs = [
            emitted(
                torch.randint(-5, 6, (64, 24), dtype=torch.int8), torch.rand(24) + 0.1, [1.0], products, name
            )
            for name in "ab"
        ]
        with products:
            found = [layer(x) for x in inputs]
        for got, x in zip(found, inputs):
            assert torch.allclose(got, layer(x), atol=1e-5)


def test_sources_that_reach_no_layer_are_not_asked_again() -> None:
    products, counts = IntegerProducts(), torch.ones(64, 24, dtype=torch.int8)
    layer = nn.Linear(24, 3)
    assert products.wants("a")
    with torch.no_grad(), products:
        for name in "ab":
            x = emitted(counts, torch.ones(1), [1.0], products, name)
            layer(x) if name == "b" else x.relu()
    assert not products.wants("a")
    assert products.wants("b")
    assert copy.deepcopy(products).wants("a")
