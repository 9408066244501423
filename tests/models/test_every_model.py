"""What holds for every registered model."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections import Counter

import pytest
import torch
import yaml
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from snn.models import create_model, list_models
from snn.models.registry import architecture_of

from .small import SMALL, batch, logits

every_model = pytest.mark.parametrize("name", list_models())


def small(name: str, **more) -> nn.Module:
    return create_model(name, **{"num_classes": 3, **SMALL[name], **more}).eval()


def disturb(model: nn.Module) -> nn.Module:
    """Norms with statistics and affine parts that are not the identity."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model


@every_model
def test_makes_logits_with_a_gradient_everywhere(name: str) -> None:
    model = small(name)
    out = model(**batch(model))
    out = getattr(out, "logits", out)
    # Networks of spikes for pictures answer at every step.
    over_time = architecture_of(name).native and model.input_kind == "image"
    assert out.shape == ((SMALL[name]["T"], 3, 3) if over_time else (3, 3))
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@every_model
def test_spec_is_yaml_and_rebuilds_the_same_network(name: str) -> None:
    model = disturb(small(name))
    spec = yaml.safe_load(yaml.safe_dump(model.spec))
    assert spec == model.spec
    again = create_model(spec["name"], weights=None, **spec["args"]).eval()
    assert again.spec == model.spec
    assert {k: v.shape for k, v in again.state_dict().items()} == {
        k: v.shape for k, v in model.state_dict().items()
    }
    inputs = batch(model)
    assert not torch.equal(logits(again, inputs), logits(model, inputs))
    again.load_state_dict(model.state_dict())
    assert torch.equal(logits(again, inputs), logits(model, inputs))


@every_model
def test_spec_holds_every_argument(name: str) -> None:
    from snn.models import MODELS
    from snn.registry import accepted

    assert set(small(name).spec["args"]) == set(accepted(MODELS.get(name).build))


@every_model
def test_same_seed_same_weights(name: str) -> None:
    states = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        states.append(small(name).state_dict())
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())
    assert any(not torch.equal(v, states[2][k]) for k, v in states[0].items())


@every_model
def test_deepcopy_is_equal_and_shares_nothing(name: str) -> None:
    model = small(name)
    twin = copy.deepcopy(model)
    assert twin.spec == model.spec
    assert twin.spec is not model.spec
    assert twin.input_kind == model.input_kind
    inputs = batch(model)
    before = logits(model, inputs)
    assert torch.equal(logits(twin, inputs), before)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1)
    assert torch.equal(logits(model, inputs), before)
    assert not any("spec" in key or "input_kind" in key for key in model.state_dict())


@every_model
def test_a_sample_alone_is_the_sample_in_any_batch(name: str) -> None:
    model = disturb(small(name)).double()
    inputs = batch(model, rows=5)
    together = logits(model, inputs)
    for row in range(5):
        alone = logits(model, {key: value[row : row + 1] for key, value in inputs.items()})
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-12)
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = logits(model, {key: value[order] for key, value in inputs.items()})
    torch.testing.assert_close(shuffled, together[order], rtol=0, atol=1e-12)


ACTIVATIONS = {
    getattr(owner, name)
    for owner in (functional, torch, torch.Tensor)
    for name in ("relu", "relu_", "gelu", "silu", "tanh", "sigmoid", "leaky_relu", "hardtanh", "elu", "mish")
    if hasattr(owner, name)
}


class ActivationCalls(TorchFunctionMode):
    """Names of the modules in which an activation is called; the innermost module that is running counts."""

    def __init__(self, model: nn.Module, functions: set = ACTIVATIONS):
        super().__init__()
        self.functions = functions
        self.running: list[str] = []
        self.places: list[str] = []
        self.handles = []
        for name, module in model.named_modules():
            enter = lambda *_, name=name: self.running.append(name)  # noqa: E731
            self.handles.append(module.register_forward_pre_hook(enter))
            self.handles.append(module.register_forward_hook(self.leave))

    def leave(self, *_) -> None:
        self.running.pop()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in self.functions:
            self.places.append(self.running[-1])
        return func(*args, **(kwargs or {}))


