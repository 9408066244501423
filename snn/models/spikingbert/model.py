"""SpikingBERT: a BERT-shaped encoder whose layers speak in spikes, trained at its equilibrium."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from snn.errors import ConfigError
from snn.functional.fixed_point import Method, Solver
from snn.functional.rates import clamped_rate
from snn.functional.surrogate import Surrogate
from snn.models.architecture import Architecture
from snn.models.arguments import require, require_positive
from snn.models.sizes import check_sizes
from snn.models.spikingbert.gradients import RULES, GradientMode
from snn.models.spikingbert.layers import PADDING_SCORE, Embeddings, EncoderLayer, Fire, Noise
from snn.models.spikingbert.neurons import Law
from snn.models.spikingbert.output import Diagnostics, SpikingBertOutput
from snn.models.spikingbert.simulation import Simulation, Stopping, simulate
from snn.neurons.simulated import SimulatedNetwork


class SpikingBert(SimulatedNetwork):
    """Text classifier of spiking encoder layers.

    The forward pass simulates ``T`` steps without a graph and measures rates; where gradients are enabled, one pass
    of an analog network gives them, so that memory does not depend on ``T``.

    Args:
        num_classes: Width of the classifier.
        T: Number of time steps.
        vocab_size: See :class:`~snn.models.sizes.Sizes`, as for the further sizes.
        hidden_size: Width of the residual stream.
        num_hidden_layers: Number of encoder layers.
        num_attention_heads: Heads per layer.
        intermediate_size: Width of the feed-forward part.
        max_position_embeddings: Rows of the table of positions.
        type_vocab_size: Number of segments.
        hidden_act: Activation of the feed-forward part.
        layer_norm_eps: Added to the variance in the norms.
        hidden_dropout_prob: Dropout after embeddings and in front of residual sums.
        attention_probs_dropout_prob: Dropout of attention probabilities.
        shared_dropout: One dropout mask per forward pass, for all steps and for the gradient; as published, every
            step and the gradient draw their own.
        pad_token_id: Row of the embedding that gets no gradient.
        threshold: Of all neurons, > 0.
        leak: What of a membrane is left after a step, in (0, 1].
        rate: ``mean`` over the steps, or ``weighted`` by ``leak**(T - t)``, which is what a leaky neuron's constant
            drive determines.
        feedback: Whether the last layer's spikes drive the embedding's neurons one step later, through a matrix.
        gradient: ``replace`` (as published), ``measured``, ``implicit`` or ``bptt``: see
            :mod:`snn.models.spikingbert.gradients`; ``bptt`` runs through time, with memory that grows with ``T``.
        solver: Of ``implicit``: ``fixed_point``, ``anderson`` or ``broyden``.
        solver_tolerance: Relative residual that it is to reach.
        solver_iterations: Most iterations.
        stop_tolerance: Mean change of rates between two checks at which a sample stops before ``T``; None: never.
        stop_every: Steps between two checks.
        chunk: Steps that are run at once where there is no feedback; takes memory, changes no spike.
        surrogate: Of ``bptt``, see :func:`snn.functional.surrogate.derivative`.
        alpha: Its sharpness.

    Shape:
        ``input_ids``, ``attention_mask``, ``token_type_ids`` ``[B, S]`` to ``.logits`` ``[B, num_classes]``.

    Raises:
        ConfigError: A value that cannot work.

    Reference:
        Bal and Sengupta, AAAI 2024.
    """

    def __init__(
        self,
        num_classes: int,
        T: int = 100,
        vocab_size: int = 30522,
        hidden_size: int = 768,
        num_hidden_layers: int = 4,
        num_attention_heads: int = 12,
        intermediate_size: int = 3072,
        max_position_embeddings: int = 512,
        type_vocab_size: int = 2,
        hidden_act: str = "gelu",
        layer_norm_eps: float = 1e-12,
        hidden_dropout_prob: float = 0.1,
        attention_probs_dropout_prob: float = 0.1,
        shared_dropout: bool = False,
        pad_token_id: int = 0,
        threshold: float = 1.0,
        leak: float = 1.0,
        rate: Literal["mean", "weighted"] = "mean",
        feedback: bool = False,
        gradient: GradientMode = "replace",
        solver: Method = "anderson",
        solver_tolerance: float = 1e-5,
        solver_iterations: int = 30,
        stop_tolerance: float | None = None,
        stop_every: int = 10,
        chunk: int = 1,
        surrogate: Surrogate = "sigmoid",
        alpha: float = 4.0,
    ):
        super().__init__()
        check_sizes(
            {
                "vocab_size": vocab_size,
                "hidden_size": hidden_size,
                "num_hidden_layers": num_hidden_layers,
                "num_attention_heads": num_attention_heads,
                "intermediate_size": intermediate_size,
                "max_position_embeddings": max_position_embeddings,
                "type_vocab_size": type_vocab_size,
                "hidden_act": hidden_act,
                "layer_norm_eps": layer_norm_eps,
                "hidden_dropout_prob": hidden_dropout_prob,
                "attention_probs_dropout_prob": attention_probs_dropout_prob,
                "pad_token_id": pad_token_id,
            }
        )
        for name, steps in (("T", T), ("stop_every", stop_every), ("chunk", chunk)):
            require(steps >= 1, name, steps, "a whole number >= 1")
        require_positive(threshold=threshold, alpha=alpha, solver_tolerance=solver_tolerance)
        require(solver_iterations >= 1, "solver_iterations", solver_iterations, "a whole number >= 1")
        require(0 < leak <= 1, "leak", leak, "a number in (0, 1]")
        require(
            stop_tolerance is None or stop_tolerance > 0,
            "stop_tolerance",
            stop_tolerance,
            "a number > 0, or null",
        )
        if rate == "weighted" and leak == 1:
            raise ConfigError(
                "model.args.rate: weighted rates need model.args.leak below 1, got 1.0; "
                "without a leak all steps weigh the same, so use model.args.rate=mean"
            )
        self.T, self.chunk, self.gradient, self.shared_dropout = T, chunk, gradient, shared_dropout
        self.hidden_dropout = hidden_dropout_prob
        #: Whether training simulates with spikes multiplied as integers, where the machine is faster so; as exact as
        #: float32, but whether it pays depends on the batch, and what is measured shall not.
        self.integer = True
        self.law = Law(threshold, leak, rate == "weighted", surrogate, alpha)
        self.solver = Solver(solver, solver_tolerance, solver_iterations)
        self.stopping = Stopping(stop_tolerance, stop_every)
        self.embeddings = Embeddings(
            vocab_size, max_position_embeddings, type_vocab_size, hidden_size, pad_token_id, layer_norm_eps
        )
        self.layers = nn.ModuleList(
            EncoderLayer(
                f"layers.{index}",
                hidden_size,
                num_attention_heads,
                intermediate_size,
                _activation(hidden_act),
                layer_norm_eps,
                hidden_dropout_prob,
                attention_probs_dropout_prob,
            )
            for index in range(num_hidden_layers)
        )
        self.feedback = nn.Linear(hidden_size, hidden_size, bias=False) if feedback else None
        self.classifier = nn.Linear(hidden_size, num_classes)
        #: Layers of neurons whose rates are read, from the embedding to the last encoder layer.
        self.taps = ("embedding", *(f"{layer.name}.output" for layer in self.layers))
        self.last = Diagnostics()
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> SpikingBertOutput:
        """Simulate, and attach a gradient where one may be asked for."""
        self._check_length(input_ids)
        real = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        segments = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        noise = Noise(self.training, self.shared_dropout)
        drive = self.embeddings(input_ids, segments)
        drive = noise("embedding", drive, self.hidden_dropout, drive.shape[0])
        real = real.to(drive.dtype)
        mask = (1 - real)[:, None, None, :] * PADDING_SCORE

        differentiable = torch.is_grad_enabled()
        through_time = differentiable and self.gradient == "bptt"
        with torch.set_grad_enabled(through_time):
            simulation = self.simulate(drive, mask, real, noise, over_time=not differentiable)
        self._diagnose(simulation, real)
        if differentiable and not through_time:
            taps, scores = RULES[self.gradient](self, simulation, drive, mask, noise)
        else:
            taps, scores = [simulation.rates[name] for name in self.taps], simulation.scores
        # A rate is never negative; but silent neurons of the first token get no gradient from the logits.
        first = taps[-1][:, 0].relu()
        over_time = None if simulation.first is None else partial(self._read, simulation.first)
        return SpikingBertOutput(self.classifier(first), tuple(taps), tuple(scores), over_time)

    @torch.no_grad()
    def _read(self, rates: Tensor) -> Tensor:
        return self.classifier(rates)

    def simulate(
        self, drive: Tensor, mask: Tensor, real: Tensor, noise: Noise, over_time: bool = False
    ) -> Simulation:
        """Run the neurons; see :func:`snn.models.spikingbert.simulation.simulate`.

        Rates over time are for what is measured; without them it is training, with dropout or not.
        """
        return simulate(
            self.encode,
            drive,
            mask,
            real,
            noise,
            self.law,
            self.T,
            self.taps,
            self.chunk,
            self.feedback,
            self.stopping,
            over_time,
            self.around,
            self.integer and not over_time,
        )

    def encode(
        self, drive: Tensor, mask: Tensor, fire: Fire, noise: Noise
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The whole network, given what its neurons make of their drives: emissions at the taps, and scores."""
        taps, scores = [fire("embedding", drive)], []
        for layer in self.layers:
            emitted, score = layer(taps[-1], mask, fire, noise)
            taps.append(emitted)
            scores.append(score)
        return taps, scores

    def analog(self, name: str, drive: Tensor) -> Tensor:
        """The neuron of the analog network: the rate of one with a constant drive."""
        return clamped_rate(drive, self.law.threshold)

    def fed_back(self, drive: Tensor, last: Tensor) -> Tensor:
        """The drive of the first neurons, with what the last ones feed back."""
        return drive if self.feedback is None else drive + self.feedback(last)

    def _check_length(self, input_ids: Tensor) -> None:
        rows = self.embeddings.positions.num_embeddings
        if input_ids.shape[1] > rows:
            raise ConfigError(
                f"dataset.max_length: a text of {input_ids.shape[1]} tokens, but model.args.max_position_embeddings "
                f"is {rows}"
            )

    @torch.no_grad()
    def _diagnose(self, simulation: Simulation, real: Tensor) -> None:
        token_steps = (real.sum(1) * simulation.steps).sum()
        self.last.rates = {
            name: (count.mean(-1) * real).sum() / token_steps for name, count in simulation.counts.items()
        }
        self.last.steps = simulation.steps


def _activation(name: str) -> nn.Module:
    from transformers.activations import ACT2FN

    return ACT2FN[name]


SPIKINGBERT = Architecture(
    build=SpikingBert,
    input_kind="text",
    activation="hidden_act",
    token_types=True,
    longest=lambda args: args["max_position_embeddings"],
    native=True,
)
