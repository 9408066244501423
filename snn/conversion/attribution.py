"""Where a conversion loses accuracy: clipping, rounding, unevenness, each measured by switching it off.

Between a float network and its spiking one lie up to four sources of error. *Clipping*: values beyond the
threshold. *Rounding*: values between two levels. *Time steps*: T spikes at most, where the quantiser had
another number of levels. *Unevenness*: spikes arrive unevenly over time, so a neuron that cannot take them
back has fired too often or too seldom.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from snn.conversion.agreement import Agreement, slices
from snn.conversion.call import call_model, labels_removed
from snn.conversion.network import SpikingNetwork
from snn.conversion.quantize import quantizers
from snn.errors import ConversionError
from snn.functional.padding import valid_positions
from snn.functional.time_axis import repeat_over_time, unfold
from snn.neurons.run import Run, running
from snn.quantizers.base import Quantizer

FLOAT, CLIPPED, ROUNDED, QUANTIZED = "float", "clipped only", "rounded only", "quantised"
HELD, SPIKING = "spiking, inputs held at their means", "spiking"
#: The network with a source of error, and the same network without it.
SOURCES = {
    "clipping": (QUANTIZED, ROUNDED),
    "rounding": (QUANTIZED, CLIPPED),
    "time steps": (HELD, QUANTIZED),
    "unevenness": (SPIKING, HELD),
}


@dataclass
class Variant:
    """One network on the way from float to spiking, compared with the float one.

    Args:
        name: What acts in it.
        logits: Its read-outs against the float network's.
        right: Predictions equal to the label.
        labelled: Predictions that have one.
    """

    name: str
    logits: Agreement = field(default_factory=Agreement)
    right: int = 0
    labelled: int = 0

    @property
    def accuracy(self) -> float | None:
        return self.right / self.labelled if self.labelled else None

    def to_dict(self) -> dict[str, Any]:
        found = self.logits
        return {
            "name": self.name,
            "mean_error": found.mean_error,
            "max_error": found.max_error,
            "same_prediction": found.same,
            "predictions": found.predictions,
            "accuracy": self.accuracy,
        }


@dataclass
class Attribution:
    """What :func:`attribute` found.

    Args:
        variants: From float to spiking.
    """

    variants: list[Variant]

    @property
    def sources(self) -> dict[str, float]:
        """By how much the mean logit error falls when one source is switched off and all else stays.

        Below zero where a source makes up for another. What two orders of summation leave counts as nothing.
        """
        error = {variant.name: variant.logits.mean_error for variant in self.variants}
        rounding = 1e-5 * max(error.values())
        changes = {source: error[on] - error[off] for source, (on, off) in SOURCES.items()}
        return {source: change if abs(change) > rounding else 0.0 for source, change in changes.items()}

    @property
    def verdict(self) -> str:
        """One sentence."""
        error = self.variants[-1].logits
        if error.max_error == 0:
            return "nothing is lost: the spiking network's logits are the float network's"
        parts = [f"{name} {change:.2g}" for name, change in self.sources.items()]
        worst = max(self.sources, key=lambda source: self.sources[source])
        return (
            f"mean logit error against the float network {error.mean_error:.2g} ({error}), mostly from {worst}; "
            f"switched off alone, each source takes away: {', '.join(parts)}"
        )

    def to_markdown(self) -> str:
        """The table, from float to spiking."""
        columns = ["network", "mean logit error", "max logit error", "same prediction as float", "accuracy"]
        lines = ["| " + " | ".join(columns) + " |", "|---|---:|---:|---:|---:|"]
        for x in self.variants:
            share = "–" if x.logits.share is None else f"{x.logits.share:.2%}"
            accuracy = "–" if x.accuracy is None else f"{x.accuracy:.4f}"
            cells = [x.name, f"{x.logits.mean_error:.2g}", f"{x.logits.max_error:.2g}", share, accuracy]
            lines.append("| " + " | ".join(cells) + " |")
        return f"{self.verdict[0].upper()}{self.verdict[1:]}.\n\n" + "\n".join(lines) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {
            "verdict": self.verdict,
            "samples": self.variants[0].logits.samples,
            "sources": self.sources,
            "variants": [variant.to_dict() for variant in self.variants],
        }


@torch.no_grad()
def attribute(
    model: nn.Module, network: SpikingNetwork, batches: Iterable[Mapping[str, Tensor]]
) -> Attribution:
    """Measure each source of error between the float network and its spiking one.

    Args:
        model: The quantised network, in evaluation mode. With its quantisers switched off it is the float
            network: an unsigned one passes on the positive part, as the ReLU does that it stands for.
        network: Its spiking network.
        batches: Model inputs; where there are ``labels``, accuracy is measured too.

    Raises:
        ConversionError: There is no batch.
    """
    runs: dict[str, Callable[[dict[str, Any]], Tensor]] = {
        FLOAT: lambda inputs: _quantised(model, inputs, clip=False, round=False),
        CLIPPED: lambda inputs: _quantised(model, inputs, clip=True, round=False),
        ROUNDED: lambda inputs: _quantised(model, inputs, clip=False, round=True),
        QUANTIZED: lambda inputs: call_model(model, inputs),
        HELD: lambda inputs: held(network, inputs),
        SPIKING: lambda inputs: _spiking(network, inputs),
    }
    variants = [Variant(name) for name in runs]
    for batch in batches:
        for part in slices(batch, network.T):
            inputs, labels = labels_removed(part), part.get("labels")
            mask = inputs.get("attention_mask")
            wanted = None
            for variant, run in zip(variants, runs.values()):
                with valid_positions(mask):
                    logits = run(inputs)
                wanted = logits if wanted is None else wanted
                variant.logits.add(logits, wanted, mask)
                if labels is not None and labels.shape == logits.shape[:-1] and logits.shape[-1] > 1:
                    variant.right += int((logits.argmax(-1) == labels).sum())
                    variant.labelled += int((labels >= 0).sum())  # what is below 0 is to be ignored
    if not variants[0].logits.samples:
        raise ConversionError("attribution needs at least one batch")
    return Attribution(variants)


@contextmanager
def quantizing(model: nn.Module, clip: bool = True, round: bool = True) -> Iterator[None]:
    """Switch parts of every quantiser off. With both off it passes on what infinitely many levels would give.

    Args:
        model: A calibrated network.
        clip: Whether values end at the smallest and largest code; if not, unsigned codes still begin at 0.
        round: Whether values go to a level.
    """
    unlimited = float("inf")

    def instead(quantizer: Quantizer, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = args[0].to(output.dtype)
        low, high = quantizer.bounds if clip else (-unlimited if quantizer.signed else 0, unlimited)
        # Corrections make up for the errors, so they go when the errors go.
        shift, gain = quantizer.corrections() if clip or round else (None, None)
        step = quantizer.step_size(x)
        x = x if shift is None else x + quantizer.aligned(shift, x)
        y = (x / step + 0.5).floor().clamp(low, high) * step if round else x.clamp(low * step, high * step)
        return y if gain is None else y * quantizer.aligned(gain, x)

    switched = [] if clip and round else quantizers(model).values()
    handles = [quantizer.register_forward_hook(instead) for quantizer in switched]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def held(network: SpikingNetwork, inputs: Mapping[str, Any]) -> Tensor:
    """Logits at T of a spiking network in which every neuron gets its final aggregate at every step.

    Nothing arrives unevenly then. Time exists inside of the neurons alone, so it costs one forward of the
    other modules.
    """
    run = Run(network.T, network.coding)
    run.start_chunk(range(1, network.T + 1))

    def repeat(_neuron: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (repeat_over_time(args[0], network.T), *args[1:])

    def last(_neuron: nn.Module, _args: Any, output: Tensor) -> Tensor:
        return unfold(output, network.T)[-1]

    neurons = network.neurons.values()
    handles = [neuron.register_forward_pre_hook(repeat) for neuron in neurons]
    handles += [neuron.register_forward_hook(last) for neuron in neurons]
    try:
        with running(run):
            return call_model(network.model, inputs)
    finally:
        for handle in handles:
            handle.remove()


def _quantised(model: nn.Module, inputs: Mapping[str, Any], clip: bool, round: bool) -> Tensor:
    with quantizing(model, clip, round):
        return call_model(model, inputs)


def _spiking(network: SpikingNetwork, inputs: dict[str, Any]) -> Tensor:
    output = network(execution="parallel", chunk=network.T, record=False, **inputs)
    logits = output.logits[-1]
    assert isinstance(logits, Tensor)
    return logits