#: Heads of the library that call an activation themselves; a quantiser goes before the layer that follows.
CALLED_IN_THE_HEAD = {"distilbert": "", "roberta": "classifier"}


@pytest.mark.parametrize("name", list_models(native=False))
@pytest.mark.parametrize("activation", ["relu", "gelu", "silu"])
def test_every_activation_is_a_module_of_its_own(name: str, activation: str) -> None:
    model = small(name, activation=activation)
    with ActivationCalls(model) as calls:
        logits(model, batch(model))
    modules = dict(model.named_modules())
    if name in CALLED_IN_THE_HEAD:
        calls.places.remove(CALLED_IN_THE_HEAD[name])
    assert calls.places
    for place in calls.places:
        # A leaf without parameters: a module that does nothing else, so a rule can replace it.
        assert not list(modules[place].children()), place
        assert not list(modules[place].parameters()), place
    assert max(Counter(calls.places).values()) == 1
    assert len({id(modules[place]) for place in calls.places}) == len(calls.places)


def test_the_activation_test_sees_a_function_call() -> None:
    class Careless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2)

        def forward(self, x):
            return functional.relu(self.linear(x))

    model = Careless()
    with ActivationCalls(model) as calls:
        model(torch.ones(1, 2))
    assert "" in calls.places


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("bert", "bert.encoder.layer.{}.attention.self"),
        ("distilbert", "distilbert.transformer.layer.{}.attention"),
        ("roberta", "roberta.encoder.layer.{}.attention.self"),
        ("t5_encoder", "encoder.block.{}.layer.0.SelfAttention"),
    ],
)
def test_the_softmax_of_attention_is_a_visible_call(name: str, place: str) -> None:
    model = small(name)
    with ActivationCalls(model, {functional.softmax}) as calls:
        logits(model, batch(model))
    assert calls.places == [place.format(i) for i in range(2)]


def test_names_are_listed_without_loading_torch() -> None:
    code = (
        "import sys; from snn.models import ModelConfig, list_models; list_models(); ModelConfig();"
        "print({'torch', 'transformers'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


@pytest.mark.parametrize(
    ("name", "args", "count"),
    [
        ("resnet20", {"num_classes": 10}, 272_474),
        ("resnet20", {"num_classes": 100}, 278_324),
        ("resnet20", {"num_classes": 1000}, 336_824),
        ("resnet20", {"num_classes": 10, "shortcut": "pad"}, 269_722),
        ("resnet20", {"num_classes": 10, "in_channels": 1}, 272_474 - 2 * 16 * 9),
        ("vgg16", {"num_classes": 10}, 33_646_666),
        ("vgg16", {"num_classes": 100}, 34_015_396),
        ("vgg16", {"num_classes": 1000, "pool_size": 7}, 138_365_992),
        # 22.7 M of MiniLM, and a classifier of 384 x 2 + 2.
        ("bert", {"num_classes": 2}, 22_713_216 + 770),
    ],
)
def test_parameter_counts_are_the_published_ones(name: str, args: dict, count: int) -> None:
    with torch.device("meta"):
        model = create_model(name, **args)
    assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize(("name", "sizes"), [("resnet20", (8, 28, 33)), ("vgg16", (16, 28, 32, 48))])
def test_image_models_take_other_sizes_and_grey_pictures(name: str, sizes: tuple[int, ...]) -> None:
    model = small(name, in_channels=1)
    for size in sizes:
        assert logits(model, {"pixel_values": torch.randn(2, 1, size, size)}).shape == (2, 3)


def test_vgg_halves_exactly_at_its_own_size() -> None:
    model = small("vgg16").double()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    maps = model.stages[:-1](x)
    for layer in list(model.stages[-1])[:-1]:
        maps = layer(maps)
    torch.testing.assert_close(
        model.stages[-1].pool(maps), functional.avg_pool2d(maps, 2), rtol=0, atol=1e-14
    )
