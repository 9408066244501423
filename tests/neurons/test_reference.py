"""The neuron in aggregate coordinates against what the method's own code gives, spike for spike."""

from __future__ import annotations

import pytest
import torch

from snn.neurons.st_bif import STBIF
from snn.quantizers.lsq import LSQ
from tests.functional.reference import arrays, cases

from .drive import spikes

pytestmark = pytest.mark.reference


@pytest.mark.parametrize("chunk", [1, 5, 48])
def test_st_bif(chunk: int) -> None:
    data = arrays("spikezip/st_bif")
    for prefix in cases(data, "_quantized_sum"):
        quantizer = LSQ(int(data[f"{prefix}_level"]), signed=bool(data[f"{prefix}_sym"]))
        quantizer.set_threshold(data[f"{prefix}_threshold"])
        neuron = STBIF.from_quantizer(quantizer)
        emitted = spikes(neuron, data[f"{prefix}_x"], "sum", chunk)
        assert torch.equal(emitted, (data[f"{prefix}_out"] / data[f"{prefix}_threshold"]).round()), prefix
        assert torch.equal(emitted.cumsum(0), data[f"{prefix}_tracer"]), prefix
