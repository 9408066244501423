"""Where SpikingBERT's gradient comes from: against a plain analog network, dense systems, and unrolled iterations."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from snn.errors import TrainingError
from snn.functional.fixed_point import METHODS, Solver
from snn.functional.surrogate import spike
from snn.models.spikingbert.gradients import GRADIENT_MODES, RULES
from snn.models.spikingbert.layers import Noise
from snn.models.spikingbert.model import SpikingBert
from snn.models.spikingbert.output import SpikingBertOutput

from .small import batch
from .test_spikingbert import network, run

Neuron = Callable[[str, Tensor], Tensor]


def clamped(name: str, drive: Tensor) -> Tensor:
    """The analog neuron at threshold 1, by torch alone."""
    return torch.where((drive >= 0) & (drive <= 1), drive, drive.detach().clamp(0, 1))


def encoded(model: SpikingBert, drive: Tensor, mask: Tensor, neuron: Neuron) -> dict[str, Tensor]:
    """All layers of neurons and the scores, written out again from the published equations."""
    x = neuron("embedding", drive)
    out = {"embedding": x}
    for index, layer in enumerate(model.layers):

        def put(name: str, drive: Tensor, index: int = index) -> Tensor:
            out[f"layers.{index}.{name}"] = neuron(f"layers.{index}.{name}", drive)
            return out[f"layers.{index}.{name}"]

        def heads(x: Tensor) -> Tensor:
            return torch.stack(x.chunk(4, -1), 1)

        def norm(x: Tensor, parameters: torch.nn.LayerNorm) -> Tensor:
            centred = x - x.mean(-1, keepdim=True)
            variance = centred.square().mean(-1, keepdim=True)
            return centred / (variance + 1e-12).sqrt() * parameters.weight + parameters.bias

        key, value = put("key", layer.key(x)), put("value", layer.value(x))
        scores = torch.einsum("bhqd,bhkd->bhqk", heads(layer.query(x)), heads(key)) / 2 + mask
        out[f"scores.{index}"] = scores
        mixed = torch.einsum("bhqk,bhkd->bhqd", torch.softmax(scores, -1), heads(value))
        context = put("context", torch.cat(list(mixed.unbind(1)), -1))
        attended = put("attention_output", norm(layer.attention_output(context) + x, layer.attention_norm))
        hidden = put("intermediate", functional.gelu(layer.intermediate(attended)))
        x = put("output", norm(layer.output(hidden) + attended, layer.output_norm))
    return out


def drive_and_mask(model: SpikingBert, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    drive = model.embeddings(inputs["input_ids"], inputs["token_type_ids"])
    return drive, (inputs["attention_mask"][:, None, None] - 1).double() * 10000


def answer(model: SpikingBert, analog: dict[str, Tensor], taps: tuple[Tensor, ...]) -> SpikingBertOutput:
    """What a network with these taps returns."""
    scores = tuple(analog[f"scores.{index}"] for index in range(len(model.layers)))
    return SpikingBertOutput(model.classifier(taps[-1][:, 0].relu()), taps, scores)


def loss(out: SpikingBertOutput) -> Tensor:
    """Depends on logits, on every tap and on all scores."""
    taps = sum(((index + 1) * tap.square()).mean() for index, tap in enumerate(out.hidden_states))
    scores = sum(score.clamp_min(-100).square().mean() for score in out.attention_scores)
    return out.logits.square().sum() + taps + scores


def gradients(model: SpikingBert, value: Tensor) -> dict[str, Tensor]:
    """Of all parameters, zero where there is none."""
    named = dict(model.named_parameters())
    found = torch.autograd.grad(value, list(named.values()), retain_graph=True, allow_unused=True)
    return {k: torch.zeros_like(p) if g is None else g for (k, p), g in zip(named.items(), found)}


def assert_close(a: dict[str, Tensor], b: dict[str, Tensor], atol: float = 1e-10) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


def through(value: Tensor, carrier: Tensor) -> Tensor:
    """Value of one, gradient of the other."""
    return carrier + (value - carrier).detach()


def test_replace_has_measured_values_and_the_gradient_of_the_analog_network() -> None:
    model = network()
    inputs = batch(model)
    out, quiet = model(**inputs), run(model, inputs)
    assert torch.equal(out.logits, quiet.logits)
    for a, b in zip(out.hidden_states, quiet.hidden_states):
        assert torch.equal(a, b)
    found = gradients(model, loss(out))

    analog = encoded(model, *drive_and_mask(model, inputs), clamped)
    taps = tuple(through(rate, analog[name]) for name, rate in zip(model.taps, quiet.hidden_states))
    wanted = answer(model, analog, taps)
    assert_close(found, gradients(model, loss(wanted)))
    assert all(gradient.any() for name, gradient in found.items())
    assert not found["embeddings.words.weight"][0].any()


def test_measured_is_linear_around_the_measured_rates() -> None:
    model = network(gradient="measured")
    inputs = batch(model)
    drive, mask = drive_and_mask(model, inputs)
    with torch.no_grad():
        real = inputs["attention_mask"].double()
        rates = model.simulate(drive, mask, real, Noise(False, shared=False)).rates
    out = model(**inputs)
    assert torch.equal(out.logits, run(model, inputs).logits)
    analog = encoded(model, drive, mask, lambda name, d: through(rates[name], clamped(name, d)))
    wanted = answer(model, analog, tuple(analog[name] for name in model.taps))
    found = gradients(model, loss(out))
    assert_close(found, gradients(model, loss(wanted)))
    model.gradient = "replace"
    other = gradients(model, loss(model(**inputs)))
    assert not torch.allclose(found["layers.0.output.weight"], other["layers.0.output.weight"])


def test_bptt_is_the_unrolled_network() -> None:
    model = network(gradient="bptt", T=4, leak=0.9, alpha=2.0, surrogate="arctan")
    inputs = batch(model)
    drive, mask = drive_and_mask(model, inputs)
    membranes: dict[str, Tensor] = {}

    def leaky(name: str, current: Tensor) -> Tensor:
        v = membranes.get(name, torch.zeros_like(current)) + current
        s = spike(v - 1, "arctan", 2.0)
        membranes[name] = 0.9 * (v - s.detach())
        return s

    steps = [encoded(model, drive, mask, leaky) for _ in range(4)]
    means = {name: torch.stack([step[name] for step in steps]).mean(0) for name in steps[0]}
    wanted = answer(model, means, tuple(means[name] for name in model.taps))
    for chunk in (1, 4):
        model.chunk = chunk
        out = model(**inputs)
        torch.testing.assert_close(out.logits, wanted.logits, rtol=0, atol=1e-12)
        torch.testing.assert_close(run(model, inputs).logits, wanted.logits, rtol=0, atol=1e-12)
        assert_close(gradients(model, loss(out)), gradients(model, loss(wanted)))


@pytest.mark.parametrize("solver", METHODS)
def test_implicit_without_feedback_is_replace(solver: str) -> None:
    model = network(gradient="implicit", solver=solver)
    inputs = batch(model)
    out = model(**inputs)
    found = gradients(model, loss(out))
    model.gradient = "replace"
    wanted = gradients(model, loss(model(**inputs)))
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert model.last.backward.solves == 0


def fed_back(**more) -> tuple[SpikingBert, dict[str, Tensor]]:
    model = network(feedback=True, gradient="implicit", solver_tolerance=1e-13, solver_iterations=300, **more)
    return model, batch(model, rows=2)


@pytest.mark.parametrize("solver", METHODS)
def test_implicit_is_the_dense_solution(solver: str) -> None:
    model, inputs = fed_back(solver=solver)
    out = model(**inputs)
    found = gradients(model, loss(out))
    record = model.last.backward
    assert (record.solves, record.unconverged) == (1, 0)
    assert record.residual <= 1e-13
    assert record.iterations > 3

    last = out.hidden_states[-1].detach().requires_grad_()
    drive, mask = drive_and_mask(model, inputs)

    def image(last: Tensor) -> dict[str, Tensor]:
        return encoded(model, drive + last @ model.feedback.weight.T, mask, clamped)

    analog = image(last)
    taps = tuple(through(rate.detach(), analog[name]) for name, rate in zip(model.taps, out.hidden_states))
    value = loss(answer(model, analog, taps))
    (g,) = torch.autograd.grad(value, last, retain_graph=True)
    jacobian = torch.autograd.functional.jacobian(lambda z: image(z)[model.taps[-1]], last.detach())
    jacobian = jacobian.reshape(last.numel(), last.numel())
    radius = torch.linalg.eigvals(jacobian).abs().max()
    assert 0.05 < radius < 1
    x = torch.linalg.solve(torch.eye(last.numel()).double() - jacobian.T, g.flatten()).view_as(last)
    direct = gradients(model, value)
    indirect = gradients(model, (image(last)[model.taps[-1]] * x).sum())
    wanted = {name: direct[name] + indirect[name] for name in direct}
    assert_close(found, wanted, atol=1e-8)
    # The feedback's part is worth having.
    model.gradient = "replace"
    ignored = gradients(model, loss(model(**inputs)))
    assert (found["layers.0.key.weight"] - ignored["layers.0.key.weight"]).abs().max() > 1e-4


def test_implicit_at_an_equilibrium_is_a_long_unrolled_iteration() -> None:
    model, inputs = fed_back()
    drive, mask = drive_and_mask(model, inputs)
    last = torch.zeros_like(drive)
    for _ in range(120):
        analog = encoded(model, drive + last @ model.feedback.weight.T, mask, clamped)
        last = analog[model.taps[-1]]
    wanted = gradients(model, loss(answer(model, analog, tuple(analog[name] for name in model.taps))))

    with torch.no_grad():
        simulation = model.simulate(
            drive, mask, inputs["attention_mask"].double(), Noise(False, shared=False)
        )
    settled = {name: analog[name].detach() for name in simulation.rates}
    drive, mask = drive_and_mask(model, inputs)
    rule = RULES["implicit"]
    taps, scores = rule(model, replace(simulation, rates=settled), drive, mask, Noise(False, shared=False))
    named_scores = {f"scores.{index}": score for index, score in enumerate(scores)}
    found = gradients(model, loss(answer(model, named_scores, tuple(taps))))
    assert_close(found, wanted, atol=1e-8)


def test_a_solver_that_stops_short_says_so(caplog: pytest.LogCaptureFixture) -> None:
    model, inputs = fed_back(solver="fixed_point")
    model.solver = Solver("fixed_point", 1e-12, max_iterations=2)
    with caplog.at_level(logging.WARNING):
        loss(model(**inputs)).backward()
    assert model.last.backward.unconverged == 1
    assert "model.args.solver: relative residual" in caplog.text


def test_feedback_without_an_equilibrium_stops_the_training() -> None:
    model, inputs = fed_back(solver="fixed_point")
    with torch.no_grad():
        model.feedback.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"model\.args\.solver.*diverged"):
        loss(model(**inputs)).backward()


@pytest.mark.parametrize("feedback", [False, True])
@pytest.mark.parametrize("mode", GRADIENT_MODES)
def test_what_is_kept_for_the_backward_pass_does_not_grow_with_T(mode: str, feedback: bool) -> None:
    """Bytes that autograd saves in one step; those of a pass through time do grow."""

    def saved(T: int) -> int:
        model = network(gradient=mode, feedback=feedback, T=T)
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            kept.append(tensor)
            return tensor

        kept: list[Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss(model(**batch(model))).backward()
        return sum(sizes.values())

    if mode == "bptt":
        assert saved(16) > 6 * saved(2)
    else:
        assert saved(125) == saved(8)


@pytest.mark.parametrize("mode", GRADIENT_MODES)
@pytest.mark.parametrize("shared", [False, True])
def test_training_with_dropout_changes_every_parameter(mode: str, shared: bool) -> None:
    model = network(gradient=mode, feedback=True, shared_dropout=shared).train()
    loss(model(**batch(model))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model.parameters())
