"""The matrix products of a forward, what feeds them, and the dense work between them, as they happen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from snn.conversion.operands import Kind, Operands, active
from snn.quantizers.base import Quantizer

FUSED = "scaled_dot_product_attention"

#: Matrix products by their name in ``torch.ops.aten``: positions of the two factors.
_PRODUCTS = dict.fromkeys(("mm", "bmm", "mv", "dot", "linear", "convolution", "_grouped_mm"), (0, 1))
_PRODUCTS |= dict.fromkeys(("addmm", "baddbmm", "addbmm", "addmv"), (1, 2))
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
        left: What the first factor is: ``spikes``, ``analog``, ``input`` (the network's own), ``weight`` or
            ``constant``.
        right: Likewise.
        macs: Multiply-accumulates per sample and step if computed densely, padding included.
    """

    module: str
    op: str
    left: Kind
    right: Kind
    macs: int

    @property
    def activations(self) -> set[Kind]:
        """Kinds of the factors that are neither weights nor constants."""
        return {self.left, self.right} - {"weight", "constant"}

    @property
    def spiking(self) -> bool:
        """Whether every activation is spikes."""
        return self.activations == {"spikes"}


@dataclass(frozen=True)
class Dense:
    """Non-linear work outside the quantisers: a dense tensor that is recomputed at every step.

    Args:
        module: Dotted name of the innermost module.
        op: What is computed.
        elements: Values computed per sample and step, padding included.
    """

    module: str
    op: str
    elements: int


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
        self._modules: list[str] = []
        self._inside_quantizer = 0

    @contextmanager
    def attached(self, model: nn.Module) -> Iterator[None]:
        """Know which module of ``model`` is running, until the end of the block."""
        handles = []
        for name, module in model.named_modules():
            enter, leave = self._hooks(name or type(model).__name__)
            handles.append(module.register_forward_pre_hook(enter))
            handles.append(module.register_forward_hook(leave, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hooks(self, name: str) -> tuple[Any, Any]:
        def enter(module: nn.Module, _args: Any) -> None:
            self._modules.append(name)
            self._inside_quantizer += isinstance(module, Quantizer)

        def leave(module: nn.Module, _args: Any, output: Any) -> Any:
            self._modules.pop()
            if not isinstance(module, Quantizer):
                return None
            # A storage of its own: a quantiser that only observes gives back its input.
            spikes = output.clone() if isinstance(output, Tensor) else None
            self._inside_quantizer -= 1
            if spikes is not None:
                self.operands.mark(spikes, "spikes")
            return spikes

        return enter, leave

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._inside_quantizer or not self._modules:
            return func(*args, **kwargs)
        op = func.overloadpacket.__name__
        if op not in _PRODUCTS:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        if func._schema.is_mutable and op.endswith("_"):
            op = op.rstrip("_")
            # Asked before it runs, because what is overwritten counts.
            kind, dense = self.operands.outcome_in_place(op, args)
            result = func(*args, **kwargs)
            self._record(op, args, [args[0]], kind, dense)
            return result
        result = func(*args, **kwargs)
        outputs = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
        if outputs and not self.operands.is_view(outputs[0], args):
            op = "floor_divide" if kwargs.get("rounding_mode") else op
            kind, dense = self.operands.outcome(op, args, outputs[0].is_floating_point())
            self._record(op, args, outputs, kind, dense)
        return result

    def _record(self, op: str, args: Any, outputs: list[Tensor], kind: Kind, dense: bool) -> None:
        for output in outputs:
            self.operands.mark(output, kind)
        if op in _PRODUCTS:
            left, right = (args[i] for i in _PRODUCTS[op])
            macs = _macs(op, left, right, outputs[0], args)
            self._product(op, self.operands.kind(left), self.operands.kind(right), macs)
        elif op.startswith("_scaled_dot_product"):
            query, key, value = args[:3]
            pairs = query.numel() // query.shape[-1] * key.shape[-2]
            kinds = [self.operands.kind(x) for x in (query, key, value)]
            self._product(f"{FUSED} (scores)", kinds[0], kinds[1], pairs * query.shape[-1])
            # No rule reaches the probabilities in between.
            self._product(f"{FUSED} (values)", "analog", kinds[2], pairs * value.shape[-1])
            self._dense("softmax", pairs)
        elif dense:
            self._dense(_NAMES.get(op, op.strip("_")), outputs[0].numel())

    def _product(self, op: str, left: Kind, right: Kind, macs: int) -> None:
        # A product of weights alone is computed once, not per step.
        if active(left) or active(right) or "input" in (left, right):
            self.products.append(Product(self._modules[-1], op, left, right, macs // self.samples))

    def _dense(self, op: str, elements: int) -> None:
        self.dense.append(Dense(self._modules[-1], op, elements // self.samples))


def _macs(op: str, left: Tensor, right: Tensor, output: Tensor, args: Any) -> int:
    if op == "convolution":
        transposed = args[6]  # spreads every input value over a window, instead of gathering one
        return (left if transposed else output).numel() * right[0].numel()
    if op == "linear":
        return left.numel() * right.shape[0]
    return left.numel() * (right.shape[-1] if right.dim() > 1 else 1)
