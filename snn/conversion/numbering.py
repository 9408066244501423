"""Which neurons each value of a tensor consists of, followed through copies, slices, sums and averages.

Numbers are kept per storage, element by element, so a view of whatever geometry has the numbers of what it looks
at, and a part that is overwritten has new ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._pytree import tree_leaves

#: For each layer the numbers, from 1, of the neurons that a value consists of; 0: none. ``[R, *shape]``, where R is
#: how many of one layer's neurons a value may gather.
Numbers = dict[str, Tensor]
#: Kernel, stride and padding.
Window = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

_SAME = {"clone", "_to_copy", "contiguous", "neg"}
# fmt: off
#: Copies of single values: what they do to values they do to numbers.
_COPIES = {
    "repeat", "repeat_interleave", "roll", "flip", "tril", "triu", "constant_pad_nd", "pixel_shuffle",
    "pixel_unshuffle", "channel_shuffle", "reflection_pad2d", "upsample_nearest2d", "embedding", "index", "gather",
    "index_select", "take",
}
# fmt: on


class Numbering:
    """The numbers of all tensors of a forward."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[torch.UntypedStorage, Numbers]] = {}

    def start(self, spikes: Tensor, layer: str) -> None:
        """Number the neurons of a layer, in the order of its output."""
        numbers = torch.arange(1, spikes.numel() + 1, dtype=torch.float64, device=spikes.device)
        self.put(spikes, {layer: numbers.reshape(1, *spikes.shape)})

    def of(self, tensor: Any) -> Numbers:
        """Numbers of a tensor; none for what consists of no neuron's output, or nobody knows of which."""
        known = self._known.get(tensor.untyped_storage()._cdata) if isinstance(tensor, Tensor) else None
        if known is None:
            return {}
        shape, stride, offset = tensor.shape, tensor.stride(), tensor.storage_offset()
        return {
            layer: flat.as_strided((len(flat), *shape), (flat.shape[1], *stride), offset)
            for layer, flat in known[1].items()
        }

    def put(self, tensor: Tensor, numbers: Numbers) -> None:
        """Give a tensor numbers, instead of those that its part of the storage had."""
        storage = tensor.untyped_storage()
        before = self._known.get(storage._cdata, (storage, {}))[1]
        if not before and not numbers:
            return
        size, after = storage.nbytes() // tensor.element_size(), {}
        for layer in {**before, **numbers}:
            old, new = before.get(layer), numbers.get(layer)
            gathered = max(len(x) for x in (old, new) if x is not None)
            flat = torch.zeros(gathered, size, dtype=torch.float64, device=tensor.device)
            if old is not None:
                flat[: len(old)] = old
            part = flat.as_strided(
                (gathered, *tensor.shape), (size, *tensor.stride()), tensor.storage_offset()
            )
            part.zero_()
            if new is not None:
                part[: len(new)] = new
            after[layer] = flat
        self._known[storage._cdata] = storage, after

    def outcome(self, op: str, func: Any, args: Sequence[Any], kwargs: Any, shape: torch.Size) -> Numbers:
        """Numbers of what an operation gives.

        Args:
            op: Name in ``torch.ops.aten``, without the underscore of its in-place form.
            func: The operation.
            args: Its positional arguments.
            kwargs: Its others.
            shape: Of its result.
        """
        if not any(self.of(value) for value in tree_leaves(args)):
            return {}
        if op in _SAME:
            return self.of(args[0])
        if op in ("mul", "div"):
            return self._expanded(next(x for x in args[:2] if self.of(x)), shape)
        if op in _COPIES:
            return self._each(lambda x: func(x, *args[1:], **kwargs), args[0])
        if op in ("sum", "mean"):
            return {name: _reduced(x, args[1:2], shape) for name, x in self.of(args[0]).items()}
        if op in ("avg_pool2d", "_adaptive_avg_pool2d"):
            window = _window(op, args)
            return {name: _pooled(x, window, shape) for name, x in self.of(args[0]).items()} if window else {}
        if op in ("add", "sub", "rsub"):
            return _united([self._expanded(x, shape) for x in args[:2]])
        if op in ("cat", "stack"):
            return self._joined(lambda parts: func(parts, *args[1:], **kwargs), args[0])
        if op == "where" and len(args) == 3:
            parts = [x if isinstance(x, Tensor) else torch.zeros(()) for x in args[1:]]
            return self._joined(
                lambda chosen: torch.where(args[0], chosen[0], chosen[1]).expand(shape), parts
            )
        if op == "masked_fill":
            return self._each(lambda x: x.masked_fill(args[1], 0.0), args[0])
        if op == "copy":
            return self._expanded(args[1], shape)
        if op in ("slice_scatter", "select_scatter"):
            return self._joined(lambda parts: func(*parts, *args[2:], **kwargs), args[:2])
        return {}

    def _expanded(self, tensor: Any, shape: torch.Size) -> Numbers:
        return {
            name: x.reshape(len(x), *[1] * (len(shape) - x.dim() + 1), *x.shape[1:]).expand(len(x), *shape)
            for name, x in self.of(tensor).items()
        }

    def _each(self, function: Callable[[Tensor], Tensor], tensor: Tensor) -> Numbers:
        return {name: torch.stack([function(one) for one in x]) for name, x in self.of(tensor).items()}

    def _joined(self, function: Callable[[list[Tensor]], Tensor], parts: Sequence[Tensor]) -> Numbers:
        found = [self.of(part) for part in parts]
        result = {}
        for name in {name: None for numbers in found for name in numbers}:
            rows = []
            for row in range(max(len(numbers[name]) for numbers in found if name in numbers)):
                rows.append(
                    function(
                        [
                            numbers[name][row]
                            if name in numbers and row < len(numbers[name])
                            else torch.zeros(part.shape, dtype=torch.float64, device=part.device)
                            for part, numbers in zip(parts, found)
                        ]
                    )
                )
            result[name] = torch.stack(rows)
        return result


