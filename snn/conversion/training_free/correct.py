"""Set the shifts and heights of a DA-QCFS network from a few batches, without labels and without gradients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from snn.conversion.quantize import quantizers
from snn.conversion.training_free.branches import calls_in_order, ready, reference_branch
from snn.conversion.training_free.lockstep import run_in_lockstep
from snn.conversion.training_free.pairs import Pairs, pair, rows_of
from snn.conversion.training_free.reference import Reference, reference_activation
from snn.conversion.training_free.rules import RULES, Rule
from snn.conversion.training_free.weights import Moments, input_rows, solvable, solve
from snn.errors import ConfigError, ConversionError, did_you_mean
from snn.progress import progress
from snn.quantizers.base import Quantizer
from snn.quantizers.da_qcfs import DAQCFS

ORDERS = ("layerwise", "online")


@torch.no_grad()
def correct(
    model: nn.Module,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    rule: str = "spread",
    order: str = "layerwise",
    reference: str = "relu",
    reference_levels: int = 8,
    decay: float = 0.99,
    rate: float = 0.5,
    rows: int = 16384,
    weights: bool = False,
) -> nn.Module:
    """Set every shift and height so that the quantised network does on average what the float one does.

    Args:
        model: A calibrated network with DA-QCFS quantisers; changed in place.
        batches: Model inputs; ``labels`` are ignored.
        rule: One of :data:`~snn.conversion.training_free.rules.RULES`.
        order: ``layerwise``: one quantiser after the other, in the order in which they run, each over all
            batches, so that every one is corrected for what the corrected ones before it do; ``online``: all at
            once at every batch, which takes as many forwards as there are batches.
        reference: What a quantiser ought to put out; see
            :func:`~snn.conversion.training_free.reference.reference_activation`.
        reference_levels: For ``reference=qcfs``.
        decay: See :class:`~snn.conversion.training_free.rules.Rule`.
        rate: Likewise.
        rows: Pairs of input values looked at per channel and quantiser, over all batches.
        weights: Whether linear layers and convolutions are solved anew for quantised inputs, each when all
            before it is corrected; see :mod:`~snn.conversion.training_free.weights`. ``layerwise`` only.

    Raises:
        ConfigError: An unknown rule, order or reference, or a number out of range.
        ConversionError: No batch, no DA-QCFS quantiser, or one without a threshold.
    """
    if rule not in RULES:
        raise ConfigError(f"conversion.correction.rule: unknown name {rule!r}; {did_you_mean(rule, RULES)}")
    if order not in ORDERS:
        raise ConfigError(
            f"conversion.correction.order: unknown name {order!r}; {did_you_mean(order, ORDERS)}"
        )
    if weights and order != "layerwise":
        raise ConfigError("conversion.correction.weights needs conversion.correction.order=layerwise")
    ideal = reference_activation(reference, reference_levels)
    taken = ready(model, batches)
    refuse_solved_weights(model)
    rules = {
        name: RULES[rule](quantizer, decay, rate)
        for name, quantizer in quantizers(model).items()
        if isinstance(quantizer, DAQCFS)
    }
    if not rules:
        name = next(iter(quantizers(model).values())).name
        raise ConversionError(f"quantization={name} has no shift and height to correct; da_qcfs has")
    training = model.training
    model.eval()
    try:
        if order == "online":
            _online(model, taken, rules, ideal, rows)
        else:
            _layerwise(model, taken, rules, ideal, rows, weights)
        if weights:
            for corrected in rules.values():
                corrected.quantizer.weights_for = corrected.quantizer.levels
    finally:
        model.train(training)
    return model


def refuse_solved_weights(model: nn.Module) -> None:
    """Raise if the network's weights are not the float network's any more, so that it is no reference.

    Raises:
        ConversionError: Says for how many levels they were solved.
    """
    for name, quantizer in quantizers(model).items():
        levels = quantizer.arguments().get("weights_for")
        if levels is not None:
            raise ConversionError(
                f"{name}: the network's weights were solved anew for {levels} levels "
                f"(conversion.correction.weights), so it cannot be corrected again, nor for another T: "
                f"start from the float network"
            )


def _online(
    model: nn.Module,
    batches: list[Mapping[str, Tensor]],
    rules: Mapping[str, Rule],
    reference: Reference,
    rows: int,
) -> None:
    networks, budget = (model, reference_branch(model, reference)), max(1, rows // len(batches))
    for turn, batch in enumerate(batches):
        seen: list[tuple[Rule, Pairs]] = []

        def take(module: nn.Module, x: Tensor, _turn: int, turn: int = turn) -> Tensor:
            assert isinstance(module, Quantizer)
            return rows_of(module, x, budget, turn)

        def visit(name: str, kept: list[tuple[Tensor, ...]], seen: list[tuple[Rule, Pairs]] = seen) -> bool:
            rule, (got, wanted) = rules[name], kept[0]
            seen.append((rule, pair(rule.quantizer, got, wanted, reference)))
            rule.update_shift(seen[-1][1])
            return True

        run_in_lockstep(networks, [batch], rules, take, visit)
        # What was passed on in this batch had the new shifts and the old heights.
        for rule, pairs in seen:
            rule.update_height(pairs)


def _layerwise(
    model: nn.Module,
    batches: list[Mapping[str, Tensor]],
    rules: Mapping[str, Rule],
    reference: Reference,
    rows: int,
    weights: bool,
) -> None:
    networks, budget = (model, reference_branch(model, reference)), max(1, rows // len(batches))
    linear = [name for name, module in model.named_modules() if weights and solvable(module)]
    waiting = calls_in_order(model, batches[0], [*rules, *linear])
    corrected = progress(range(len(waiting)), "corrections, layer by layer")
    next(corrected, None)

    def take(module: nn.Module, x: Tensor, turn: int) -> Tensor:
        keep = rows_of if isinstance(module, Quantizer) else input_rows
        return keep(module, x, budget, turn)  # type: ignore[arg-type]

    def visit(name: str, kept: list[tuple[Tensor, ...]]) -> bool:
        module = model.get_submodule(name)
        calls_seen[name] += 1
        if isinstance(module, Quantizer):
            pairs.setdefault(name, []).extend(pair(module, got, wanted, reference) for got, wanted in kept)
        else:
            for got, wanted in kept:
                moments.setdefault(name, Moments()).add(got, wanted)
        if calls_seen[name] < waiting[name]:
            return True
        calls = waiting.pop(name)
        next(corrected, None)
        if isinstance(module, Quantizer):
            rules[name].fit(pairs.pop(name))
        else:
            solve(module, moments.pop(name))
        # Earlier calls of the same module have gone by uncorrected: start again, with it corrected.
        return calls == 1

    while waiting:
        calls_seen, pairs, moments = Counter[str](), dict[str, list[Pairs]](), dict[str, Moments]()
        before = len(waiting)
        run_in_lockstep(networks, batches, list(waiting), take, visit)
        if len(waiting) == before:
            raise ConversionError(f"{next(iter(waiting))} is called more or less often from batch to batch")
