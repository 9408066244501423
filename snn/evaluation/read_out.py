"""What a network would say at each time step: when its prediction stays, and all its read-outs of a split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from snn.conversion.call import labels_removed
from snn.conversion.network import SpikingNetwork
from snn.errors import DataError
from snn.evaluation.exit_cost import ExitCost
from snn.progress import progress


def decision_times(logits: Tensor) -> Tensor:
    """First time step, 1-based, from which the predicted class stays what it is at the end.

    Args:
        logits: The read-out after each step.

    Shape:
        ``[T, B, C]`` to ``[B]``, int64 in 1..T.

    Example:
        >>> decision_times(torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]], [[0.0, 2.0]], [[0.0, 3.0]]]))
        tensor([3])
    """
    said = logits.argmax(-1)
    times = torch.arange(1, len(said) + 1, device=said.device)[:, None]
    return (times * (said != said[-1])).amax(0) + 1


def full_execution(network: SpikingNetwork) -> str:
    """An execution that computes every time step: the network's own, unless that skips to the end."""
    return "parallel" if network.execution == "collapsed" else network.execution


class ReadOuts(NamedTuple):
    """Read-outs of a split.

    Args:
        logits: After each step, ``[T, N, C]``, float64.
        labels: ``[N]``.
        settled: Step after which no count of a sample changed any more, so that it could leave; T where that was not
            found out, ``[N]``.
    """

    logits: Tensor
    labels: Tensor
    settled: Tensor


@torch.no_grad()
def read_outs(
    network: SpikingNetwork,
    batches: Iterable[Mapping[str, Tensor]],
    description: str,
    cost: ExitCost | None = None,
) -> ReadOuts:
    """Run a network over labelled batches and keep its read-out after every step.

    Args:
        network: The network.
        batches: Mappings of model inputs and ``labels``.
        description: What the progress bar says.
        cost: What runs the batches and adds up what they cost; ``None``: nothing is counted.

    Raises:
        DataError: No batch, or one without labels.
    """
    device = next(iter(network.neurons.values())).threshold.device
    # Where signals are sums, samples settle, and a run that counts spikes finds out when.
    options = {"execution": full_execution(network), "record": network.coding == "sum"}
    outputs, labels = [], []
    for batch in progress(batches, description):
        if "labels" not in batch:
            raise DataError("dataset: read-outs are compared with labels, but the split has none")
        inputs = {k: v.to(device) for k, v in labels_removed(batch).items()}
        output = cost(inputs) if cost else network(**options, **inputs)
        outputs.append((output.logits.double().cpu(), output.settled.cpu()))
        labels.append(batch["labels"].cpu())
    if not outputs:
        raise DataError("dataset: there is nothing to evaluate: the split is empty")
    logits, settled = zip(*outputs)
    return ReadOuts(torch.cat(logits, 1), torch.cat(labels), torch.cat(settled))
