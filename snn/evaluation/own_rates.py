"""Spike rates of a network whose neurons are no modules, and which says itself what they did."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from snn.models.spikingbert.output import Diagnostics


class OwnRates:
    """Means over batches of what ``model.last`` says after each.

    Args:
        model: With ``last``, see :class:`~snn.models.spikingbert.output.Diagnostics`.
    """

    def __init__(self, model: nn.Module):
        self.model = model
        self.spikes: dict[str, float] = {}
        self.token_steps, self.tokens, self.samples = 0.0, 0.0, 0

    @staticmethod
    def of(model: nn.Module) -> OwnRates | None:
        """For a network that says what its neurons did; None for any other."""
        return OwnRates(model) if isinstance(getattr(model, "last", None), Diagnostics) else None

    def update(self, inputs: Mapping[str, Tensor]) -> None:
        """Add the batch that has just run; padding is no part of it."""
        last = self.last
        assert last.steps is not None
        mask = inputs.get("attention_mask")
        ids = inputs["input_ids"]
        lengths = (ids.new_ones(ids.shape) if mask is None else mask).sum(1)
        token_steps = float((lengths * last.steps).sum())
        for name, rate in last.rates.items():
            spikes = float(rate) * token_steps * last.widths[name]
            self.spikes[name] = self.spikes.get(name, 0.0) + spikes
        self.token_steps += token_steps
        self.tokens += float(lengths.sum())
        self.samples += len(lengths)

    @property
    def last(self) -> Diagnostics:
        last = self.model.last
        assert isinstance(last, Diagnostics)
        return last

    def by_layer(self) -> list[dict[str, object]]:
        """One plain dict per layer, in order of execution; ``neurons`` are those of a text of mean length."""
        widths = self.last.widths
        rates = {name: spikes / (self.token_steps * widths[name]) for name, spikes in self.spikes.items()}
        return [
            {
                "name": name,
                "neurons": widths[name] * self.tokens / self.samples,
                "rate": rate,
                "positive_rate": rate,
                "negative_rate": 0.0,
                "sparsity": 1 - rate,
            }
            for name, rate in rates.items()
        ]

    def total_rate(self) -> float:
        """Spikes per neuron per time step, over the whole network."""
        return sum(self.spikes.values()) / (self.token_steps * sum(self.last.widths.values()))

    def spikes_per_sample(self) -> float:
        """Spikes in the whole network for one sample, on average."""
        return sum(self.spikes.values()) / self.samples
