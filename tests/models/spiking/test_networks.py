"""What holds for the networks that are trained as spiking ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from snn.models import create_model, list_models
from snn.models.registry import architecture_of
from snn.neurons.native import NativeNeuron
from snn.neurons.registry import NATIVE_NEURONS
from snn.registry import accepted
from tests.models.small import SMALL, batch

NATIVE = [name for name in list_models(native=True) if "neuron" in accepted(architecture_of(name).build)]
every_model = pytest.mark.parametrize("name", NATIVE)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def small(name: str, **more: Any) -> nn.Module:
    """In evaluation mode, with norms that let neurons fire."""
    model = create_model(name, **{"num_classes": 3, **SMALL[name], **more})
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(1, 3)
                module.bias.uniform_(0.2, 1)
                module.momentum = 1.0
        model.train()
        model(frames(model, 8) if model.in_channels == 2 else batch(model, 8)["pixel_values"])
    return model.eval().double()


def frames(model: nn.Module, rows: int = 3) -> torch.Tensor:
    dtype = next(model.parameters()).dtype
    return torch.randn(rows, model.T, model.in_channels, 32, 32, dtype=dtype)


@every_model
@pytest.mark.parametrize("neuron", NATIVE_NEURONS.names())
def test_every_neuron_in_every_network_is_trained(name: str, neuron: str) -> None:
    model = create_model(name, num_classes=3, **{**SMALL[name], "neuron": {"name": neuron}}).train()
    model(**batch(model)).mean(0).square().sum().backward()
    without = {key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()}
    assert not without
    kinds = {type(m) for m in model.modules() if isinstance(m, NativeNeuron)}
    assert kinds == {NATIVE_NEURONS.get(neuron)}


@every_model
@pytest.mark.parametrize("neuron", NATIVE_NEURONS.names())
def test_mixed_precision(name: str, neuron: str) -> None:
    model = create_model(name, num_classes=3, **{**SMALL[name], "neuron": neuron}).train()
    currents = []
    for module in model.modules():
        if isinstance(module, NativeNeuron):
            module.register_forward_hook(
                lambda _m, inputs, out: currents.append((inputs[0].dtype, out.dtype))
            )
    with torch.autocast("cpu", torch.bfloat16):
        out = model(**batch(model))
    out.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(before == after for before, after in currents)
    assert torch.bfloat16 in {before for before, _ in currents}


@every_model
@pytest.mark.parametrize("T", [1, 2, 6])
def test_any_number_of_steps(name: str, T: int) -> None:
    model = small(name, T=T)
    assert model.T == T
    out = model(frames(model))
    assert out.shape == (T, 3, 3)
    assert out.std() > 0


@every_model
def test_a_picture_is_given_at_every_step(name: str) -> None:
    model = small(name)
    picture = frames(model)[:, 0]
    repeated = picture[:, None].repeat(1, model.T, 1, 1, 1)
    torch.testing.assert_close(model(picture), model(repeated), rtol=0, atol=1e-12)


@every_model
def test_a_step_does_not_see_later_ones(name: str) -> None:
    model = small(name, T=4)
    x = frames(model)
    changed = x.clone()
    changed[:, 2:] = torch.randn_like(changed[:, 2:])
    before, after = model(x), model(changed)
    torch.testing.assert_close(before[:2], after[:2], rtol=0, atol=1e-12)
    assert not torch.allclose(before[2:], after[2:])


@every_model
def test_a_sample_is_the_same_in_every_batch_of_frames(name: str) -> None:
    model = small(name)
    x = frames(model, 5)
    together, order = model(x), torch.tensor([4, 2, 0, 1, 3])
    torch.testing.assert_close(model(x[order]), together[:, order], rtol=0, atol=1e-12)
    torch.testing.assert_close(model(x[1:2]), together[:, 1:2], rtol=0, atol=1e-12)


def test_with_the_released_neuron_qkformer_depends_on_the_batch() -> None:
    model, released = small("qkformer"), small("qkformer", legacy_tb_neuron=True)
    assert model.state_dict().keys() == released.state_dict().keys()
    x = frames(released, 5)
    together = released(x)
    assert not torch.allclose(released(x[1:2]), together[:, 1:2])
    assert not torch.allclose(released(x.flip(0)), together.flip(1))


def test_every_signal_between_layers_is_a_spike_or_a_count_of_spikes() -> None:
    model = small("spikformer", depth=2)
    seen: list[torch.Tensor] = []
    fired: list[torch.Tensor] = []
    for module in model.modules():
        if isinstance(module, NativeNeuron):
            module.register_forward_hook(lambda _module, _inputs, out: fired.append(out))
    for block in model.blocks:
        block.register_forward_hook(lambda _module, _inputs, out: seen.append(out))
    model(frames(model))
    assert len(seen) == 2
    assert fired
    assert all(set(x.unique().tolist()) <= {0.0, 1.0} for x in fired)
    assert all(set(x.unique().tolist()) <= {0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0} for x in seen)
    assert max(x.max() for x in seen) > 1


@every_model
def test_every_neuron_fires_and_none_always(name: str) -> None:
    model = small(name, T=4)
    rates = {}
    for key, module in model.named_modules():
        if isinstance(module, NativeNeuron):
            module.register_forward_hook(lambda _m, _i, out, key=key: rates.update({key: out.mean().item()}))
    model(frames(model, 8))
    assert rates
    assert all(0 < rate < 1 for rate in rates.values()), rates


CHANGES: dict[str, Any] = {
    "T": 5,
    "num_heads": 4,
    "mlp_ratio": 1.0,
    "scale": 0.5,
    "attention_threshold": 4.0,
    "drop_path": 0.9,
    "neuron": {"name": "lif", "tau": 1.2},
    "attention_pool": "space",
    "legacy_tb_neuron": True,
    "legacy_thresholds": True,
    "mix": 1.0,
    "in_threshold": 3.0,
    "out_threshold": 0.1,
    "projection": "conv",
    "pooled_stages": [0],
    "embed_dim": 64,
    "stem": "imagenet",
    "in_channels": 1,
    "image_size": 16,
    "depth": 2,
    "depths": [1, 2],
}


@every_model
def test_every_argument_changes_something(name: str) -> None:
    args = {"depth": 2} if "depth" in create_model(name, **SMALL[name]).spec["args"] else {"depths": [1, 2]}
    args = {**SMALL[name], "num_classes": 3, **args}

    def response(**change: Any) -> torch.Tensor | None:
        torch.manual_seed(0)
        model = create_model(name, **{**args, **change}).train().double()
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.weight.uniform_(1, 3)
                    module.bias.uniform_(-1, 1)
                elif isinstance(module, nn.Conv1d):
                    module.bias.uniform_(0, 2)
        size = change.get("image_size", 32)
        torch.manual_seed(1)
        x = torch.randn(4, model.T, model.in_channels, size, size, dtype=torch.float64)
        return model(x)

    plain = response()
    assert torch.equal(plain, response())
    for key in model_arguments(name):
        value = CHANGES[key]
        if key in args and args[key] == value:
            value = args[key] + ([1] if isinstance(value, list) else 1)
        if name == "sdt" and key == "num_heads":
            # Heads play a role in the released pooling alone.
            assert torch.equal(response(num_heads=4), plain)
            continue
        changed = response(**{key: value})
        assert changed.shape != plain.shape or not torch.equal(changed, plain), key


def model_arguments(name: str) -> list[str]:
    return [key for key in create_model(name, **SMALL[name]).spec["args"] if key != "num_classes"]
