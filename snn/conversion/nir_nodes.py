"""How layers and neurons are written in NIR: one node, or a few, for each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from snn.neurons.integrate_fire import IntegrateFire
from snn.neurons.lif import LIF, PLIF, NativeIntegrateFire
from snn.neurons.para_inf import ParaInf
from snn.neurons.para_inf_channelwise import ParaInfChannelwise
from snn.neurons.st_bif import STBIF

#: Names of the nodes that a signal is the sum of.
Sources = frozenset[str]


class Inexpressible(Exception):
    """What has no counterpart in NIR, and why."""


class GraphBuilder:
    """Nodes and edges of a graph, as they come.

    Attributes:
        nodes: By name: NIR nodes, and reasons (:class:`Inexpressible`) where there ought to be one.
        edges: Pairs of names.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []

    def add(self, name: str, node: Any, sources: Sources) -> Sources:
        """Add a node that gets the sum of ``sources``; what it gives."""
        number = 1
        unique = name
        while unique in self.nodes:  # a module that is called twice
            unique, number = f"{name}#{number}", number + 1
        self.nodes[unique] = node
        self.edges += [(source, unique) for source in sorted(sources)]
        return frozenset({unique})

    def inputs(self, name: str) -> Sources:
        """What feeds a node."""
        return frozenset(a for a, b in self.edges if b == name)

    def leading_to(self, ends: Sources) -> set[str]:
        """All nodes that something reaches ``ends`` from, themselves included."""
        found, new = set(ends), list(ends)
        while new:
            before = self.inputs(new.pop()) - found
            found |= before
            new += before
        return found


Export = Callable[[GraphBuilder, str, Any, Tensor, Sources], Sources]


def _linear(build: GraphBuilder, name: str, module: nn.Linear, x: Tensor, sources: Sources) -> Sources:
    import nir

    if x.dim() != 2:
        raise Inexpressible("a linear layer of several tokens or places: NIR's take one vector")
    return build.add(name, nir.Affine(array(module.weight), _bias(module)), sources)


def _convolution(build: GraphBuilder, name: str, module: Any, x: Tensor, sources: Sources) -> Sources:
    import nir

    if module.padding_mode != "zeros":
        raise Inexpressible(f"padding_mode={module.padding_mode}")
    if module.groups > 1:
        raise Inexpressible("groups: NIR 1.0's own check of shapes refuses what it writes")
    flat = isinstance(module, nn.Conv1d)
    shape = x.shape[2] if flat else tuple(x.shape[2:])
    sizes = [
        value if isinstance(value, str) else int(value[0]) if flat else tuple(value)
        for value in (module.stride, module.padding, module.dilation)
    ]
    kind = nir.Conv1d if flat else nir.Conv2d
    return build.add(name, kind(shape, array(module.weight), *sizes, module.groups, _bias(module)), sources)


def _norm(build: GraphBuilder, name: str, module: Any, x: Tensor, sources: Sources) -> Sources:
    """A batch norm in evaluation: the layer before it with other weights, or a layer of its own."""
    import nir

    if module.running_var is None:
        raise Inexpressible("a batch norm without running statistics")
    scale = 1 / (module.running_var + module.eps).sqrt()
    scale = scale if module.weight is None else scale * module.weight
    shift = -module.running_mean * scale
    shift = shift if module.bias is None else shift + module.bias
    factor, offset = array(scale), array(shift)
    before = build.nodes[next(iter(sources))] if len(sources) == 1 else None
    if isinstance(before, nir.Affine | nir.Conv1d | nir.Conv2d):
        values = vars(before)
        weight = before.weight * factor.reshape(-1, *[1] * (before.weight.ndim - 1))
        if isinstance(before, nir.Affine):
            node: Any = nir.Affine(weight, before.bias * factor + offset)
        else:
            kept = {key: values[key] for key in ("input_shape", "stride", "padding", "dilation", "groups")}
            node = type(before)(weight=weight, bias=before.bias * factor + offset, **kept)
        return build.add(name, node, build.inputs(next(iter(sources))))
    diagonal = np.diag(factor)
    if x.dim() == 2:
        return build.add(name, nir.Affine(diagonal, offset), sources)
    if x.dim() == 4:
        weight = diagonal[:, :, None, None]
        return build.add(name, nir.Conv2d(tuple(x.shape[2:]), weight, 1, 0, 1, 1, offset), sources)
    return build.add(name, nir.Conv1d(x.shape[2], diagonal[:, :, None], 1, 0, 1, 1, offset), sources)


