"""What is connected to what in a spiking network, and how much work that makes: dense, and per spike.

Texts differ in length, and padding is not to count. So texts of a few lengths are watched, and in between every
number is the polynomial in the length that goes through them: attention is quadratic, all else at most linear.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from snn.conversion.call import first_sample
from snn.conversion.fan_out import FanOut, FanOutWatch, watch_fan_out
from snn.conversion.network import SpikingNetwork
from snn.conversion.products import Product
from snn.errors import ConversionError
from snn.neurons.tally import Selection

log = logging.getLogger(__name__)

#: Lengths of the texts that are watched, and that of one more, which has to agree.
LENGTHS, CHECK = (2, 3, 5), 4
#: One number at each of the lengths; a single one where inputs have no length.
AtLengths = tuple[float, ...]


@dataclass(frozen=True)
class Wire:
    """One layer's way into one factor of a product.

    Args:
        layer: Whose spikes.
        factor: 0: the left one, 1: the right one.
        selection: Which of them: 0 all, otherwise the place among the layer's selections, from 1.
        macs: Multiply-accumulates that one of these spikes takes part in (times its weight in the selection).
        exact: Whether that is known of every neuron, and not only on average.
        delay: How many steps later than it is fired a spike arrives.
    """

    layer: str
    factor: int
    selection: int
    macs: AtLengths
    exact: bool
    delay: int = 0


@dataclass(frozen=True)
class Operator:
    """One matrix product.

    Args:
        product: What it is.
        macs: Multiply-accumulates per sample and step if computed densely.
        wires: The spikes that feed it.
        alone: Whether each value is one neuron's output, and no sum of several.
        start: First step that takes it, counted from 0; None: it is computed once.
    """

    product: Product
    macs: AtLengths
    wires: tuple[Wire, ...]
    alone: bool
    start: int | None = 0


@dataclass(frozen=True)
class Analog:
    """Non-linear work outside the neurons: module, what is computed, values per sample and step, and first step."""

    module: str
    op: str
    values: AtLengths
    start: int | None = 0


@dataclass
class Wiring:
    """All of a network.

    Args:
        operators: Matrix products, in order of execution.
        analog: Non-linear work, likewise.
        selections: By layer, spikes that are to be counted apart.
        lengths: At which numbers are given; empty where inputs have no length.
    """

    operators: list[Operator] = field(default_factory=list)
    analog: list[Analog] = field(default_factory=list)
    selections: dict[str, list[Selection]] = field(default_factory=dict)
    lengths: tuple[int, ...] = ()

    def basis(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Weights with which numbers at the lengths add up to those of each sample, ``[B, lengths]``."""
        if not self.lengths:
            first = next(x for x in inputs.values() if x.dim())
            return torch.ones(first.shape[0], 1, dtype=torch.float64, device=first.device)
        mask = inputs["attention_mask"].bool()
        return _basis(mask.sum(1, dtype=torch.float64), self.lengths)


#: Wirings by network, and by the shapes of one sample where they decide.
_known: WeakKeyDictionary[nn.Module, dict[Any, Wiring]] = WeakKeyDictionary()
#: Network and one sample → what it computes.
Watcher = Callable[[Any, Mapping[str, Tensor]], FanOutWatch]


def wire(network: nn.Module, inputs: Mapping[str, Tensor], watch: Watcher = watch_fan_out) -> Wiring:
    """Watch what a network does with one sample, or with texts of several lengths made from it.

    A network is watched once; nothing that training changes plays a part.

    Args:
        network: Any; left as it was found.
        inputs: A batch on its device, of which the first sample is taken.
        watch: How a network of this kind is watched.

    Raises:
        ConversionError: The work does not follow from the length of the text.
    """
    shapes = None if "attention_mask" in inputs else tuple(v.shape[1:] for v in inputs.values())
    known = _known.setdefault(network, {})
    if shapes not in known:
        known[shapes] = _watch(network, inputs, watch)
    return known[shapes]


def wired(network: SpikingNetwork, inputs: Mapping[str, Tensor]) -> Wiring | None:
    """The network's wiring; ``None``, and a warning, where there is none: all but operations can be measured."""
    try:
        return wire(network, inputs)
    except ConversionError as error:
        log.warning("operations are not counted: %s", error)
        return None


