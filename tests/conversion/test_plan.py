"""The plan as something to look at: folded layers, totals that add up, and what it refuses."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn

import snn
from snn.conversion.folding import fold
from snn.conversion.plan import Plan, traced_plan
from snn.conversion.plan_table import compact
from snn.errors import ConversionError

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
SELF = "bert.encoder.layer.{}.attention.self"
RULES: list[dict[str, Any]] = [
    {"match": r"re:.*LayerNorm", "signed": True},
    {"match": r"re:.*self\.(query|key|value)", "signed": True},
    {"match": r"re:.*attention\.self", "call": "softmax"},
    {"match": r"re:.*intermediate_act_fn", "do": "replace", "levels": 4},
    {"match": "classifier", "do": "keep"},
]


def bert() -> nn.Module:
    return snn.create_model("bert", num_classes=2, vocab_size=40, max_position_embeddings=12, **SIZES).eval()


def resnet() -> nn.Module:
    return snn.create_model("resnet20", num_classes=4, widths=[4, 8], blocks=[2, 2]).eval()


def texts() -> dict[str, torch.Tensor]:
    return {"input_ids": torch.randint(1, 40, (2, 6)), "attention_mask": torch.ones(2, 6, dtype=torch.long)}


@pytest.fixture(scope="module")
def made() -> Plan:
    return snn.plan(bert(), RULES, example=texts())


def test_equal_layers_share_a_line(made: Plan) -> None:
    text = str(made)
    assert text.count("attention.self.query") == 1
    assert "\nbert.encoder.layer.{0..2}\n  attention.self  " in text
    found = next(line for line in text.splitlines() if "attention.self.query" in line)
    macs, parameters = 3 * 6 * 16 * 16, 3 * (16 * 16 + 16)
    assert found.split() == [
        *["attention.self.query", "Linear", "1", "append", "qcfs", "±8", "spikes"],
        *[f"{macs:,}", str(parameters)],
    ]
    act = next(line for line in text.splitlines() if "intermediate_act_fn" in line)
    assert re.split(r"  +", act.strip())[1:] == ["GELUActivation", "3", "replace qcfs 4", "analog"]


def test_lines_fit_a_terminal(made: Plan) -> None:
    assert max(map(len, str(made).splitlines())) <= 120
    long = nn.Sequential()
    long.add_module("a_name_of_a_module_that_goes_on_and_on_and_on_" * 4, nn.Linear(2, 2))
    table = str(snn.plan(nn.Sequential(nn.ReLU(), long), [{"type": "ReLU"}], example={"x": torch.ones(1, 2)}))
    assert max(map(len, table.splitlines())) <= 120
    assert "…" in table


def test_sums_over_the_rows_are_those_of_the_network(made: Plan) -> None:
    table, model = made.table(), bert()
    assert made.trace is not None
    rows = [dict(zip(table.columns, row)) for row in table.cells()]
    assert sum(row["parameters"] or 0 for row in rows) == sum(p.numel() for p in model.parameters())
    assert sum(row["MACs"] or 0 for row in rows) == made.trace.spiking_macs + made.trace.analog_macs
    fed = [row["MACs"] or 0 for row in rows if set(str(row["input"]).split(" × ")) == {"spikes"}]
    assert sum(fed) == made.trace.spiking_macs
    assert f"{made.trace.spiking_share:.1%} take spikes alone" in str(made)
    assert str(made).endswith(made.trace.verdict)


def test_parameters_that_take_spikes() -> None:
    model = resnet()
    made = snn.plan(model, [{"type": "ReLU", "do": "replace"}], example={"x": torch.randn(1, 3, 8, 8)})
    weights = {
        n: p.numel() for n, p in model.named_parameters() if "conv" in n or "shortcut.0" in n or "class" in n
    }
    weights["classifier.bias"] = model.classifier.bias.numel()
    share = 1 - weights["stem.conv.weight"] / sum(weights.values())
    assert (
        f"{sum(p.numel() for p in model.parameters()):,} parameters, {sum(weights.values()):,} of them in modules "
        f"with matrix products; {share:.1%} of these take spikes alone"
    ) in str(made)
    assert "the network's own input" in made.table().totals()[-1]


def test_non_linear_work_says_what_becomes_of_it(made: Plan) -> None:
    text = str(made)
    assert (
        "Kept, as an exact function of the running aggregate that is recomputed densely at each step" in text
    )
    dense = text[text.index("Kept, as") :]
    softmax = next(line for line in dense.splitlines() if "▸ softmax()" in line)
    assert softmax.split() == [
        "attention.self",
        "▸",
        "softmax()",
        "softmax",
        "quantised",
        "3",
        str(3 * 2 * 6 * 6),
    ]
    tanh = next(line for line in dense.splitlines() if "pooler" in line)
    assert tanh.split() == ["bert.pooler.activation", "tanh", "analog", "1", "16"]
    assert "gelu" not in dense  # replaced
    assert "{match: MODULE, call: FUNCTION, do: replace}" in dense


def test_markdown_holds_the_same(made: Plan) -> None:
    text = made.to_markdown()
    cells = [[c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|"]
    assert cells[0] == ["module", "type", "rule", "action", "input", "MACs", "parameters"]
    name = SELF.format("{0..2}")
    assert [f"`{name}.query`", "Linear", "1", "append qcfs ±8", "spikes", "4608", "816"] in cells
    assert [f"`{name} ▸ softmax()`", "BertSelfAttention", "2", "append qcfs 8", "–", "–", "–"] in cells
    assert [f"`{name} ▸ softmax()`", "softmax", "quantised", "3", "216"] in cells
    assert "| `classifier`" in text


def test_without_an_example_the_plan_knows_modules_alone() -> None:
    made = snn.plan(bert(), RULES)
    assert made.trace is None
    table = made.table()
    assert table.columns == ["module", "type", "rule", "action", "parameters"]
    assert "attention.self ▸ softmax()" in str(made)
    assert "classifier" in str(made)
    assert "recomputed" not in str(made)


def test_an_example_leaves_the_model_alone() -> None:
    model = bert().train()
    before = (
        {n: type(m) for n, m in model.named_modules()},
        {n: p.clone() for n, p in model.named_parameters()},
    )
    snn.plan(model, RULES, example=texts())
    assert {n: type(m) for n, m in model.named_modules()} == before[0]
    assert all(torch.equal(p, before[1][n]) for n, p in model.named_parameters())
    assert model.training
    assert not hasattr(model, "plan")


def test_a_network_from_a_checkpoint_has_the_whole_plan_again(tmp_path: Any) -> None:
    network = snn.quantize(bert(), [*RULES, {"match": "bert.pooler.activation", "threshold": 1.0}])
    snn.calibrate(network, [texts()])
    snn.save(network, tmp_path / "saved")
    loaded = snn.load(tmp_path / "saved")
    whole, again = traced_plan(network, texts()).table(), traced_plan(loaded, texts()).table()
    assert [row[:2] + row[3:] for row in again.cells()] == [
        # A checkpoint keeps what was done, and not which modules a rule kept as they were.
        [None if cell == "keep" else cell for cell in row[:2] + row[3:]]
        if row[3] != "keep"
        else [*row[:2], "", *row[4:]]
        for row in whole.cells()
    ]


def test_a_quantised_model_is_refused() -> None:
    network = snn.quantize(bert(), RULES)
    with pytest.raises(ConversionError) as error:
        snn.quantize(network, [{"match": "bert.pooler.activation"}])
    assert str(error.value) == (
        "quantization.rules: the model has quantisers already (first: bert.embeddings.LayerNorm.quantizer_out); "
        "plan and quantise the float network, with all rules in one list"
    )
    assert len(network.plan.actions) == 1 + 2 * 3 + 3 * 3 + 3 + 3


def test_fused_attention_is_listed_with_what_helps() -> None:
    model = bert()
    model.config._attn_implementation = "sdpa"
    rules = [r for r in RULES if "call" not in r]
    text = str(snn.plan(model, rules, example=texts()))
    found = [line.split() for line in text.splitlines() if "scaled_dot_product_attention()" in line]
    assert found == [
        ["attention.self", "▸", "scaled_dot_product_attention()", "softmax", "analog", "3", "216"]
    ]
    assert "attn_implementation=eager" in text
    assert "spikes × spikes" in text  # scores
    assert "analog × spikes" in text  # probabilities with values


def test_names_fold_into_exactly_what_they_stand_for() -> None:
    names = ["a.0.x", "a.0.y", "a.1.x", "a.2.x", "b.0.1", "b.0.2", "b.1.1", "c.0", "c.3", "d.7e", "e"]
    folded = dict(fold(names, str, lambda _: None))
    assert list(folded) == ["a.{0..2}.x", "a.0.y", "b.0.{1..2}", "b.1.1", "c.{0,3}", "d.7e", "e"]
    assert sorted(name for items in folded.values() for name in items) == sorted(names)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (9_999, "9,999"),
        (10_000, "10.0 k"),
        (999_499, "999 k"),
        (999_600, "1.00 M"),
        (4 * 10**15, "4000 T"),
    ],
)
def test_numbers_in_three_digits(number: int, text: str) -> None:
    assert compact(number) == text
