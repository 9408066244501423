"""What an operation works on: spikes, analog values, the network's own input, weights, or constants.

The rule behind the tables: a linear function of spikes whose coefficients do not change over time is spikes
still, because every event can be accumulated by itself (scaling, average pooling, sums of two spike trains,
copies). Everything else that depends on an activation is analog: a dense tensor, computed anew at every step.
In doubt a value is analog, so that no network looks more spiking than it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

Kind = Literal["spikes", "counts", "analog", "input", "weight", "constant"]
#: Names of the quantisers whose spikes a tensor consists of, in the order in which they come together.
Sources = tuple[str, ...]

# fmt: off
#: Made from nothing but a shape; what they are made like does not matter.
_MADE = {
    "zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "new_zeros",
    "new_ones", "new_full", "new_empty", "new_empty_strided",
}
#: Linear in their only tensor: copies, rearrangements, averages and sums.
_MOVES = {
    "clone", "_to_copy", "contiguous", "repeat", "repeat_interleave", "roll", "flip", "neg", "tril",
    "triu", "im2col", "constant_pad_nd", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle",
    "unsafe_split", "reflection_pad2d", "sum", "mean", "cumsum", "avg_pool1d", "avg_pool2d",
    "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "upsample_nearest2d",
    "upsample_bilinear2d", "upsample_bicubic2d",
}
# fmt: on
#: The first tensor is a table, the others say where to read it.
_LOOKUPS = {"embedding", "index", "gather", "index_select", "take"}
#: Sums, and patchworks of which every part must be spikes: the arguments that are the parts.
_PARTS: dict[str, Callable[[Sequence[Any]], Sequence[Any]]] = {
    "add": lambda a: a[:2],
    "sub": lambda a: a[:2],
    "rsub": lambda a: a[:2],
    "cat": lambda a: a[0],
    "stack": lambda a: a[0],
    "copy": lambda a: a[:2],
    "slice_scatter": lambda a: a[:2],
    "select_scatter": lambda a: a[:2],
    "index_put": lambda a: (a[0], a[2]),
    "index_add": lambda a: (a[0], a[3]),
    "where": lambda a: a[1:],
    "masked_fill": lambda a: (a[0], a[2]),
}
#: Where these keep the tensor that decides between their parts.
_CONDITION = {"where": 0, "masked_fill": 1}
#: Affine in evaluation mode: foldable into a product, so no work of its own, but with an offset.
_NORMS = {"native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm"}
#: Change the shape of their tensor in place, and none of its values.
_RESHAPES = {"as_strided", "squeeze", "unsqueeze", "transpose", "t", "swapaxes", "detach", "resize"}


def active(kind: Kind) -> bool:
    """Whether a value of this kind may change from step to step."""
    return kind in ("spikes", "counts", "analog")


def overwrites(op: str, target: Tensor) -> bool:
    """Whether an operation in place leaves nothing of what ``target``'s storage held."""
    return op in ("copy", "fill", "zero") and (
        target.numel() * target.element_size() == target.untyped_storage().nbytes()
    )


