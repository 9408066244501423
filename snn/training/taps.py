"""What one network can teach another: the outputs of its embedding and layers, its attention scores, its logits.

A network that hands them out itself (SpikingBERT) is asked; any other is watched while it runs, and is not changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from snn.conversion.attention import SOFTMAX, attention_in_calls
from snn.conversion.call import call, read_logits
from snn.conversion.function_calls import function_name
from snn.errors import ConfigError


@dataclass(frozen=True)
class Signals:
    """What a forward pass showed.

    Args:
        logits: ``[B, C]``, or ``[T, B, C]`` of every step of a network that spikes by itself.
        hidden: Outputs of the embedding and of each layer, ``[B, S, width]`` each; empty if not asked for.
        scores: Attention scores of each layer in front of the softmax, ``[B, heads, S, S]``; empty likewise.
    """

    logits: Tensor
    hidden: tuple[Tensor, ...] = ()
    scores: tuple[Tensor, ...] = ()


class Taps:
    """A network, and what to look at when it runs.

    Args:
        network: Any network; for more than logits, one that hands them out itself or has a list of layers.
        hidden: Whether outputs of embedding and layers are wanted.
        scores: Whether attention scores are.

    Raises:
        ConfigError: The network has no list of layers.
    """

    def __init__(self, network: nn.Module, hidden: bool, scores: bool):
        self.network, self.hidden, self.scores = network, hidden, scores
        self.layers: nn.ModuleList | None = None
        if (hidden or scores) and not hasattr(network, "taps"):
            self.layers = layer_list(network)

    def __call__(self, inputs: Mapping[str, Any]) -> Signals:
        """Run the network.

        Raises:
            ConfigError: It has not one attention per layer.
        """
        if self.layers is None:
            output = call(self.network, inputs)
            hidden = output.hidden_states if self.hidden else ()
            scores = output.attention_scores if self.scores else ()
            return Signals(read_logits(output), tuple(hidden), tuple(scores))
        recorder = ScoreRecorder()
        watching: AbstractContextManager[Any] = recorder if self.scores else nullcontext()
        # Fused attention is one call, without a softmax to be seen.
        taken_apart = attention_in_calls({SOFTMAX} if self.scores else set())
        with watched(self.layers) as seen, watching, taken_apart:
            output = call(self.network, inputs)
        if self.scores and len(recorder.scores) != len(self.layers):
            raise ConfigError(
                f"distillation.attention: a {type(self.network).__name__} has {len(self.layers)} layers, but "
                f"{len(recorder.scores)} attentions; set distillation.attention=0"
            )
        return Signals(read_logits(output), tuple(seen) if self.hidden else (), tuple(recorder.scores))


class ScoreRecorder(TorchFunctionMode):
    """Keeps what each softmax of an attention was given: whatever kernel, bias and mask the network has.

    Attributes:
        scores: In order of execution, ``[B, heads, S, S]`` each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scores: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function_name(func) == SOFTMAX:
            given = args[0] if args else kwargs["input"]
            if given.dim() == 4 and given.shape[-1] == given.shape[-2]:
                self.scores.append(given)
        return func(*args, **(kwargs or {}))


@contextmanager
def watched(layers: nn.ModuleList) -> Iterator[list[Tensor]]:
    """Yield a list that fills with the first layer's input and the output of every layer."""
    seen: list[Tensor] = []

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append(args[0] if args else next(iter(kwargs.values())))

    def after(_module: nn.Module, _args: Any, output: Any) -> None:
        seen.append(output if isinstance(output, Tensor) else output[0])

    handles = [layers[0].register_forward_pre_hook(before, with_kwargs=True)]
    handles += [layer.register_forward_hook(after) for layer in layers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def layer_list(network: nn.Module) -> nn.ModuleList:
    """The outermost list of layers of one kind.

    Raises:
        ConfigError: There is none.
    """
    for module in network.modules():
        if isinstance(module, nn.ModuleList) and len({type(layer) for layer in module}) == 1:
            return module
    raise ConfigError(
        f"distillation: a {type(network).__name__} has no list of layers to compare; it can learn and teach "
        "predictions alone: distillation=logits"
    )