def _united(parts: Sequence[Numbers]) -> Numbers:
    names = {name: None for numbers in parts for name in numbers}
    return {name: torch.cat([numbers[name] for numbers in parts if name in numbers]) for name in names}


def _reduced(numbers: Tensor, dims: Sequence[Any], shape: torch.Size) -> Tensor:
    size = numbers.dim() - 1
    given = dims[0] if dims and isinstance(dims[0], list | tuple | int) else None
    chosen = [given] if isinstance(given, int) else list(given or range(size))
    axes = [d % size + 1 for d in chosen]
    gathered = numbers.movedim(axes, list(range(1, len(axes) + 1))).flatten(0, len(axes))
    return gathered.reshape(len(gathered), *shape)


def _window(op: str, args: Sequence[Any]) -> Window | None:
    """The window of an average; ``None`` where windows are not all alike."""
    if op == "avg_pool2d":
        kernel = tuple(args[1])
        stride = tuple(args[2]) if len(args) > 2 and args[2] else kernel
        return kernel, stride, tuple(args[3]) if len(args) > 3 else (0, 0)
    sizes, out = args[0].shape[-2:], args[1]
    if any(size % n for size, n in zip(sizes, out)):
        return None
    kernel = tuple(size // n for size, n in zip(sizes, out))
    return kernel, kernel, (0, 0)


def _pooled(numbers: Tensor, window: Window, shape: torch.Size) -> Tensor:
    kernel, stride, padding = window
    height, width = numbers.shape[-2:]
    taken = functional.unfold(numbers.reshape(-1, 1, height, width), kernel, stride=stride, padding=padding)
    taken = taken.reshape(len(numbers), -1, taken.shape[1], *shape[-2:]).movedim(2, 1)
    return taken.reshape(-1, *shape)
