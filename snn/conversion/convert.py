"""From a quantised network to a spiking one: every quantiser becomes its neuron, and nothing else is touched."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace as replace_fields
from typing import Any

import torch
from torch import Tensor, nn

from snn.conversion.call import call_model, labels_removed
from snn.conversion.network import SpikingNetwork
from snn.conversion.plan import Plan
from snn.conversion.quantize import quantizers, refuse_half_precision
from snn.conversion.surgery import replace
from snn.errors import ConfigError, ConversionError, did_you_mean
from snn.neurons.base import Neuron
from snn.neurons.registry import NEURONS
from snn.registry import accepted


def convert(
    model: nn.Module,
    neuron: str = "para_inf",
    T: int = 8,
    *,
    coding: str | None = None,
    execution: str = "parallel",
    chunk: int | None = None,
    spread: int = 1,
    **options: Any,
) -> SpikingNetwork:
    """A spiking copy of a quantised network.

    Args:
        model: A quantised and calibrated network in evaluation mode; it is not changed.
        neuron: Registered name.
        T: Number of time steps.
        coding: ``mean`` or ``sum``; the neuron's own if not given.
        execution: See :class:`~snn.conversion.network.SpikingNetwork`.
        chunk: Likewise.
        spread: Likewise.
        options: Arguments of the neuron, such as ``order``.

    Raises:
        ConfigError: An unknown neuron, argument or coding, or T < 1.
        ConversionError: No quantiser, one without a threshold, one that the neuron is no twin of, or a model
            in training mode.
    """
    kind = NEURONS.get(neuron)
    if T < 1:
        raise ConfigError(f"T must be at least 1; got {T}")
    check_options(kind, options)
    coding = coding or kind.codings[0]
    if coding not in kind.codings:
        raise ConfigError(
            f"neuron={neuron} works under coding {' or '.join(kind.codings)}; got neuron.coding={coding}"
        )
    found = quantizers(model)
    if not found:
        raise ConversionError(
            "the model has no quantiser, so there is nothing to convert: quantise it first (snn.quantize)"
        )
    refuse_training_mode(model)
    refuse_half_precision(model)
    made = {name: kind.from_quantizer(quantizer, **options) for name, quantizer in found.items()}
    spiking = copy.deepcopy(model)
    for name, new in made.items():
        replace(spiking, name, new.to(found[name].threshold.device))
    network = SpikingNetwork(spiking, T, coding, execution, chunk, spread)
    network.requires_grad_(False)
    return network


def check_options(kind: type[Neuron], options: Mapping[str, Any]) -> None:
    """Refuse arguments that a neuron does not take, and values that it cannot have.

    Raises:
        ConfigError: Names the argument.
    """
    known = [n for n in accepted(kind) if n not in ("threshold", "axis", "qmin", "qmax", "arguments")]
    for name in options:
        if name not in known:
            raise ConfigError(
                f"neuron.{name}: {kind.name} takes no such argument; {did_you_mean(name, known)}"
            )
    try:
        kind(torch.ones(1), None, 0, 1, **options)
    except TypeError as error:
        raise ConfigError(f"neuron={kind.name}: {error}") from None


def with_levels(model: nn.Module, levels: int) -> nn.Module:
    """A copy of a quantised network with another number of levels and the same thresholds (QCFS)."""
    changed = copy.deepcopy(model)
    for quantizer in quantizers(changed).values():
        quantizer.levels = levels
    made = getattr(changed, "plan", None)
    if isinstance(made, Plan):  # a checkpoint rebuilds its quantisers from the plan
        steps = (
            replace_fields(s, options={**(s.options or {}), "levels": levels}) if s.acts else s
            for s in made.steps
        )
        changed.plan = Plan(tuple(steps), made.rules)  # type: ignore[assignment]
    return changed


def refuse_training_mode(model: nn.Module) -> None:
    """Raise unless the model is in evaluation mode.

    Raises:
        ConversionError: Names the first module in training mode.
    """
    for name, module in model.named_modules():
        if module.training:
            raise ConversionError(
                f"the model is in training mode (first: {name or 'the model itself'}): call model.eval() first"
            )


@torch.no_grad()
def refuse_mixed_rows(model: nn.Module, batch: Mapping[str, Tensor]) -> None:
    """Raise unless each row of the output depends on that row of the input alone, and on nothing random.

    The content of the first row is replaced by the last row's; every other row must keep its output bit for
    bit, because the shapes, and so the arithmetic, are the same.

    Args:
        model: A float or quantised network in evaluation mode.
        batch: Model inputs with at least two rows.

    Raises:
        ConversionError: Rows are mixed, or two equal calls differ.
    """
    inputs = labels_removed(batch)
    rows = next(iter(inputs.values())).shape[0]
    if rows < 2:
        inputs = {k: torch.cat([v, v]) for k, v in inputs.items()}
        inputs = {k: _disturbed(v) if v.is_floating_point() else v for k, v in inputs.items()}
    before = call_model(model, inputs)
    if not torch.equal(before, call_model(model, inputs)):
        raise ConversionError(
            "two forwards of the same batch differ: the model draws random numbers or keeps state, "
            "so it cannot be run over time"
        )
    changed = {k: torch.cat([v[-1:], v[1:]]) for k, v in inputs.items()}
    if rows >= 2 or any(v.is_floating_point() for v in inputs.values()):
        after = call_model(model, changed)
        if not torch.equal(before[1:], after[1:]):
            raise ConversionError(
                "the output of a row depends on the other rows of the batch (batch statistics?), so steps would mix"
            )


def _disturbed(x: Tensor) -> Tensor:
    return torch.cat([x[:1] + x[:1].std() + 1, x[1:]])