class Operands:
    """The kind of every tensor, kept per storage, so that views and transposes are what they look at.

    Storages are kept alive, because a freed address may be used again for something else. Parts of one storage
    are not told apart: a slice of a concatenation has the sources of all that was joined.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[torch.UntypedStorage, Kind, Sources]] = {}

    def mark(self, tensor: Tensor, kind: Kind, sources: Sources = ()) -> None:
        storage = tensor.untyped_storage()
        self._known[storage._cdata] = storage, kind, sources if kind == "spikes" else ()

    def kind(self, value: Any) -> Kind:
        """The kind of a tensor; what was never marked, such as a number, is a constant."""
        if not isinstance(value, Tensor):
            return "constant"
        known = self._known.get(value.untyped_storage()._cdata)
        return "constant" if known is None else known[1]

    def sources(self, *values: Any) -> Sources:
        """The quantisers whose spikes the tensors among ``values`` consist of; none for what is not spikes."""
        found: dict[str, None] = {}
        for value in tree_leaves(values):
            if isinstance(value, Tensor):
                known = self._known.get(value.untyped_storage()._cdata)
                found |= dict.fromkeys(known[2] if known is not None else ())
        return tuple(found)

    def is_view(self, output: Tensor, args: Sequence[Any]) -> bool:
        """Whether ``output`` looks at the storage of an operand, and so is of its kind already."""
        storages = {t.untyped_storage()._cdata for t in tree_leaves(args) if isinstance(t, Tensor)}
        return output.untyped_storage()._cdata in storages

    def outcome(self, op: str, args: Sequence[Any], floating: bool) -> tuple[Kind, bool]:
        """What an operation gives.

        Args:
            op: Name in ``torch.ops.aten``, without the underscore of its in-place form.
            args: Its positional arguments.
            floating: Whether its result is floating-point.

        Returns:
            The kind of the result, and whether it is dense non-linear work of every step.
        """
        tensors = [t for t in tree_leaves(args) if isinstance(t, Tensor)]
        if op in _MADE or not tensors:
            return "constant", False
        if op in _LOOKUPS:
            return self._looked_up(tensors[0], tensors[1:]), False
        if not any(active(self.kind(t)) for t in tensors):
            return self._fixed(op, tensors, floating)
        evaluating = op == "_native_batch_norm_legit_no_training" or (op in _NORMS and args[5] is False)
        if not floating or evaluating:
            return "analog", False
        if op in _MOVES:
            offset = op == "constant_pad_nd" and len(args) > 2 and args[2] != 0
            return ("analog" if offset else self.kind(tensors[0])), False
        if op in _PARTS:
            if op in _CONDITION and active(self.kind(args[_CONDITION[op]])):
                return "analog", True
            return self._joined(_PARTS[op](args)), False
        if op in ("mul", "div"):
            left, right = self.kind(args[0]), self.kind(args[1])
            if active(right) and (op == "div" or active(left)):
                return "analog", True
            return (left if active(left) else right), False
        return "analog", True

    def outcome_in_place(self, op: str, args: Sequence[Any]) -> tuple[Kind, bool]:
        """As :meth:`outcome`, for an operation that overwrites its first argument, perhaps in part."""
        target = args[0]
        if op in _RESHAPES:
            return self.kind(target), False
        if op not in ("copy", "fill", "zero"):
            return self.outcome(op, args, target.is_floating_point())
        source = args[1] if len(args) > 1 else 0
        if overwrites(op, target):
            return self.kind(source), False
        return self.outcome("copy", (target, source), target.is_floating_point())

    def _looked_up(self, table: Tensor, places: Sequence[Tensor]) -> Kind:
        where = {self.kind(p) for p in places}
        # Rows of a weight that the input picks are activations, as the embeddings of tokens are.
        picked = "input" in where and self.kind(table) in ("weight", "constant")
        return "analog" if picked or any(active(k) for k in where) else self.kind(table)

    def _fixed(self, op: str, tensors: Sequence[Tensor], floating: bool) -> tuple[Kind, bool]:
        """No operand changes over time: input, weights and constants alone."""
        kinds = {self.kind(t) for t in tensors}
        if "input" not in kinds:
            return ("weight" if "weight" in kinds else "constant"), False
        # Masks and positions stay what they are; features of the input are activations.
        linear = op in _MOVES or op in _PARTS or op in ("mul", "div")
        pixels = any(t.is_floating_point() and self.kind(t) == "input" for t in tensors)
        feature = floating and not linear and (pixels or "weight" in kinds)
        return ("analog", True) if feature else ("input", False)

    def _joined(self, parts: Sequence[Any]) -> Kind:
        kinds = {self.kind(p) for p in parts if not self._nothing(p)}
        return "spikes" if kinds == {"spikes"} else "analog"

    def _nothing(self, part: Any) -> bool:
        """Zeros add no event. Weights that happen to be zero may be trained, so they do not count."""
        if isinstance(part, Tensor):
            return self.kind(part) == "constant" and not bool(part.any())
        return part == 0
