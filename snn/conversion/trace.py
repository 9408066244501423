"""How spiking a network is: what feeds every matrix product, and what is computed densely at every step.

One forward is watched, operation by operation, so the answer holds for any architecture and for whatever its
modules do inside.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from snn.conversion.call import call_model, labels_removed
from snn.conversion.folding import fold
from snn.conversion.network import SpikingNetwork
from snn.conversion.operands import Kind
from snn.conversion.products import FUSED, Dense, Product, Watch
from snn.errors import ConversionError
from snn.functional.padding import valid_positions
from snn.quantizers.base import Quantizer
from snn.tracking.table import markdown_table

#: What happens by default to a non-linear function that no quantiser replaces.
KEPT = "Kept, as an exact function of the running aggregate that is recomputed densely at each step"


@dataclass(frozen=True)
class Trace:
    """What one forward does, in the order in which it does it.

    Args:
        products: Matrix products with an activation among their factors.
        dense: Non-linear work outside the quantisers.
        calls: How often each quantiser was called, by dotted name; each call has a trajectory of its own.
        inputs: What each module was given first, by dotted name.
    """

    products: tuple[Product, ...]
    dense: tuple[Dense, ...]
    calls: Mapping[str, int] = field(default_factory=dict)
    inputs: Mapping[str, Kind] = field(default_factory=dict)

    @property
    def spiking_macs(self) -> int:
        """Multiply-accumulates per sample of the products whose activations are all spikes."""
        return sum(p.macs for p in self.products if p.spiking)

    @property
    def analog_macs(self) -> int:
        """Multiply-accumulates per sample of all others, those of the network's own input included."""
        return sum(p.macs for p in self.products if not p.spiking)

    @property
    def input_macs(self) -> int:
        """Those of them with the network's own input as a factor, and otherwise spikes if any activation."""
        return sum(
            p.macs for p in self.products if "input" in p.activations and "analog" not in p.activations
        )

    @property
    def spiking_share(self) -> float:
        """Share of the multiply-accumulates, 0 to 1, whose activations are all spikes."""
        return self.spiking_macs / max(1, self.spiking_macs + self.analog_macs)

    @property
    def fully_spiking(self) -> bool:
        """Whether every activation of every product is spikes, the network's own input excepted."""
        return any(p.spiking for p in self.products) and all(
            p.spiking or p.activations <= {"spikes", "input"} for p in self.products
        )

    @property
    def verdict(self) -> str:
        """One sentence."""
        number, total = sum(p.spiking for p in self.products), len(self.products)
        from_input = sum("input" in p.activations for p in self.products)
        text = (
            f"{'fully' if self.fully_spiking else 'not fully'} spiking: {number} of {total} matrix products "
            f"({self.spiking_share:.1%} of the multiply-accumulates) take spikes alone"
        )
        return text + (f"; {from_input} with the network's own input as a factor" if from_input else "")

    def dense_table(self, leaves: Collection[str] = ()) -> tuple[list[str], list[list[str | int | None]]]:
        """Columns and rows of the non-linear work; layers that are equal share a row.

        Args:
            leaves: Modules without others inside, which a rule on the module reaches; what happens in any other
                is shown call by call: ``module ▸ function()``.
        """
        work: dict[tuple[str, int], list[Dense]] = {}
        for index, entry in enumerate(self.dense):
            inside = entry.module in leaves
            place = entry.module if inside else f"{entry.module} ▸ {entry.call}()"
            work.setdefault((place, -1 if inside else index), []).append(entry)

        def looks(item: tuple[str, list[Dense]]) -> tuple[str, str]:
            what = ", ".join(dict.fromkeys(d.op for d in item[1]))
            return what, "quantised" if any(d.quantized for d in item[1]) else "analog"

        folded = fold([(place, entries) for (place, _), entries in work.items()], lambda item: item[0], looks)
        rows: list[list[str | int | None]] = [
            [name, *looks(same[0]), len(same), sum(d.elements for _, entries in same for d in entries)]
            for name, same in folded
        ]
        return ["computed in", "what", "result", "number", "values"], rows

    def hints(self) -> list[str]:
        """What could be done about the dense work."""
        lines = [
            "A rule puts a quantiser in place of one, {match: MODULE, do: replace}, or of a call, shown as MODULE ▸ "
            "FUNCTION():\n{match: MODULE, call: FUNCTION, do: replace}. With do: append it quantises the result. "
            'match: "" is the model itself.'
        ]
        if any(p.op.startswith(FUSED) for p in self.products):
            lines.append(
                f"{FUSED} computes its softmax in one piece, out of sight. A rule on it (call: softmax) takes it\n"
                "apart, and so does attn_implementation=eager."
            )
        return lines

    def to_markdown(self, leaves: Collection[str] = ()) -> str:
        """The verdict, the products fed by other than spikes, and the dense work; layers share a row.

        Args:
            leaves: See :meth:`dense_table`.
        """
        parts = [f"{self.verdict[0].upper()}{self.verdict[1:]}."]
        other = [p for p in self.products if not p.spiking]
        if other:
            folded = fold(other, lambda p: p.module, lambda p: (p.op, p.left, p.right))
            columns = ["product in", "operation", "left", "right", "number", "MACs per sample"]
            rows = [
                [f"`{name}`", same[0].op, same[0].left, same[0].right, len(same), sum(p.macs for p in same)]
                for name, same in folded
            ]
            parts.append(markdown_table(columns, rows))
        if self.dense:
            columns, dense = self.dense_table(leaves)
            parts += [f"{KEPT}:", markdown_table(columns, [[f"`{row[0]}`", *row[1:]] for row in dense])]
            parts += self.hints()
        return "\n\n".join(parts) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {
            "fully_spiking": self.fully_spiking,
            "spiking_share": self.spiking_share,
            "spiking_macs": self.spiking_macs,
            "analog_macs": self.analog_macs,
            "products": [asdict(p) for p in self.products],
            "dense": [asdict(d) for d in self.dense],
        }


