"""How much attention every token receives, whatever the architecture: the softmaxes of a forward are watched."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from snn.conversion.attention import SOFTMAX, AttentionInCalls
from snn.conversion.function_calls import function_name
from snn.conversion.network import SpikingNetwork
from snn.functional.padding import current_mask
from snn.functional.time_axis import unfold
from snn.neurons.run import current_run


class AttentionReceived(TorchFunctionMode):
    """While it is active, the attention of a spiking network's forward is read at the last step that is computed.

    The probabilities are those that the network computes from the aggregates of its queries and keys, before they are
    turned into spikes themselves. What a token receives is the mean of its column over the queries, padding
    excluded: 1/n on average, for n tokens.

    Args:
        network: The network that runs.

    Attributes:
        received: By the module that attends, ``[B, heads, S]``; 0 at padding.
    """

    def __init__(self, network: SpikingNetwork):
        super().__init__()
        self.received: dict[str, Tensor] = {}
        self._network = network
        self._inside: list[tuple[str, nn.Module]] = []
        self._closing = ExitStack()

    def __enter__(self) -> AttentionReceived:
        entered = super().__enter__()
        for name, module in self._network.model.named_modules():
            enter = module.register_forward_pre_hook(lambda m, _, name=name: self._inside.append((name, m)))
            leave = module.register_forward_hook(lambda *_: self._leave(), always_call=True)
            self._closing.callback(enter.remove)
            self._closing.callback(leave.remove)
        # Attention in one piece hides its probabilities; taken apart, its softmax is seen here.
        self._closing.enter_context(AttentionInCalls())
        return entered

    def __exit__(self, *error: Any) -> None:
        self._closing.close()
        super().__exit__(*error)

    def _leave(self) -> None:
        self._inside.pop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if function_name(func) == SOFTMAX and isinstance(result, Tensor) and self._inside:
            self._read(result)
        return result

    def _read(self, probabilities: Tensor) -> None:
        run = current_run()
        assert run.rows is not None
        if probabilities.dim() != 4 or probabilities.shape[0] % run.steps:
            return  # a softmax of something else
        last = unfold(probabilities.detach(), run.steps)[-1]
        mask = current_mask(last, over_keys=True)
        if mask is None or last.shape[-1] != last.shape[-2]:
            return
        queries = mask.any(-1).sum(-1)[..., None]
        received = ((last * mask).sum(-2, dtype=torch.float64) / queries).cpu()
        name, module = self._inside[-1]
        call = run.enter(module)
        name += f"#{call}" if call else ""
        if name not in self.received:
            self.received[name] = torch.zeros_like(received)
        self.received[name][run.rows.cpu()] = received
