"""One list of rules makes every transformer spike as a whole, and the spiking network is the quantised one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import snn
from snn.conversion.call import call_model
from snn.conversion.quantize import quantizers
from snn.conversion.trace import trace

from .transformers import PICTURES, TRANSFORMERS, lively, preset, quantised

LEVELS, T = 8, 48
every_transformer = pytest.mark.parametrize("name", TRANSFORMERS)
#: 2 layers: q, k, v, probabilities, context, projection, activation, second feed-forward layer, two norms; the rest.
QUANTISERS = {"bert": 20 + 2, "roberta": 20 + 2, "distilbert": 20 + 2, "gpt2": 16 + 1, "vit": 20 + 1}


@every_transformer
def test_every_operand_is_spikes(name: str) -> None:
    model, inputs = quantised(name)
    report = trace(model, inputs)
    assert report.fully_spiking, report.to_markdown()
    own_input = [p for p in report.products if "input" in p.activations]
    assert len(own_input) == (name in PICTURES), "the patches of a picture are the only analog factor"
    assert len(model.plan.actions) == len(quantizers(model)) == QUANTISERS.get(name, len(quantizers(model)))


@every_transformer
def test_settled_it_is_the_quantised_network(name: str) -> None:
    model, inputs = quantised(name)
    logits = call_model(model, inputs)
    assert logits.isfinite().all()
    assert (logits[0] - logits[1]).abs().max() > 1e-3, "the example is trivial"
    report = snn.verify(model, snn.convert(model, "st_bif", T), [inputs])
    report.raise_for_tolerance()
    assert (report.exact, report.dtype) == (True, "float64")
    assert (report.differing, report.unsettled) == (0, 0)
    assert report.elements > 5000
    assert report.max_error <= 1e-12 * max(1, float(logits.abs().max()))


@every_transformer
def test_after_training_it_is_so_as_well(name: str) -> None:
    model, inputs = lively(name)
    float_losses = learn_by_heart(model, inputs)
    network = snn.quantize(model.eval(), preset("spikezip"), name="lsq", levels=LEVELS, example=inputs)
    snn.calibrate(network, [inputs])
    before = [q.threshold.clone() for q in quantizers(network).values()]
    learn_by_heart(network, inputs)
    assert min(float_losses) < 0.9 * float_losses[0]
    assert any(not torch.equal(a, q.threshold) for a, q in zip(before, quantizers(network).values()))
    report = snn.verify(network, snn.convert(network, "st_bif", 2 * T), [inputs])
    assert (report.exact, report.dtype) == (True, "float64")
    assert (report.differing, report.unsettled) == (0, 0)
    assert report.max_error <= 1e-12 * max(1, float(call_model(network, inputs).abs().max()))


def learn_by_heart(model: torch.nn.Module, inputs: dict[str, Tensor], steps: int = 12) -> list[float]:
    """Train on one batch with the classes 0, 1, 0, and leave the network in evaluation mode."""
    optimizer = torch.optim.Adam(model.train().requires_grad_(True).parameters(), lr=5e-3)
    losses = []
    for _ in range(steps):
        logits = call_model(model, inputs).flatten(1)
        loss = torch.nn.functional.cross_entropy(logits, torch.arange(len(logits)) % 2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    model.eval().requires_grad_(False)
    return losses


@every_transformer
def test_para_inf_does_the_same_with_signed_qcfs(name: str) -> None:
    model, inputs = quantised(name, quantizer="qcfs")
    report = snn.verify(model, snn.convert(model, "para_inf", LEVELS), [inputs])
    assert (report.exact, report.differing) == (True, 0)
    assert report.max_error <= 1e-12 * max(1, float(call_model(model, inputs).abs().max()))


@pytest.mark.parametrize(
    ("quantizer", "neuron", "steps", "names"),
    [
        ("lsq", "st_bif", T, list(TRANSFORMERS)),
        ("qcfs", "para_inf", LEVELS, ["roberta", "t5", "llama", "swin"]),
    ],
)
def test_in_single_precision_codes_differ_by_ties_alone(
    quantizer: str, neuron: str, steps: int, names: list[str]
) -> None:
    ties = elements = 0
    for name in names:
        model, inputs = quantised(name, quantizer=quantizer, dtype=torch.float32)
        report = snn.verify(model, snn.convert(model, neuron, steps), [inputs])
        assert (report.dtype, report.unexplained, report.unsettled) == ("float32", 0, 0), name
        assert report.logits.same == report.logits.predictions > 0, name
        ties, elements = ties + report.ties, elements + report.elements
    assert elements > 40_000
    assert ties <= elements / 100_000


@pytest.mark.parametrize("name", ["roberta", "gpt2", "t5", "vit"])
def test_as_released_it_is_exact_as_well_but_not_all_spikes(name: str) -> None:
    model, inputs = quantised(name, rules="spikezip_upstream")
    report = snn.verify(model, snn.convert(model, "st_bif", T), [inputs])
    assert (report.differing, report.unsettled) == (0, 0)
    assert not trace(model, inputs).fully_spiking
    signs = {step.call or step.do: step.options["signed"] for step in model.plan.actions}
    assert signs["prepend"] is False, "an unsigned context is what was released"


@pytest.mark.parametrize("name", ["bert", "llama", "swin"])
def test_a_fused_kernel_is_taken_apart(name: str) -> None:
    eager, inputs = quantised(name)
    fused, _ = quantised(name, attention="sdpa")
    assert [s.address for s in fused.plan.actions] == [s.address for s in eager.plan.actions]
    assert trace(fused, inputs).fully_spiking
    assert snn.verify(fused, snn.convert(fused, "st_bif", T), [inputs]).differing == 0


@pytest.mark.parametrize("name", ["bert", "t5", "gpt2", "llama"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_masks_are_constants(name: str, attention: str) -> None:
    # In single precision: in double, some models' own float32 softmax turns the largest negative number to -inf.
    model, inputs = quantised(name, attention=attention, dtype=torch.float32)
    largest: list[float] = []
    handles = [
        q.register_forward_pre_hook(lambda _, args: largest.append(float(args[0].abs().max())))
        for q in quantizers(model).values()
    ]
    mask = inputs["attention_mask"].clone()
    mask[0] = 0  # nothing but padding
    batch = {"input_ids": inputs["input_ids"], "attention_mask": mask}
    logits = call_model(model, batch)
    for handle in handles:
        handle.remove()
    assert logits.isfinite().all()
    assert max(largest) < 1e6, "a quantiser saw the mask"
    output = snn.convert(model, "st_bif", T)(**batch)
    assert output.logits.isfinite().all()
    torch.testing.assert_close(output.logits[-1][1:], logits[1:], rtol=0, atol=1e-4)


def test_a_layer_that_runs_twice_has_two_trajectories() -> None:
    model, inputs = quantised("albert")
    out = snn.convert(model, "st_bif", T)(**inputs)
    spikes: dict[str, Tensor] = {name: s.total for name, s in out.spikes.items() if "query" in name}
    first, second = spikes.values()
    assert not torch.equal(first, second)
    report = trace(model, inputs)
    assert {n for n in report.calls.values() if n > 1} == {2}


def test_a_checkpoint_needs_no_example(tmp_path) -> None:
    from snn.conversion.checkpoint import load_checkpoint, save_checkpoint
    from tests.models.small import SMALL, batch

    model = snn.create_model("bert", num_classes=3, **SMALL["bert"]).eval()
    inputs = batch(model)
    network = snn.quantize(model, preset("spikezip"), name="lsq", example=inputs)
    snn.calibrate(network, [inputs])
    save_checkpoint(snn.convert(network, "st_bif", 30), tmp_path / "checkpoint")
    loaded = load_checkpoint(tmp_path / "checkpoint", spiking=False)
    assert torch.equal(call_model(loaded, inputs), call_model(network, inputs))
    spiking = load_checkpoint(tmp_path / "checkpoint")
    assert torch.equal(spiking(**inputs).logits, snn.convert(network, "st_bif", 30)(**inputs).logits)


def test_quantised_attention_can_be_trained() -> None:
    model, inputs = lively("bert", "sdpa", torch.float32)
    network = snn.quantize(model, preset("spikezip"), name="lsq", example=inputs)
    snn.calibrate(network, [inputs])
    call_model(network.train(), inputs).square().sum().backward()
    softmax = network.get_submodule("bert.encoder.layer.0.attention.self.quantizer_calls.softmax")
    assert softmax.threshold.grad.abs().sum() > 0