def trace(model: nn.Module, inputs: Mapping[str, Tensor], *, rows: int = 1) -> Trace:
    """Watch one forward of a quantised model; the model is left as it was found.

    Args:
        model: A quantised network, calibrated or not; a float network is analog throughout.
        inputs: Model inputs; ``labels`` are ignored.
        rows: Samples of the batch to run. Every intermediate result is kept until the end, so few are best.

    Raises:
        ConversionError: A spiking network, or no sample.

    Example:
        >>> from snn.conversion.quantize import quantize
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> quantised = quantize(model, [{"type": "ReLU", "do": "replace"}])
        >>> report = trace(quantised, {"input": torch.ones(1, 4)})
        >>> [(p.module, p.left, p.macs) for p in report.products]
        [('0', 'input', 32), ('2', 'spikes', 16)]
    """
    if isinstance(model, SpikingNetwork):
        raise ConversionError(
            "trace works on the quantised network; got the spiking one that was made from it"
        )
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    taken = {
        k: v[:rows] if v.dim() else v for k, v in labels_removed(inputs).items() if isinstance(v, Tensor)
    }
    samples = next((v.shape[0] for v in taken.values() if v.dim()), 0)
    if not samples:
        raise ConversionError(
            f"trace needs at least one sample; got inputs {', '.join(inputs) or 'none'}, rows={rows}"
        )
    taken = {k: v.to(device) for k, v in taken.items()}
    watch = Watch(samples)
    for tensor in [*model.parameters(), *model.buffers()]:
        watch.operands.mark(tensor, "weight")
    for tensor in taken.values():
        watch.operands.mark(tensor, "input")
    mask = valid_positions(taken.get("attention_mask"))
    with torch.no_grad(), _as_found(model), unfused(), watch.attached(model), mask, watch:
        call_model(model, taken)
    return Trace(tuple(watch.products), tuple(watch.dense), dict(watch.calls), watch.inputs)


@contextmanager
def _as_found(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and quantisers without a threshold let everything pass; then all is as before."""
    training = {m: m.training for m in model.modules()}
    idle = [m for m in training if isinstance(m, Quantizer) and (m.observing or not m.calibrated)]
    before = [(q, q._samples, q._largest, q._rows_per_batch) for q in idle]
    try:
        for module in training:
            module.training = False
        for quantizer in idle:
            quantizer.observe(1)
        yield
    finally:
        for module, mode in training.items():
            module.training = mode
        for quantizer, samples, largest, rows in before:
            quantizer._samples, quantizer._largest, quantizer._rows_per_batch = samples, largest, rows


@contextmanager
def unfused() -> Iterator[None]:
    """Recurrent layers and multi-head attention as the products that they consist of."""
    backends: Any = torch.backends
    before = backends.mha.get_fastpath_enabled(), backends.mkldnn.enabled, backends.cudnn.enabled
    try:
        backends.mha.set_fastpath_enabled(False)
        backends.mkldnn.enabled = backends.cudnn.enabled = False
        yield
    finally:
        backends.mha.set_fastpath_enabled(before[0])
        backends.mkldnn.enabled, backends.cudnn.enabled = before[1:]
