"""The matrix products of a forward, what feeds them, and the dense work between them, as they happen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from snn.conversion.function_calls import function_name
from snn.conversion.operands import Kind, Operands, Sources, active, overwrites
from snn.conversion.surgery import place
from snn.quantizers.base import Quantizer

FUSED = "scaled_dot_product_attention"

#: Matrix products by their name in ``torch.ops.aten``: positions of the two factors.
PRODUCTS = dict.fromkeys(("mm", "bmm", "mv", "dot", "linear", "convolution", "_grouped_mm"), (0, 1))
PRODUCTS |= dict.fromkeys(("addmm", "baddbmm", "addbmm", "addmv"), (1, 2))
_NAMES = {
    "native_layer_norm": "layer norm",
    "native_group_norm": "group norm",
    "_fused_rms_norm": "RMS norm",
    "_softmax": "softmax",
    "_safe_softmax": "softmax",
    "_log_softmax": "log-softmax",
    "max_pool2d_with_indices": "max-pool",
    "max_pool3d_with_indices": "max-pool",
    "mul": "product of activations",
    "div": "division by an activation",
    "where": "choice by an activation",
    "masked_fill": "choice by an activation",
}


@dataclass(frozen=True)
class Product:
    """One matrix product or convolution.

    Args:
        module: Dotted name of the innermost module that computes it.
        op: Name of the operation.
        left: What the first factor is: ``spikes``, ``analog``, ``input`` (the network's own), ``weight``,
            ``constant``, or ``counts`` (a product of spikes, in a network that spikes by itself).
        right: Likewise.
        macs: Multiply-accumulates per sample and step if computed densely, padding included.
        sources: For each factor the quantisers whose spikes it consists of, several after a sum; ``None`` where
            it is no spikes. They are named by what they serve, as layers are in a spiking run: ``query``,
            ``self.softmax()``, and ``relu#1`` for the second call of one quantiser in a forward.
    """

    module: str
    op: str
    left: Kind
    right: Kind
    macs: int
    sources: tuple[Sources | None, Sources | None] = (None, None)

    @property
    def activations(self) -> set[Kind]:
        """Kinds of the factors that are neither weights nor constants."""
        return {self.left, self.right} - {"weight", "constant"}

    @property
    def spiking(self) -> bool:
        """Whether every activation is spikes, or spikes gate counts of spikes."""
        return "spikes" in self.activations <= {"spikes", "counts"}

    @property
    def factors(self) -> str:
        """The factors in words, weights left out: ``spikes``, ``analog × spikes``."""
        return " × ".join(k for k in (self.left, self.right) if k not in ("weight", "constant"))


@dataclass(frozen=True)
class Dense:
    """Non-linear work outside the quantisers: a dense tensor that is recomputed at every step.

    Args:
        module: Dotted name of the innermost module.
        op: What is computed.
        elements: Values computed per sample and step, padding included.
        call: Function that a rule on the module reaches it by.
        quantized: Whether the result goes into a quantiser, scaled or shifted at most.
    """

    module: str
    op: str
    elements: int
    call: str = ""
    quantized: bool = False


class _Function(TorchFunctionMode):
    """Knows the function that the model is calling, by the name that rules have for it."""

    name = ""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.name = function_name(func)
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.name = ""


class Watch(TorchDispatchMode):
    """Follows every tensor through a forward.

    What happens inside a quantiser is the neuron's business and not looked at; what it gives is spikes.

    Args:
        samples: Rows of the batch that is going to run.
    """

    def __init__(self, samples: int):
        super().__init__()
        self.samples = samples
        self.operands = Operands()
        self.products: list[Product] = []
        self.dense: list[Dense] = []
        #: How often each quantiser is called.
        self.calls: Counter[str] = Counter()
        #: What each module gets as its first input.
        self.inputs: dict[str, Kind] = {}
        self._function = _Function()
        #: Which dense work the tensor in a storage is the result of.
        self._made_by: dict[int, int] = {}
        self._modules: list[str] = []
        self._inside_quantizer = 0

    @contextmanager
    def attached(self, model: nn.Module) -> Iterator[None]:
        """Know which module of ``model`` is running, until the end of the block."""
        handles = []
        for name, module in model.named_modules():
            enter, leave = self._hooks(name or type(model).__name__)
            handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
            handles.append(module.register_forward_hook(leave, always_call=True))
        try:
            with self._function:
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _hooks(self, name: str) -> tuple[Any, Any]:
        def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
            self._modules.append(name)
            tensor = next((t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)), None)
            if tensor is not None:
                kind = self.operands.kind(tensor)
                self.inputs[name] = kind if self.inputs.get(name, kind) == kind else "analog"
            if isinstance(module, Quantizer):
                self._inside_quantizer += 1
                index = self._made_by.get(tensor.untyped_storage()._cdata) if tensor is not None else None
                if index is not None:
                    self.dense[index] = replace(self.dense[index], quantized=True)

        def leave(module: nn.Module, _args: Any, output: Any) -> Any:
            self._modules.pop()
            if not isinstance(module, Quantizer):
                return None
            # A storage of its own: a quantiser that only observes gives back its input.
            spikes = output.clone() if isinstance(output, Tensor) else None
            self._inside_quantizer -= 1
            call = self.calls[name]
            self.calls[name] += 1
            if spikes is not None:
                self.operands.mark(spikes, "spikes", (place(name) + (f"#{call}" if call else ""),))
            return spikes

        return enter, leave

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._inside_quantizer or not self._modules:
            return func(*args, **kwargs)
        op = func.overloadpacket.__name__
        if op not in PRODUCTS:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        if func._schema.is_mutable and op.endswith("_"):
            op = op.rstrip("_")
            # Asked before it runs, because what is overwritten counts.
            kind, dense = self.operands.outcome_in_place(op, args)
            sources = self.operands.sources(args[1:] if overwrites(op, args[0]) else args)
            result = func(*args, **kwargs)
            self._record(op, args, [args[0]], kind, dense, sources)
            return result
        result = func(*args, **kwargs)
        outputs = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
        if outputs and not self.operands.is_view(outputs[0], args):
            op = "floor_divide" if kwargs.get("rounding_mode") else op
            kind, dense = self.operands.outcome(op, args, outputs[0].is_floating_point())
            self._record(op, args, outputs, kind, dense, self.operands.sources(args))
        return result

    def _record(
        self, op: str, args: Any, outputs: list[Tensor], kind: Kind, dense: bool, sources: Sources
    ) -> None:
        made_by = None if dense else self._origin(args)
        for output in outputs:
            self.operands.mark(output, kind, sources)
            self._note_origin(output, made_by)
        if op in PRODUCTS:
            left, right = (args[i] for i in PRODUCTS[op])
            self._product(op, left, right, _macs(op, left, right, outputs[0], args))
        elif op.startswith("_scaled_dot_product"):
            query, key, value = args[:3]
            pairs = query.numel() // query.shape[-1] * key.shape[-2]
            self._product(f"{FUSED} (scores)", query, key, pairs * query.shape[-1])
            # No rule reaches the probabilities in between; what comes out is as analog as they are.
            self._product(f"{FUSED} (values)", outputs[0], value, pairs * value.shape[-1])
            self._dense("softmax", pairs)
        elif dense:
            self._dense(_NAMES.get(op, op.strip("_")), outputs[0].numel(), outputs)

    def _product(self, op: str, left: Tensor, right: Tensor, macs: int) -> None:
        kinds = self.operands.kind(left), self.operands.kind(right)
        # A product of weights alone is computed once, not per step.
        if any(active(kind) or kind == "input" for kind in kinds):
            sources = self.operands.sources(left) or None, self.operands.sources(right) or None
            self.products.append(Product(self._modules[-1], op, *kinds, macs // self.samples, sources))

    def _dense(self, op: str, elements: int, outputs: Sequence[Tensor] = ()) -> None:
        for output in outputs:
            self._note_origin(output, len(self.dense))
        self.dense.append(Dense(self._modules[-1], op, elements // self.samples, self._function.name))

    def _origin(self, args: Any) -> int | None:
        """The dense work that this is the result of, scaled or shifted perhaps: its only activation is from there."""
        tensors = [t for t in tree_leaves(args) if isinstance(t, Tensor) and active(self.operands.kind(t))]
        origins = {self._made_by.get(t.untyped_storage()._cdata) for t in tensors}
        return origins.pop() if len(origins) == 1 and len(tensors) == 1 else None

    def _note_origin(self, tensor: Tensor, index: int | None) -> None:
        storage = tensor.untyped_storage()._cdata
        if index is None:
            self._made_by.pop(storage, None)
        else:
            self._made_by[storage] = index


def _macs(op: str, left: Tensor, right: Tensor, output: Tensor, args: Any) -> int:
    if op == "convolution":
        transposed = args[6]  # spreads every input value over a window, instead of gathering one
        return (left if transposed else output).numel() * right[0].numel()
    if op == "linear":
        return left.numel() * right.shape[0]
    return left.numel() * (right.shape[-1] if right.dim() > 1 else 1)
