"""Spiking networks that multiply spikes as integers, beside the same in floating point."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest
import torch

import snn
from snn.functional import integer_products
from snn.functional.integer_products import Digits
from tests.conversion.transformers import quantised
from tests.needs import needs_integer_units

T = 8
CASES = {
    ("para_inf", "qcfs"): ("parallel", "collapsed"),
    ("integrate_fire", "qcfs"): ("parallel", "stepwise"),
    ("st_bif", "lsq"): ("parallel", "stepwise", "collapsed"),
}


@contextmanager
def counted() -> Iterator[list[int]]:
    """How many rows were multiplied as integers, by layer; small layers are, too."""
    rows: list[int] = []
    linear = Digits.linear

    def count(self: Digits, counts: torch.Tensor, *arguments: object) -> torch.Tensor:
        rows.append(counts.numel() // counts.shape[-1])
        return linear(self, counts, *arguments)  # type: ignore[arg-type]

    with patch.object(Digits, "linear", count), patch.object(integer_products, "_FEWEST_ROWS", 1):
        yield rows


@needs_integer_units
@pytest.mark.parametrize("name", ["bert", "vit"])
@pytest.mark.parametrize(("neuron", "quantizer"), CASES)
def test_same_read_out(name: str, neuron: str, quantizer: str) -> None:
    model, inputs = quantised(name, "spikezip", quantizer, levels=T, dtype=torch.float32)
    network = snn.convert(model, neuron, T)
    for execution in CASES[neuron, quantizer]:
        with torch.no_grad(), counted() as rows:
            expected = network(execution=execution, **inputs)
            assert not rows
            found = network(execution=execution, integer=True, **inputs)
        assert len(rows) >= 4, "queries, keys, values and what follows them"
        assert torch.allclose(found.logits, expected.logits, atol=1e-5)
        for layer, spikes in found.spikes.items():
            assert torch.equal(spikes.total, expected.spikes[layer].total), layer


@needs_integer_units
@pytest.mark.parametrize("why", ["gradients", "float64", "not asked", "no such units"])
def test_only_where_it_is_as_exact(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dtype = torch.float64 if why == "float64" else torch.float32
    model, inputs = quantised("bert", "spikezip", "qcfs", levels=T, dtype=dtype)
    network = snn.convert(model, "para_inf", T)
    if dtype == torch.float32:
        with torch.no_grad(), counted() as rows:
            network(integer=True, **inputs)
        assert rows, "otherwise it is"
    if why == "no such units":
        monkeypatch.setattr(integer_products, "has_integer_units", lambda: False)
    with torch.set_grad_enabled(why == "gradients"), counted() as rows:
        found = network(integer=why != "not asked", **inputs)
        assert torch.equal(found.logits, network(**inputs).logits)
    assert not rows
