"""Inputs and biases that arrive over the first K steps instead of at the first.

In running sums, what is given in K equal parts is ``min(t, K)/K`` of itself at step t. So continuous inputs are
scaled, and so is the constant term of every affine function of a signal, by whatever module it is called. The
rest depends on running sums alone and needs nothing: norms, softmax and its mask, embeddings, positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from snn.errors import ConversionError
from snn.functional.time_axis import repeat_over_time, unfold

_BIAS = {2: "bias"}
#: Affine functions, and their constant terms: place among the arguments, and name. Statistics of a batch norm are
#: constants in evaluation.
_CONSTANTS: dict[Any, dict[int, str]] = {
    functional.linear: _BIAS,
    functional.conv1d: _BIAS,
    functional.conv2d: _BIAS,
    functional.conv3d: _BIAS,
    functional.conv_transpose1d: _BIAS,
    functional.conv_transpose2d: _BIAS,
    functional.conv_transpose3d: _BIAS,
    functional.batch_norm: {1: "running_mean", 4: "bias"},
    torch.addmm: {0: "input"},
    Tensor.addmm: {0: "input"},
}
#: Have affine functions inside that nobody sees from outside.
_OPAQUE = {functional.multi_head_attention_forward}


def shares(times: range, spread: int) -> list[float]:
    """Share of the input that has arrived by each step.

    Example:
        >>> shares(range(1, 6), spread=4)
        [0.25, 0.5, 0.75, 1.0, 1.0]
    """
    return [min(t, spread) / spread for t in times]


def over_time(name: str, value: Any, arrived: Sequence[float]) -> Any:
    """A model input at each step of a chunk, steps outermost: continuous values scaled, all others as they are.

    Args:
        name: Name of the input; a mask is whole at every step, whatever its type.
        value: The input.
        arrived: Share of it that has arrived by each step.

    Shape:
        ``[B, ...]`` to ``[len(arrived)*B, ...]``.
    """
    if not isinstance(value, Tensor) or value.dim() == 0:
        return value
    if not value.is_floating_point() or name.endswith("mask") or min(arrived) == 1:
        return repeat_over_time(value, len(arrived))
    return torch.cat([value if share == 1 else value * share for share in arrived])


class SpreadBiases(TorchFunctionMode):
    """While it is active, biases are scaled at the steps at which not all of the input has arrived.

    Steps at which all of it has are computed by the call that was made, on their rows. What does not depend on
    the model's inputs, such as a table of positions that passes through a layer, is computed once and whole.

    Args:
        inputs: Model inputs of the chunk, steps outermost.
        arrived: Share of the input that has arrived by each step.

    Raises:
        ConversionError: A bias cannot be reached, or steps cannot be told apart.
    """

    def __init__(self, inputs: Mapping[str, Any], arrived: Sequence[float]):
        super().__init__()
        self.arrived = arrived
        self.rows = next(x.shape[0] for x in inputs.values() if isinstance(x, Tensor) and x.dim())
        self._signals = WeakTensorKeyDictionary()
        self._mark(inputs)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not any(x in self._signals for x in _tensors((args, kwargs))):
            return func(*args, **kwargs)
        if func in _OPAQUE:
            raise ConversionError(f"neuron.spread: {func.__name__} hides its biases; use neuron.spread=1")
        result = self._affine(func, args, kwargs) if func in _CONSTANTS else func(*args, **kwargs)
        self._mark(args[:1] if result is None else result)  # ``x[i] = y`` returns nothing
        return result

    def _mark(self, value: Any) -> None:
        for tensor in _tensors(value):
            self._signals[tensor] = True

    def _affine(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
        groups = [(share, len(list(steps))) for share, steps in groupby(self.arrived)]
        if len(groups) == 1:
            return self._call(func, args, kwargs, groups[0][0])
        first, parts = 0, []
        for share, steps in groups:
            chosen = slice(first, first + steps)
            some = [self._at_steps(func, x, chosen) for x in args]
            named = {name: self._at_steps(func, x, chosen) for name, x in kwargs.items()}
            parts.append(self._call(func, some, named, share))
            first += steps
        return torch.cat(parts)

    def _at_steps(self, func: Any, value: Any, steps: slice) -> Any:
        """The rows of a signal at some steps of the chunk; anything else as it is."""
        if not (isinstance(value, Tensor) and value in self._signals):
            return value
        if value.shape[0] % self.rows:
            raise ConversionError(
                f"neuron.spread: {func.__name__} got {value.shape[0]} rows, and steps times samples are {self.rows}: "
                "the first axis must run over samples; use neuron.spread=1 or execution=stepwise"
            )
        return unfold(value, len(self.arrived))[steps].flatten(0, 1)

    def _call(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], share: float) -> Tensor:
        """Call an affine function with its constant terms scaled; where nothing is missing, as it was called."""
        if share == 1:
            return func(*args, **kwargs)
        constants = _CONSTANTS[func]
        scaled = [self._scaled(x, share) if i in constants else x for i, x in enumerate(args)]
        named = {k: self._scaled(x, share) if k in constants.values() else x for k, x in kwargs.items()}
        return func(*scaled, **named)

    def _scaled(self, value: Any, share: float) -> Any:
        return value * share if isinstance(value, Tensor) and value not in self._signals else value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
    elif isinstance(value, tuple | list):
        for inner in value:
            yield from _tensors(inner)