def _average(build: GraphBuilder, name: str, module: nn.AvgPool2d, x: Tensor, sources: Sources) -> Sources:
    size, padding = _pair(module.kernel_size), _pair(module.padding)
    if module.ceil_mode or module.divisor_override or (padding != (0, 0) and not module.count_include_pad):
        raise Inexpressible("an average with ceil_mode, divisor_override or without its padding")
    return _pool(build, name, size, _pair(module.stride), padding, sources)


def _adaptive(
    build: GraphBuilder, name: str, module: nn.AdaptiveAvgPool2d, x: Tensor, sources: Sources
) -> Sources:
    size = tuple(x.shape[2:])
    wanted = tuple(own if own is not None else old for own, old in zip(_pair(module.output_size), size))
    if any(old % new for old, new in zip(size, wanted)):
        raise Inexpressible(f"an adaptive average from {size} to {wanted} places, of windows of unequal size")
    window = tuple(old // new for old, new in zip(size, wanted))
    return _pool(build, name, window, window, (0, 0), sources)


def _pool(build: GraphBuilder, name: str, size: Any, stride: Any, padding: Any, sources: Sources) -> Sources:
    import nir

    return build.add(name, nir.AvgPool2d(*(np.array(value) for value in (size, stride, padding))), sources)


def flatten(build: GraphBuilder, name: str, shape: Sequence[int], sources: Sources) -> Sources:
    """One vector of all values of a sample, ``shape`` being theirs."""
    import nir

    if len(shape) == 1:
        return sources
    return build.add(name, nir.Flatten({"input": np.array(shape)}, 0, -1), sources)


def _flatten(build: GraphBuilder, name: str, module: nn.Flatten, x: Tensor, sources: Sources) -> Sources:
    if (module.start_dim, module.end_dim % x.dim()) != (1, x.dim() - 1):
        raise Inexpressible("a flatten of some of the axes")
    return flatten(build, name, x.shape[1:], sources)


def _nothing(build: GraphBuilder, name: str, module: nn.Module, x: Tensor, sources: Sources) -> Sources:
    return sources


def _integrate_fire(
    build: GraphBuilder, name: str, neuron: IntegrateFire, x: Tensor, sources: Sources
) -> Sources:
    """The neuron that QCFS is converted to: its reset subtracts, and it may take a spike back.

    NIR's IF forgets the rest of its membrane when it fires, so the reset is a loop here: an integrator, a threshold,
    and its spikes, weighted by minus the threshold, back to the integrator at the next step. The membrane starts at
    0 in NIR, so all of it lies ``initial`` thresholds lower.
    """
    import nir

    if neuron.shift is not None:
        raise Inexpressible("a shift of a neuron's current (quantization=da_qcfs)")
    if neuron.offset is not None and len(neuron.offset) > 1:
        raise Inexpressible("a charge of its own at every step (conversion.offsets=steps)")
    threshold = _whole(neuron._aligned(neuron.threshold, x), x)
    start = neuron.initial * threshold
    if neuron.offset is not None:
        start = start + _whole(neuron._aligned(neuron.offset[0], x), x) * threshold
    height = threshold if neuron.gain is None else threshold * _whole(neuron._aligned(neuron.gain, x), x)
    integrator = build.add(name, nir.I(np.ones_like(array(threshold))), sources)
    fire = build.add(f"{name}.spike", nir.Threshold(just_below(threshold - start)), integrator)
    _loop(build, f"{name}.reset", -threshold, fire, integrator)
    out = build.add(f"{name}.out", nir.Scale(array(height)), fire)
    if neuron.signed:
        below = build.add(f"{name}.inverse", nir.Scale(-np.ones_like(array(threshold))), integrator)
        take = build.add(f"{name}.negative_spike", nir.Threshold(array(start)), below)
        _loop(build, f"{name}.negative_reset", threshold, take, integrator)
        out |= build.add(f"{name}.negative_out", nir.Scale(array(-height)), take)
    return out


def _lif(build: GraphBuilder, name: str, neuron: LIF, x: Tensor, sources: Sources) -> Sources:
    """A native neuron: IF or LIF where the reset is hard, an integrator in a loop where it is soft.

    ``h = v + (x - v)/tau`` is NIR's equation in steps of length 1, with r = 1; without decay of the input, r = tau.
    """
    import nir

    options, tau = neuron.options, float(neuron.tau)
    threshold = torch.full_like(x[0], options["threshold"])
    start = options["initial"] * threshold
    ones, level = np.ones_like(array(threshold)), just_below(threshold - start)
    endless = math.isinf(tau)
    r = ones if endless or options["decay_input"] else tau * ones
    leak = array(-start)  # the potential that everything leaks to, 0, as seen from the start
    if options["reset"] == "hard":
        if endless:
            return build.add(name, nir.IF(r, level, leak), sources)
        return build.add(name, nir.LIF(tau * ones, r, leak, level, leak), sources)
    kept = 1.0 if endless else (1 - 1 / tau) * tau / float(r.flat[0])
    integrator = build.add(name, nir.I(r) if endless else nir.LI(tau * ones, r, leak), sources)
    fire = build.add(f"{name}.spike", nir.Threshold(level), integrator)
    _loop(build, f"{name}.reset", -threshold * kept, fire, integrator)
    return fire


def _loop(build: GraphBuilder, name: str, weight: Tensor, spikes: Sources, integrator: Sources) -> None:
    import nir

    reset = build.add(name, nir.Scale(array(weight)), spikes)
    build.edges.append((next(iter(reset)), next(iter(integrator))))


def _refused(reason: str) -> Export:
    def refuse(build: GraphBuilder, name: str, module: Any, x: Tensor, sources: Sources) -> Sources:
        raise Inexpressible(reason)

    return refuse


_NOT_CAUSAL = "neuron=para_inf, whose spikes depend on later input (neuron=integrate_fire can be expressed)"

#: By exact type, because a subclass may compute something else.
EXPORTS: dict[type[nn.Module], Export] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.BatchNorm1d: _norm,
    nn.BatchNorm2d: _norm,
    nn.AvgPool2d: _average,
    nn.AdaptiveAvgPool2d: _adaptive,
    nn.Flatten: _flatten,
    nn.Identity: _nothing,
    nn.Dropout: _nothing,
    nn.Dropout2d: _nothing,
    IntegrateFire: _integrate_fire,
    LIF: _lif,
    PLIF: _lif,
    NativeIntegrateFire: _lif,
    ParaInf: _refused(_NOT_CAUSAL),
    ParaInfChannelwise: _refused(_NOT_CAUSAL),
    STBIF: _refused("neuron=st_bif, whose input and biases come at the first step alone"),
}


def array(values: Tensor) -> np.ndarray[Any, Any]:
    """As NIR keeps it; a copy."""
    return values.detach().cpu().numpy().copy()


def just_below(threshold: Tensor) -> np.ndarray[Any, Any]:
    """NIR fires above a threshold, our neurons at it as well: the next smaller number makes the two the same."""
    return array(torch.nextafter(threshold, torch.full_like(threshold, -math.inf)))


def _whole(parameter: Tensor, x: Tensor) -> Tensor:
    """One value for each neuron of a sample."""
    return parameter.expand(x.shape[1:] if x.dim() > 1 else x.shape).contiguous()


def _bias(module: Any) -> np.ndarray[Any, Any]:
    return array(module.weight.new_zeros(module.weight.shape[0]) if module.bias is None else module.bias)


def _pair(value: Any) -> tuple[Any, Any]:
    return (value, value) if isinstance(value, int) or value is None else tuple(value)
