"""The trace says what feeds every matrix product, counts it right, and leaves the model alone."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForSequenceClassification, ViTConfig, ViTForImageClassification

from snn.conversion.convert import convert
from snn.conversion.operands import Operands
from snn.conversion.quantize import calibrate, quantize, quantizers
from snn.conversion.trace import Trace, trace
from snn.errors import ConversionError
from snn.models.resnet import ResNet

LAYERS, WIDTH, HEADS, HIDDEN, TOKENS = 2, 16, 4, 24, 7

BERT_RULES: dict[str, dict[str, Any]] = {
    "embeddings": {"match": r"re:.*embeddings\.LayerNorm", "signed": True},
    "query, key, value": {"match": r"re:.*self\.(query|key|value)", "signed": True},
    "probabilities": {"match": r"re:.*attention\.self", "call": "softmax"},
    "context": {"match": r"re:.*attention\.output\.dense", "do": "prepend", "signed": True},
    "attention norm": {"match": r"re:.*attention\.output\.LayerNorm", "signed": True},
    "layer norm": {"match": r"re:.*layer\.\d+\.output\.LayerNorm", "signed": True},
    "activation": {"match": r"re:.*intermediate_act_fn", "signed": True},
    "pooler": {"match": r"re:.*pooler\.activation", "signed": True},
}


def bert(attention: str = "eager") -> nn.Module:
    config = BertConfig(
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=HIDDEN,
        vocab_size=40,
        attn_implementation=attention,
    )
    return BertForSequenceClassification(config).eval()


def texts() -> dict[str, Tensor]:
    mask = torch.ones(3, TOKENS, dtype=torch.long)
    mask[0, 4:] = 0
    return {"input_ids": torch.randint(1, 40, (3, TOKENS)), "attention_mask": mask, "labels": torch.ones(3)}


def pictures(size: int = 8) -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(2, 3, size, size)}


def vit() -> nn.Module:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    config = ViTConfig(**sizes, image_size=8, patch_size=4, attn_implementation="eager")
    return ViTForImageClassification(config).eval()


def resnet(activation: str = "relu", **options: Any) -> nn.Module:
    return ResNet(4, widths=[4, 8], blocks=[1, 1], activation=activation, **options).eval()


def macs(model: nn.Module, inputs: dict[str, Tensor]) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(**{k: v[:1] for k, v in inputs.items() if k != "labels"})
    return counter.get_total_flops() // 2


def analog(report: Trace) -> list[str]:
    """Where the products with an analog factor are, once per stack of layers."""
    found = {
        p.module.replace(".0.", ".*.").replace(".1.", ".*.")
        for p in report.products
        if "analog" in p.activations
    }
    return sorted(name.removeprefix("bert.encoder.layer.*.") for name in found)


def feed(model: nn.Module, x: Tensor, act: str = "relu") -> dict[str, Any]:
    """Trace a model whose modules called ``act`` are quantised."""
    return {p.module: p for p in trace(quantize(model, [{"match": act, "do": "append"}]), {"x": x}).products}


@pytest.mark.parametrize(
    ("model", "inputs"),
    [(bert(), texts()), (vit(), pictures()), (resnet(), pictures()), (resnet(shortcut="pad"), pictures())],
    ids=["bert", "vit", "resnet", "resnet-pad"],
)
def test_macs_are_those_of_the_flop_counter(model: nn.Module, inputs: dict[str, Tensor]) -> None:
    for rows in (1, 2):
        report = trace(model, inputs, rows=rows)
        assert report.analog_macs == macs(model, inputs) > 0
        assert report.spiking_macs == 0
        assert not report.fully_spiking


def test_other_convolutions_are_counted_too() -> None:
    model = nn.Sequential(
        nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), nn.Conv2d(6, 6, 3, groups=3, dilation=2)
    )
    x = torch.randn(2, 4, 5, 5)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x[:1])
    assert [p.macs for p in trace(model, {"x": x}).products] == [
        4 * 25 * 3 * 9,
        counter.get_total_flops() // 2 - 4 * 25 * 3 * 9,
    ]


def test_bert_with_every_rule_is_fully_spiking() -> None:
    report = trace(quantize(bert(), BERT_RULES.values()), texts())
    assert report.fully_spiking
    assert report.spiking_share == 1.0
    assert report.spiking_macs == macs(bert(), texts())
    assert len(report.products) == 8 * LAYERS + 2
    both = [p for p in report.products if p.left == p.right == "spikes"]
    assert [p.module for p in both] == [
        f"bert.encoder.layer.{i // 2}.attention.self" for i in range(2 * LAYERS)
    ]
    work: dict[str, int] = {}
    for entry in report.dense:
        work[entry.op] = work.get(entry.op, 0) + entry.elements
    assert work == {
        "layer norm": (2 * LAYERS + 1) * TOKENS * WIDTH,
        "softmax": LAYERS * HEADS * TOKENS * TOKENS,
        "gelu": LAYERS * TOKENS * HIDDEN,
        "tanh": WIDTH,
    }


QKV = [f"attention.self.{x}" for x in ("key", "query", "value")]


@pytest.mark.parametrize(
    ("left_out", "expected"),
    [
        ("embeddings", QKV),
        ("query, key, value", ["attention.self"]),
        ("probabilities", ["attention.self"]),
        ("context", ["attention.output.dense"]),
        ("attention norm", ["intermediate.dense"]),
        ("layer norm", [*QKV, "bert.pooler.dense"]),
        ("activation", ["output.dense"]),
        ("pooler", ["classifier"]),
    ],
)
def test_leaving_a_rule_out_turns_its_products_analog(left_out: str, expected: list[str]) -> None:
    report = trace(quantize(bert(), [r for k, r in BERT_RULES.items() if k != left_out]), texts())
    assert analog(report) == expected
    assert not report.fully_spiking
    if left_out == "probabilities":
        assert [(p.left, p.right) for p in report.products if not p.spiking] == [
            ("analog", "spikes")
        ] * LAYERS
    if left_out == "embeddings":
        assert [p.module for p in report.products if not p.spiking] == [
            f"bert.encoder.layer.0.attention.self.{x}" for x in ("query", "key", "value")
        ]


def test_share_of_the_feed_forward_activation_alone() -> None:
    report = trace(quantize(bert(), [BERT_RULES["activation"]]), texts())
    assert {p.module for p in report.products if p.spiking} == {
        f"bert.encoder.layer.{i}.output.dense" for i in range(LAYERS)
    }
    assert report.spiking_macs == LAYERS * TOKENS * HIDDEN * WIDTH
    assert report.spiking_share == report.spiking_macs / macs(bert(), texts())


@pytest.mark.parametrize("shortcut", ["conv", "pad"])
def test_resnet_spikes_everywhere_but_in_its_first_convolution(shortcut: str) -> None:
    report = trace(quantize(resnet(shortcut=shortcut), [{"type": "ReLU", "do": "replace"}]), pictures())
    assert [(p.module, p.left) for p in report.products if not p.spiking] == [("stem.conv", "input")]
    assert report.products[-1].module == "classifier"
    assert report.products[-1].left == "spikes"
    assert report.fully_spiking
    assert report.dense == ()
    assert report.spiking_share < 1
    assert "network's own input" in report.verdict


def test_a_resnet_with_one_float_activation_is_not_fully_spiking() -> None:
    rules = [{"match": "stages.0.0.act1", "do": "keep"}, {"type": "ReLU", "do": "replace"}]
    report = trace(quantize(resnet(), rules), pictures())
    assert [p.module for p in report.products if "analog" in p.activations] == ["stages.0.0.conv2"]
    assert [(d.module, d.op) for d in report.dense] == [("stages.0.0.act1", "relu")]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.relu, self.out = nn.ReLU(), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        q = self.relu(x)
        return self.out(functional.scaled_dot_product_attention(q, q, q))


def test_fused_attention_is_analog_and_named() -> None:
    report = trace(quantize(Attention(), [{"match": "relu"}]), {"x": torch.randn(2, 3, 5, 4)})
    fused = [p for p in report.products if p.op.startswith("scaled_dot_product_attention")]
    assert [(p.module, p.left, p.right, p.macs) for p in fused] == [
        ("Attention", "spikes", "spikes", 3 * 5 * 5 * 4),
        ("Attention", "analog", "spikes", 3 * 5 * 5 * 4),
    ]
    assert ("softmax", 3 * 5 * 5) in [(d.op, d.elements) for d in report.dense]
    assert not report.fully_spiking
    assert "attn_implementation=eager" in report.to_markdown()


def test_fused_layers_are_taken_apart() -> None:
    x = {"x": torch.randn(2, 5, 8)}
    lstm = trace(nn.LSTM(8, 6, batch_first=True), x)
    # Five inputs, and the four hidden states after the first, which is a constant.
    assert sum(p.macs for p in lstm.products) == 4 * 6 * (5 * 8 + 4 * 6)
    layer = trace(nn.TransformerEncoderLayer(8, 2, 12, batch_first=True), x)
    assert sum(p.macs for p in layer.products) == 5 * 8 * (4 * 8 + 2 * 12) + 2 * 5 * 5 * 8
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.backends.mkldnn.enabled


def test_fused_attention_of_bert_is_counted_as_the_eager_one() -> None:
    rules = [r for k, r in BERT_RULES.items() if k != "probabilities"]
    report = trace(quantize(bert("sdpa"), rules), texts())
    assert analog(report) == ["attention.self"]
    assert report.spiking_macs + report.analog_macs == macs(bert(), texts())


class Between(nn.Module):
    """Something between spikes and a product."""

    def __init__(self, between: Any):
        super().__init__()
        self.relu, self.out, self.between = nn.ReLU(), nn.Linear(4, 2), between
        self.weight = nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.between(self.relu(x), x, self.weight))


def padded(s: Tensor) -> Tensor:
    room = s.new_zeros(s.shape[0], 6)
    room[:, 1:5] = s
    return room[:, 1:5]


KEPT = {
    "scaled": lambda s, x, w: 2 * s / 3.0 * s.new_full((), 0.5),
    "scaled by a weight": lambda s, x, w: s * w,
    "sum of two": lambda s, x, w: s + s.flip(0),
    "difference": lambda s, x, w: s - s.roll(1, 0),
    "in place": lambda s, x, w: s.clone().add_(s).mul_(2),
    "plus zeros": lambda s, x, w: s + torch.zeros(4),
    "views": lambda s, x, w: s.reshape(-1, 2, 2).transpose(1, 2).flatten(1),
    "cat": lambda s, x, w: torch.cat([s[:, :2], s[:, 2:]], 1),
    "cat with zeros": lambda s, x, w: torch.cat([s[:, :2], torch.zeros_like(s[:, :2])], 1),
    "stack and mean": lambda s, x, w: torch.stack([s, s]).mean(0),
    "gather": lambda s, x, w: s.gather(1, torch.arange(4).expand(s.shape[0], 4)),
    "index": lambda s, x, w: s[:, [3, 2, 1, 0]],
    "expand": lambda s, x, w: s[:, :1].expand(-1, 4),
    "pad": lambda s, x, w: functional.pad(s[:, :3], (0, 1)),
    "shape in place": lambda s, x, w: s.clone().unsqueeze_(0).squeeze_(0),
    "dtype": lambda s, x, w: s.double().float(),
    "average pool": lambda s, x, w: functional.avg_pool1d(s.repeat(1, 2), 2),
    "written into zeros": lambda s, x, w: padded(s),
    "masked": lambda s, x, w: s.masked_fill(torch.eye(4)[: s.shape[0]] > 0, 0.0),
}
LOST = {
    "relu": lambda s, x, w: s.relu(),
    "relu in place": lambda s, x, w: s.clone().relu_(),
    "max-pool": lambda s, x, w: functional.max_pool1d(s.repeat(1, 2), 2),
    "gelu": lambda s, x, w: functional.gelu(s),
    "layer norm": lambda s, x, w: functional.layer_norm(s, (4,)),
    "softmax": lambda s, x, w: s.softmax(-1),
    "product": lambda s, x, w: s * s,
    "quotient": lambda s, x, w: s / s.sum(),
    "inverse": lambda s, x, w: 1 / s,
    "choice": lambda s, x, w: torch.where(s > 1, s, 0.0),
    "offset": lambda s, x, w: s + 1,
    "plus a weight": lambda s, x, w: s + w,
    "plus the input": lambda s, x, w: s + x,
    "cat with analog": lambda s, x, w: torch.cat([s[:, :2], s[:, 2:].exp()], 1),
    "analog written into it": lambda s, x, w: s.clone().index_copy_(1, torch.tensor([0]), s[:, :1].exp()),
    "analog copied into a part": lambda s, x, w: padded(s.exp()),
    "padded with ones": lambda s, x, w: functional.pad(s[:, :3], (0, 1), value=1.0),
    "rounded": lambda s, x, w: torch.div(s, 2, rounding_mode="floor"),
}


@pytest.mark.parametrize("name", KEPT)
def test_linear_operations_keep_spikes(name: str) -> None:
    assert feed(Between(KEPT[name]), torch.randn(2, 4))["out"].left == "spikes"


@pytest.mark.parametrize("name", LOST)
def test_other_operations_give_analog_values(name: str) -> None:
    assert feed(Between(LOST[name]), torch.randn(2, 4))["out"].left == "analog"


def test_products_of_weights_alone_are_left_out() -> None:
    model = Between(lambda s, x, w: s @ (w[:, None] @ w[None]).softmax(-1))
    report = trace(quantize(model, [{"match": "relu"}]), {"x": torch.randn(2, 4)})
    assert [(p.module, p.left, p.right) for p in report.products] == [
        ("Between", "spikes", "weight"),
        ("out", "analog", "weight"),
    ]
    assert [d.op for d in report.dense] == ["relu"]


def test_features_of_the_input_are_not_the_input() -> None:
    model = Between(lambda s, x, w: x.tanh())
    assert feed(model, torch.randn(2, 4))["out"].left == "analog"
    assert feed(Between(lambda s, x, w: (x - 0.5) / 2), torch.randn(2, 4))["out"].left == "input"


def state(model: nn.Module) -> list[Any]:
    return [
        (
            name,
            m.training,
            len(m._forward_hooks),
            len(m._forward_pre_hooks),
            len(m._forward_hooks_always_called),
        )
        for name, m in model.named_modules()
    ]


def test_the_model_is_left_as_it_was() -> None:
    model = quantize(bert(), BERT_RULES.values())
    fresh = quantize(bert(), BERT_RULES.values())
    calibrate(model, [texts()])
    fresh.load_state_dict(model.state_dict())
    model.bert.pooler.train()
    before, weights = state(model), copy.deepcopy(model.state_dict())
    report = trace(model, texts())
    assert report == trace(quantize(bert(), BERT_RULES.values()), texts())
    assert state(model) == before
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
    inputs = {k: v for k, v in texts().items() if k != "labels"}
    assert torch.equal(model.eval()(**inputs).logits, fresh.eval()(**inputs).logits)


def test_uncalibrated_quantisers_stay_so_even_if_the_forward_fails() -> None:
    model = quantize(resnet(), [{"type": "ReLU", "do": "replace"}])
    first = next(iter(quantizers(model).values()))
    first.observe(5)
    first(torch.ones(1, 4, 2, 2))
    before = state(model)
    with pytest.raises(RuntimeError):
        trace(model, {"pixel_values": torch.randn(2, 3, 8, 8, dtype=torch.float64)})
    trace(model, pictures())
    assert state(model) == before
    assert first.observing
    assert first.take_samples().shape == (4, 4, 1)
    assert not any(q.calibrated or q.observing for q in quantizers(model).values() if q is not first)


def test_report_in_words_and_as_plain_types() -> None:
    report = trace(quantize(bert(), [BERT_RULES["activation"]]), texts())
    text = report.to_markdown()
    assert text.startswith("Not fully spiking: 2 of 18 matrix products")
    cells = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|"
    ]
    product = "`bert.encoder.layer.{0..1}.intermediate.dense`"
    assert [product, "addmm", "analog", "weight", "2", str(2 * 7 * 16 * 24)] in cells
    assert ["`bert.embeddings.LayerNorm ▸ layer_norm()`", "layer norm", "analog", "1", "112"] in cells
    data = json.loads(json.dumps(report.to_dict()))
    assert data["spiking_share"] == report.spiking_share
    assert len(data["products"]) == 18
    norm = {"module": "bert.embeddings.LayerNorm", "op": "layer norm", "elements": 112}
    assert data["dense"][0] == {**norm, "call": "layer_norm", "quantized": False}


def test_the_quantisers_that_feed_the_products_of_bert() -> None:
    report = trace(quantize(bert(), BERT_RULES.values()), texts())
    found: dict[str, list[Any]] = {}
    for p in report.products:
        found.setdefault(p.module, []).append(p.sources)
    embeddings = ("bert.embeddings.LayerNorm",)
    for i in range(LAYERS):
        layer = f"bert.encoder.layer.{i}"
        before = (f"bert.encoder.layer.{i - 1}.output.LayerNorm",) if i else embeddings
        for projection in ("query", "key", "value"):
            assert found[f"{layer}.attention.self.{projection}"] == [(before, None)]
        own = f"{layer}.attention.self"
        assert found[own] == [
            ((f"{own}.query",), (f"{own}.key",)),
            ((f"{own}.softmax()",), (f"{own}.value",)),
        ]
        assert found[f"{layer}.attention.output.dense"] == [
            ((f"{layer}.attention.output.dense (input)",), None)
        ]
        assert found[f"{layer}.intermediate.dense"] == [((f"{layer}.attention.output.LayerNorm",), None)]
        assert found[f"{layer}.output.dense"] == [((f"{layer}.intermediate.intermediate_act_fn",), None)]
    assert found["bert.pooler.dense"] == [((f"bert.encoder.layer.{LAYERS - 1}.output.LayerNorm",), None)]
    assert found["classifier"] == [(("bert.pooler.activation",), None)]


def test_sources_are_called_as_the_layers_of_a_run() -> None:
    network = quantize(bert(), BERT_RULES.values())
    calibrate(network, [texts()])
    report = trace(network, texts())
    feeding = {name for p in report.products for part in p.sources if part for name in part}
    run = convert(network.eval(), "para_inf", 2)(**texts())
    assert feeding == set(run.spikes)


def test_the_sum_of_two_quantisers_has_both_as_sources() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm, self.second, self.out = (
                nn.ReLU(),
                nn.Linear(4, 4),
                nn.ReLU(),
                nn.Linear(4, 2),
            )

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            return self.out(0.5 * y + self.second(self.norm(y)))

    found = feed(Residual(), torch.randn(2, 4), "re:first|second")
    assert found["norm"].sources == (("first",), None)
    assert found["out"].sources == (("first", "second"), None)


def test_sources_of_a_resnet() -> None:
    report = trace(quantize(resnet(), [{"type": "ReLU", "do": "replace"}]), pictures())
    found = {p.module: p.sources[0] for p in report.products}
    assert found["stem.conv"] is None
    assert found["stages.0.0.conv1"] == ("stem.act",)
    assert found["stages.0.0.conv2"] == ("stages.0.0.act1",)
    assert found["stages.1.0.conv1"] == found["stages.1.0.shortcut.0"] == ("stages.0.0.act2",)
    assert found["classifier"] == ("stages.1.0.act2",)
    assert all(p.sources[1] is None for p in report.products)


def test_each_call_of_a_shared_quantiser_is_a_source_of_its_own() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act, self.a, self.b = nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.act(self.a(self.act(x))))

    network = quantize(Twice(), [{"match": "act", "do": "replace"}])
    report = trace(network, {"x": torch.randn(2, 4)})
    assert [p.sources[0] for p in report.products] == [("act",), ("act#1",)]
    assert report.calls == {"act": 2}
    calibrate(network, [{"x": torch.randn(2, 4)}])
    assert set(convert(network.eval(), "para_inf", 2)(x=torch.randn(2, 4)).spikes) == {"act", "act#1"}


@pytest.mark.parametrize("between", KEPT)
def test_linear_operations_keep_the_source(between: str) -> None:
    assert feed(Between(KEPT[between]), torch.randn(2, 4))["out"].sources == (("relu",), None)


@pytest.mark.parametrize("between", LOST)
def test_what_is_not_spikes_has_no_source(between: str) -> None:
    assert feed(Between(LOST[between]), torch.randn(2, 4))["out"].sources == (None, None)


@pytest.mark.parametrize(
    ("function", "calls"),
    [
        (lambda x: functional.relu(x), ["relu"]),
        (lambda x: x.relu_(), ["relu"]),
        (lambda x: nn.GELU()(x), ["gelu"]),
        (lambda x: x * x.sigmoid(), ["sigmoid", "mul"]),
        (lambda x: functional.silu(x), ["silu"]),
        (lambda x: functional.relu6(x), ["relu6"]),
        (lambda x: functional.max_pool1d(x, 2).repeat(1, 2), ["max_pool1d"]),
        (lambda x: torch.maximum(x, x.flip(0)), ["maximum"]),
        (lambda x: x.abs().exp(), ["abs", "exp"]),
        (lambda x: functional.layer_norm(x, (4,)), ["layer_norm"]),
        (lambda x: torch.softmax(x, -1), ["softmax"]),
        (lambda x: x + x.mean(), []),
    ],
)
def test_every_non_linear_call_is_listed_by_the_name_that_rules_reach(
    function: Any, calls: list[str]
) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(function(self.first(x)))

    report = trace(nn.Sequential(Block()), {"x": torch.randn(2, 4)})
    assert [(d.module, d.call) for d in report.dense] == [("0", name) for name in calls]


def test_dense_work_says_whether_a_quantiser_takes_its_result() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act, self.scale = nn.Identity(), nn.Parameter(torch.ones(4))

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.scale * x.exp()) + x.tanh() + self.scale * x.sin()

    model = nn.Sequential(nn.Linear(4, 4), Block(), nn.Linear(4, 2))
    report = trace(quantize(model, [{"match": "1.act"}]), {"x": torch.randn(2, 4)})
    assert {d.op: d.quantized for d in report.dense} == {"exp": True, "tanh": False, "sin": False}


def test_inputs_of_modules() -> None:
    report = trace(quantize(resnet(), [{"type": "ReLU", "do": "replace"}]), pictures())
    assert report.inputs["stem.conv"] == "input"
    assert report.inputs["stem.norm"] == "analog"
    assert report.inputs["stages.0.0.conv1"] == report.inputs["classifier"] == "spikes"


def test_what_cannot_be_traced_is_refused() -> None:
    model = quantize(resnet(), [{"type": "ReLU", "do": "replace"}])
    with pytest.raises(ConversionError, match="at least one sample"):
        trace(model, {})
    calibrate(model, [pictures()])
    with pytest.raises(ConversionError, match="quantised network"):
        trace(convert(model.eval(), "para_inf", 2), pictures())


def test_a_view_is_of_the_kind_of_what_it_looks_at() -> None:
    operands, x = Operands(), torch.zeros(2, 3)
    operands.mark(x, "spikes")
    assert operands.kind(x.t()[1:]) == "spikes"
    assert operands.kind(x.clone()) == operands.kind(1.0) == "constant"
