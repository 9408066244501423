"""Products of spikes on the integer matrix units of a CPU.

A spike count is a small integer, so a product with float32 weights needs no float32 arithmetic: each weight is
written as three signed digits to the base 256, as a multiple of a step of its row, and three products of 8-bit
integers, whose sums are exact, are put together. The error is that of rounding a weight to 2^-24 of the greatest
of its row, which is what float32 does to that one; the products themselves add none.

It needs the int8 products of oneDNN that torch has on x86, and pays where these run on AMX tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

#: Greatest magnitude of a count.
LARGEST = 127
#: Fewest rows for which three small products are faster than one in float32.
_FEWEST_ROWS = 48
#: Every how many rows of a matrix are looked at, to see whether it has changed.
_LOOKED_AT = 16


@cache
def has_integer_units() -> bool:
    """Whether this machine multiplies 8-bit integers faster than floats, and this torch can ask it to."""
    return bool(torch.cpu._is_amx_tile_supported()) and hasattr(torch.ops.onednn, "qlinear_pointwise")


def integers_pay(device: torch.device) -> bool:
    """Whether what is computed there now may be multiplied as integers: on such a CPU, and without gradients."""
    return device.type == "cpu" and not torch.is_grad_enabled() and has_integer_units()


@dataclass(frozen=True)
class Digits:
    """A matrix as three of 8-bit integers.

    Args:
        packed: The three: digits from the lowest to the highest, in the layout that the products want.
        steps: What one of each is worth, by row, ``[N]`` each.
    """

    packed: tuple[Tensor, ...]
    steps: tuple[Tensor, ...]

    @staticmethod
    def of(weight: Tensor, *scales: Tensor) -> Digits:
        """Split a matrix.

        Args:
            weight: Float32.
            scales: Multiplied to its columns first, ``[K]`` or ``[1]`` each.

        Shape:
            ``[N, K]``.
        """
        exact = weight.detach().double()
        for scale in scales:
            exact = exact * scale.detach().double()
        step = exact.abs().amax(1, keepdim=True).clamp_min_(torch.finfo(torch.float32).tiny) / (127 * 256**2)
        rest = (exact / step).round_().to(torch.int32)
        digits = []
        for _ in range(3):
            digit = rest.to(torch.int8)  # the low byte, signed
            rest = (rest - digit) >> 8
            digits.append(torch.ops.onednn.qlinear_prepack(digit, None))
        worth = [(step.flatten() * 256**place).float() for place in range(3)]
        return Digits(tuple(digits), tuple(worth))

    def linear(self, counts: Tensor, bias: Tensor | None = None, unit: float = 1.0) -> Tensor:
        """``unit · counts @ weight.T + bias``.

        Args:
            counts: int8.
            bias: ``[N]``.
            unit: What one count is worth.

        Shape:
            ``[..., K]`` to ``[..., N]``, float32.
        """
        ops = torch.ops.onednn
        rows = counts.reshape(-1, counts.shape[-1])
        zero = _zeros(len(self.steps[0]))
        out = ops.qlinear_pointwise(
            rows, unit, 0, self.packed[0], self.steps[0], zero, bias, 1.0, 0, torch.float32, "none", [], ""
        )
        for packed, step in zip(self.packed[1:], self.steps[1:]):  # added in place
            out = ops.qlinear_pointwise.binary(
                *(rows, unit, 0, packed, step, zero, out, None, 1.0, 0, torch.float32),
                *(1.0, 0, "sum", 1.0, "none", [], ""),
            )
        return out.reshape(*counts.shape[:-1], -1)


@cache
def _zeros(size: int) -> Tensor:
    return torch.zeros(size, dtype=torch.int64)


@dataclass(frozen=True)
class _Emitted:
    """What a tensor was made of: ``counts × scales × the unit of its step``; who made it, and its version then."""

    source: Any
    counts: Tensor
    scales: tuple[Tensor, ...]
    units: tuple[float, ...]
    version: int


class IntegerProducts(TorchFunctionMode):
    """While it is active, linear layers that get spikes as they were emitted multiply them as integers.

    Everything else runs as it is: other functions, layers with few rows, and tensors that were changed since.
    Weights are split at their first use, and anew when they have changed. There are no gradients.
    """

    def __init__(self) -> None:
        super().__init__()
        self._emitted = WeakTensorKeyDictionary()
        self._digits = WeakTensorKeyDictionary()
        #: Digits of weights that were seen to be as they were since the mode became active.
        self._seen = WeakTensorKeyDictionary()
        self._asked: set[Any] = set()
        self._used: set[Any] = set()

    def wants(self, source: Any) -> bool:
        """Whether what ``source`` (a neuron) emits may reach a linear layer: if it did before, or is new here."""
        return source in self._used or source not in self._asked

    def emit(
        self, source: Any, output: Tensor, counts: Tensor, scales: Sequence[Tensor], units: Sequence[float]
    ) -> None:
        """Say what a tensor consists of.

        Args:
            source: Who made it.
            output: ``counts × scales × unit``.
            counts: int8.
            scales: Of the channels, ``[C]`` or ``[1]`` each.
            units: One for each step, where steps are the outermost rows.

        Shape:
            ``[steps*B, ..., C]`` both.
        """
        self._asked.add(source)
        self._emitted[output] = _Emitted(source, counts, tuple(scales), tuple(units), output._version)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.linear and len(args) + len(kwargs) <= 3 and args:
            result = self._linear(*args, **kwargs)
            if result is not None:
                return result
        return func(*args, **kwargs)

    def _linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
        emitted = self._emitted.get(input)
        if emitted is None or emitted.version != input._version:
            return None
        if weight.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return None
        self._used.add(emitted.source)
        if input.numel() < _FEWEST_ROWS * input.shape[-1]:
            return None
        digits = self._digits_of(weight, emitted.scales)
        if len(emitted.units) == 1:
            return digits.linear(emitted.counts, bias, emitted.units[0])
        out = digits.linear(emitted.counts)
        over_time = out.view(len(emitted.units), -1, out.shape[-1])
        units = torch.tensor(emitted.units).view(-1, 1, 1)
        if bias is None:
            over_time.mul_(units)
        else:
            torch.addcmul(bias, over_time, units, out=over_time)
        return out

    def _digits_of(self, weight: Tensor, scales: tuple[Tensor, ...]) -> Digits:
        seen = self._seen.get(weight)
        if seen is not None and len(seen[0]) == len(scales) and all(a is b for a, b in zip(seen[0], scales)):
            return seen[1]
        # Versions alone would not do: optimisers with one kernel for all parameters do not count theirs up. They
        # change every row, though, so some rows tell.
        now = [(x.data_ptr(), x._version, float(x[::_LOOKED_AT].sum())) for x in (weight, *scales)]
        found = self._digits.get(weight)
        if found is None or found[0] != now:
            found = self._digits[weight] = now, Digits.of(weight, *scales)
        self._seen[weight] = scales, found[1]
        return found[1]

    def __enter__(self) -> IntegerProducts:
        self._seen.clear()
        return super().__enter__()

    def __deepcopy__(self, memo: dict[int, Any]) -> IntegerProducts:
        return IntegerProducts()  # of other weights and other neurons
