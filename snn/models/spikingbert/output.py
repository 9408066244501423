"""What a forward pass of SpikingBERT returns, and what it leaves to be looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from snn.functional.equilibrium import SolveRecord


@dataclass
class SpikingBertOutput:
    """What a forward pass returns.

    With gradients enabled, logits, taps and scores carry one, by the rule ``gradient``.

    Args:
        logits: From the first token's rates at the end, ``[B, num_classes]``.
        hidden_states: The taps: rates of the embedding and of each encoder layer's output, ``[B, S, width]`` each.
        attention_scores: Of each encoder layer, before the softmax and with the mask added, ``[B, heads, S, S]``:
            those of the analog network where there is a gradient, else the measured mean over time.
        read: What computes :attr:`logits_over_time`; None with gradients enabled.
    """

    logits: Tensor
    hidden_states: tuple[Tensor, ...]
    attention_scores: tuple[Tensor, ...]
    read: Callable[[], Tensor] | None = None

    @property
    def logits_over_time(self) -> Tensor | None:
        """The logits of the rates so far, after every step, ``[T, B, num_classes]``, without gradient.

        They are computed when they are asked for; None with gradients enabled.
        """
        return None if self.read is None else self.read()


@dataclass
class Diagnostics:
    """What the last forward pass did.

    Args:
        rates: Layer of neurons → spikes per neuron per step, padding excluded, a tensor without axes.
        steps: Steps that each sample ran, ``[B]``.
        backward: Account of the systems solved in backward passes so far.
    """

    rates: dict[str, Tensor] = field(default_factory=dict)
    steps: Tensor | None = None
    backward: SolveRecord = field(default_factory=lambda: SolveRecord("model.args.solver"))