def _watch(network: nn.Module, inputs: Mapping[str, Tensor], watch: Watcher) -> Wiring:
    rows = first_sample(inputs)
    lengths = LENGTHS if "attention_mask" in inputs else ()
    texts = [_of_length(rows, length) for length in lengths] or [rows]
    watches = [watch(network, text) for text in texts]
    result = Wiring(lengths=lengths)
    names = [[(p.module, p.op, len(f)) for p, f in zip(w.products, w.fan_outs)] for w in watches]
    if any(other != names[0] for other in names):
        raise ConversionError("operations: texts of different lengths go through different products")
    for index, product in enumerate(watches[0].products):
        fed = zip(*(w.fan_outs[index] for w in watches))
        wires = tuple(
            replace(_wire(result.selections, same, bool(lengths)), delay=same[0].delay) for same in fed
        )
        macs = tuple(float(w.products[index].macs) for w in watches)
        alone = all(f.alone for f in watches[0].fan_outs[index])
        result.operators.append(Operator(product, macs, wires, alone, watches[0].starts[index]))
    for index, dense in enumerate(watches[0].dense):
        values = tuple(float(w.dense[index].elements) for w in watches)
        result.analog.append(Analog(dense.module, dense.op, values, watches[0].dense_starts[index]))
    if lengths:
        _check(result, watch(network, _of_length(rows, CHECK)))
    return result


def _of_length(rows: Mapping[str, Tensor], length: int) -> dict[str, Tensor]:
    """A text of that many tokens, none of them padding, from the real tokens of the first one."""
    mask = rows["attention_mask"]
    real = mask[0].nonzero().flatten()
    chosen = real[torch.arange(length, device=real.device) % len(real)]
    long = mask.shape[1]
    return {k: v[:, chosen] if v.dim() > 1 and v.shape[1] == long else v for k, v in rows.items()}


def _wire(selections: dict[str, list[Selection]], same: Sequence[FanOut], texts: bool) -> Wire:
    """From what one layer does in one product, at each length."""
    first, exact = same[0], all(f.exact for f in same)
    means = tuple(float(f.macs.mean()) for f in same)
    if all(bool((f.macs == f.macs[0]).all()) for f in same):
        return Wire(first.layer, first.factor, 0, means, exact)
    # A layer of tokens may be used alike at each of them: one row tells all.
    rows = [_alike(f) for f in same] if texts else [first.macs]
    known = [row for row in rows if row is not None]
    if len(known) == len(rows):
        units = [int(np.gcd.reduce(row.long().numpy())) for row in known]
        weights = [row / unit for row, unit in zip(known, units)]
        if all(torch.equal(one, weights[0]) for one in weights):
            selection = Selection(weights=weights[0].float())
            place = _place(selections.setdefault(first.layer, []), selection)
            return Wire(first.layer, first.factor, place, tuple(map(float, units)), exact)
    tokens = [_one_token(f) for f in same]
    if tokens[0] is None or any(token != tokens[0] for token in tokens):
        return Wire(first.layer, first.factor, 0, means, exact=False)
    place = _place(selections.setdefault(first.layer, []), Selection(token=tokens[0]))
    return Wire(first.layer, first.factor, place, tuple(float(f.macs.max()) for f in same), exact)


def _alike(fan_out: FanOut) -> Tensor | None:
    """What the neurons of each token do, if those of all tokens do the same, ``[D]``."""
    if len(fan_out.shape) != 3:
        return None
    by_token = fan_out.macs.reshape(fan_out.shape[1:])
    return by_token[0] if bool((by_token == by_token[0]).all()) else None


def _one_token(fan_out: FanOut) -> int | None:
    """The only token whose spikes are used, if there is one and all of its neurons are alike."""
    shape = fan_out.shape
    if len(shape) not in (3, 4):
        return None
    by_token = fan_out.macs.reshape(shape[1:])
    by_token = by_token if len(shape) == 3 else by_token.movedim(1, 0).flatten(1)
    used = by_token.any(1).nonzero().flatten().tolist()
    alike = len(used) == 1 and bool((by_token[used[0]] == by_token[used[0], 0]).all())
    return used[0] if alike else None


def _place(known: list[Selection], new: Selection) -> int:
    for index, old in enumerate(known, start=1):
        if old.token == new.token and (
            old.weights is new.weights
            or (old.weights is not None and new.weights is not None and torch.equal(old.weights, new.weights))
        ):
            return index
    known.append(new)
    return len(known)


def _basis(x: Tensor, lengths: Sequence[int]) -> Tensor:
    """Lagrange polynomials of the lengths at ``x``: ``[B]`` to ``[B, lengths]``."""
    columns = []
    for a in lengths:
        column = torch.ones_like(x)
        for b in lengths:
            if a != b:
                column = column * (x - b) / (a - b)
        columns.append(column)
    return torch.stack(columns, 1)


def _check(found: Wiring, watch: FanOutWatch) -> None:
    basis = _basis(torch.tensor([float(CHECK)], dtype=torch.float64), found.lengths)[0].tolist()
    expected = [*(p.macs for p in watch.products), *(d.elements for d in watch.dense)]
    numbers = [*(o.macs for o in found.operators), *(a.values for a in found.analog)]
    for right, at in zip(expected, numbers, strict=True):
        if abs(sum(b * n for b, n in zip(basis, at)) - right) > 1e-6 * right:
            raise ConversionError(
                "operations: the work of a layer is no polynomial of second degree in the length of the text"
            )
