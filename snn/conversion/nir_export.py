"""Export to NIR, the exchange format of neuromorphic hardware and simulators: ``snn.export_nir(network, batch)``.

One forward is watched: layers and neurons become nodes, sums become edges that meet. What has no counterpart is
refused, all of it in one list.

Reference:
    Pedersen et al., Neuromorphic intermediate representation, Nature Communications 2024.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from snn.conversion.call import call_model, labels_removed
from snn.conversion.function_calls import function_name
from snn.conversion.network import SpikingNetwork
from snn.conversion.nir_nodes import EXPORTS, GraphBuilder, Inexpressible, Sources, flatten
from snn.errors import ConfigError, ConversionError
from snn.neurons.run import Run, running

if TYPE_CHECKING:
    import nir

#: Functions that give the same values in the same order.
_LAYOUT = {
    "view",
    "reshape",
    "flatten",
    "unflatten",
    "contiguous",
    "expand",
    "unsqueeze",
    "squeeze",
    "clone",
    "to",
}
_LAYOUT |= {"float", "double", "detach"}


@torch.no_grad()
def export_nir(
    network: nn.Module, batch: Mapping[str, Tensor], path: str | Path | None = None
) -> nir.NIRGraph:
    """Write a spiking network as a NIR graph.

    The graph is one of time steps of length 1: what enters ``input`` at each step is the network's input of that step
    (of a converted network the whole input, at every step), and what leaves ``output`` is the read-out's share of
    that step: the read-out after t steps is its mean. A loop, from a spike back to its membrane, takes one step.

    Args:
        network: A converted network with integrate-and-fire neurons, or one of LIF or IF neurons, in which
            there are linear layers, convolutions, batch norms, averages and sums beside.
        batch: Model inputs, for the shapes; a network without ``.T`` takes ``[T, B, ...]``.
        path: Where to write the graph too; ``.nir`` is the usual ending.

    Raises:
        ConfigError: The package nir is missing.
        ConversionError: Something cannot be expressed; the message lists everything.
    """
    try:
        import nir
    except ImportError as error:
        raise ConfigError("export: 'nir' needs the package nir; `pip install nir`") from error
    build = GraphBuilder()
    inputs, steps, rows = _rows(network, labels_removed(batch))
    model = network.model if isinstance(network, SpikingNetwork) else network
    flow = _Flow(build, steps, rows)
    for name, x in inputs.items():
        shape = flow.sample_shape(x)
        node = nir.Input({"input": np.array(shape)})
        flow.follow(x, build.add("input" if len(inputs) == 1 else f"input.{name}", node, frozenset()))
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with _in_time(network, rows), flow.watching(model), flow:
            out = call_model(model, inputs)
    finally:
        for module, training in modes.items():
            module.training = training
    sources = flow.sources(out)
    if sources is None:
        raise ConversionError(
            "NIR: the output does not depend on the input by anything that could be followed"
        )
    node = nir.Output({"output": np.array(flow.sample_shape(out))})
    graph = _graph(build, build.add("output", node, sources), network)
    if path is not None:
        nir.write(str(path), graph)
    return graph


def _graph(build: GraphBuilder, end: Sources, network: nn.Module) -> nir.NIRGraph:
    import nir

    needed = build.leading_to(end)
    nodes = {name: node for name, node in build.nodes.items() if name in needed}
    reasons = Counter(str(node) for node in nodes.values() if isinstance(node, Inexpressible))
    if sum(isinstance(node, nir.Input) for node in nodes.values()) > 1:
        reasons["several inputs"] += 1
    if reasons:
        places = {
            str(x): name.partition(" ▸ ")[0]
            for name, x in reversed(nodes.items())
            if isinstance(x, Inexpressible)
        }
        listed = [
            f"{reason} in {places.get(reason, 'the model')}" + (f" and {n - 1} more" if n > 1 else "")
            for reason, n in reasons.items()
        ]
        raise ConversionError(f"NIR cannot express: {'; '.join(listed)}")
    edges = [(a, b) for a, b in build.edges if a in needed and b in needed]
    about: dict[str, Any] = {"dt": 1.0, "read_out": "mean of the output over the time steps"}
    steps = getattr(network, "T", None)
    return nir.NIRGraph(nodes, edges, metadata=about | ({"T": steps} if steps else {}))


def _rows(network: nn.Module, inputs: Mapping[str, Any]) -> tuple[dict[str, Tensor], int, int]:
    """The first sample, several times, so that an axis of samples is known by its length; T and that length."""
    tensors = {k: v for k, v in inputs.items() if isinstance(v, Tensor) and v.dim()}
    if isinstance(network, SpikingNetwork):
        steps, axis = 1, 0  # one step shows what there is
    else:
        own = getattr(network, "T", None)
        steps, axis = (own, 0) if own else (len(next(iter(tensors.values()))), 1)
    rows = steps + 1
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    repeated = {
        k: v.to(device).narrow(axis, 0, 1).repeat_interleave(rows, dim=axis) for k, v in tensors.items()
    }
    return repeated, steps, rows


@contextmanager
def _in_time(network: nn.Module, rows: int) -> Iterator[None]:
    """The first step of a converted network; others know of time themselves."""
    if not isinstance(network, SpikingNetwork):
        yield
        return
    run = Run(network.T, network.coding, rows=torch.arange(rows))
    with running(run):
        run.start_chunk(range(1, 2))
        yield


class _Flow(TorchFunctionMode):
    """Follows signals through a forward.

    Args:
        build: Gets the nodes.
        steps: Time steps T of the signals, ``[T, B, ...]`` or ``[T*B, ...]``, or ``[B, ...]`` where all are alike.
        rows: B.
    """

    def __init__(self, build: GraphBuilder, steps: int, rows: int):
        super().__init__()
        self.build, self._steps, self._rows = build, steps, rows
        #: What each tensor is the sum of. The tensor is kept, so that its id stays its own.
        self._known: dict[int, tuple[Sources, Tensor]] = {}
        self._places: list[str] = [""]
        self._inside = 0

    def follow(self, x: Tensor, sources: Sources) -> None:
        self._known[id(x)] = sources, x

    def sources(self, x: Any) -> Sources | None:
        return self._known.get(id(x), (None, None))[0]

    def sample_shape(self, x: Tensor) -> tuple[int, ...]:
        """The shape without the axes of time and samples."""
        number = 1
        for axis, size in enumerate(x.shape, 1):
            number *= size
            if number in (self._rows, self._rows * self._steps):
                return tuple(x.shape[axis:])
        return tuple(x.shape)

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Know of the modules of a model while they run."""
        handles = []
        for name, module in model.named_modules(remove_duplicate=False):

            def enter(module: nn.Module, args: Any, name: str = name) -> None:
                self._places.append(name)
                self._inside += type(module) in EXPORTS

            def leave(module: nn.Module, args: Any, more: Any, output: Any, name: str = name) -> None:
                self._places.pop()
                if type(module) in EXPORTS:
                    self._inside -= 1
                    if not self._inside:
                        self._module(name or "network", module, [*args, *more.values()][0], output)

            handles.append(module.register_forward_pre_hook(enter))
            # Before what else comes after the module: a neuron behind it gets its output.
            handles.append(module.register_forward_hook(leave, prepend=True, with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _module(self, name: str, module: nn.Module, x: Tensor, output: Tensor) -> None:
        sources = self.sources(x)
        if sources is None:
            return
        sample = x.reshape(-1, *self.sample_shape(x))
        try:
            given = EXPORTS[type(module)](self.build, name, module, sample, sources)
        except Inexpressible as reason:
            given = self.build.add(name, reason, sources)
        self.follow(output, given)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if self._inside or not isinstance(out, Tensor):
            return out
        known = [x for x in tree_leaves([args, kwargs]) if isinstance(x, Tensor) and self.sources(x)]
        if known:
            self.follow(out, self._function(function_name(func), known, out, kwargs or {}))
        return out

    def _function(self, name: str, known: list[Tensor], out: Tensor, options: Mapping[str, Any]) -> Sources:
        """What a function outside of the known modules gives."""
        first, *others = [self.sources(x) or frozenset() for x in known]
        place = f"{self._places[-1]} ▸ {name}()".removeprefix(" ▸ ")
        same = len(known) == 2 and known[0].shape == known[1].shape
        if name in ("add", "iadd") and same and not first & others[0] and options.get("alpha", 1) == 1:
            return first | others[0]
        if name in _LAYOUT and not others:
            before, after = self.sample_shape(known[0]), self.sample_shape(out)
            if before == after:
                return first
            if after == (torch.Size(before).numel(),):
                return flatten(self.build, place, before, first)
        return self.build.add(place, Inexpressible(f"{name}()"), frozenset().union(first, *others))
