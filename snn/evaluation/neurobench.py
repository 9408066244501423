"""The figures of a network that the NeuroBench benchmark asks for."""

from __future__ import annotations

from typing import Any

from torch import nn

from snn.evaluation.evaluate import Measurement
from snn.evaluation.operations import OperationCounts


def neurobench(network: nn.Module, measured: Measurement) -> dict[str, Any]:
    """Footprint, sparsity and synaptic operations.

    Args:
        network: The network that was measured.
        measured: What :func:`snn.evaluate` found, with spikes counted.

    Returns:
        ``parameters`` (how many; thresholds of converted networks are none), ``footprint_bytes`` of parameters and
        buffers, ``connection_sparsity`` (share of zeros among the weights of layers), ``activation_sparsity`` (share
        of neurons and steps without a spike), and per sample ``dense_macs`` (one forward of a network without time),
        ``effective_macs`` and ``effective_acs``. Effective are operations with an activation that is not zero; zero
        weights are not skipped.

    Reference:
        Yik et al., NeuroBench, Nature Communications 2025.
    """
    tensors = {t.data_ptr(): t for t in [*network.parameters(), *network.buffers()]}
    result: dict[str, Any] = {
        "parameters": sum(p.numel() for p in network.parameters()),
        "footprint_bytes": sum(t.numel() * t.element_size() for t in tensors.values()),
        "connection_sparsity": connection_sparsity(network),
        "activation_sparsity": None if measured.spike_rate is None else 1 - measured.spike_rate,
    }
    return result | (_synaptic(measured.operations) if measured.operations else {})


def connection_sparsity(model: nn.Module) -> float:
    """Share of zeros among the weights of linear layers and convolutions.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> _ = layer.weight.data.copy_(layer.weight.new_tensor([[1, 0], [0, 0]]))
        >>> connection_sparsity(layer)
        0.75
    """
    found = {
        id(weight): weight
        for module in model.modules()
        if not isinstance(module, nn.Embedding)
        and (weight := getattr(module, "weight", None)) is not None
        and weight.dim() > 1
    }
    total = sum(weight.numel() for weight in found.values())
    zeros = sum(int((weight == 0).sum()) for weight in found.values())
    return zeros / total if total else 0.0


def _synaptic(counts: OperationCounts) -> dict[str, float]:
    return {
        "dense_macs": sum(p.dense for p in counts.products),
        "effective_macs": sum(sum(p.macs) for p in counts.products if not counts.accumulated(p.product)),
        "effective_acs": sum(
            sum(sum(side) for side in p.accumulates) for p in counts.products if counts.accumulated(p.product)
        ),
    }
