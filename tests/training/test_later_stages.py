"""What later stages need is asked before the first one trains, and the asking leaves no trace."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from snn.config import Config
from snn.conversion.checkpoint import save_checkpoint
from snn.data.schema import DatasetConfig
from snn.data.tokenizer import build_tokenizer
from snn.errors import ConfigError, DataError
from snn.evaluation.build import build_model
from snn.evaluation.session import open_session
from snn.models.registry import create_model
from snn.training.later_stages import check_later_stages
from tests.scripts.composing import composed

TASK = [
    "dataset=synthetic_text",
    "model=bert_tiny",
    "model.args.hidden_size=16",
    "model.args.intermediate_size=24",
    "debug=tiny",
    "device=cpu",
]


def saved(folder: Path, head: bool) -> list[str]:
    """A small BERT with or without its classifier, as transformers saves it: how to start from it."""
    model = create_model("bert", vocab_size=200, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    (model if head else model.bert).save_pretrained(folder)
    build_tokenizer(DatasetConfig(name="synthetic_text"), vocabulary_size=200).save_pretrained(folder)
    return [
        *TASK,
        "model=bert",
        f"model.weights={folder}",
        "model.args.hidden_size=null",
        "model.args.intermediate_size=null",
    ]


def ask(config: Config, folder: Path) -> None:
    with open_session(config, folder, "train") as session:
        check_later_stages(session, build_model(session))


def test_the_network_and_the_random_generator_are_as_before(tmp_path: Path) -> None:
    config = composed("train", *TASK, "neuron=st_bif", "quantization.levels=4")
    with open_session(config, tmp_path, "train") as session:
        model = build_model(session).train()
        state = {key: value.clone() for key, value in model.state_dict().items()}
        modules, random = [name for name, _ in model.named_modules()], torch.get_rng_state()
        check_later_stages(session, model)
        assert [name for name, _ in model.named_modules()] == modules
        assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
        assert all(module.training for module in model.modules())
        assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize(
    ("stages", "stage"),
    [
        ("float,calibrate,quantized", "float"),
        ("quantized,convert,spiking", "spiking"),
        ("logits,calibrate,quantized", "quantized"),
    ],
)
def test_no_float_network_of_its_own_to_learn_from(tmp_path: Path, stages: str, stage: str) -> None:
    start = ["quantization.init=first_batch", "neuron=st_bif", "training.spiking.epochs=1"]
    learn = [f"training.{stage}.distill=0.5"] + (["training.logits.distill=0"] if "logits" in stages else [])
    config = composed("train", *TASK, *start, *learn, f"training.stages=[{stages}]")
    with pytest.raises(
        ConfigError, match=f"training.{stage}.distill needs a teacher: the float stage before it"
    ):
        ask(config, tmp_path)


LEARN = ["quantization.init=first_batch", "neuron=st_bif", "training.quantized.distill=0.5"]


def test_a_float_network_of_its_own_to_learn_from(tmp_path: Path) -> None:
    ask(composed("train", *TASK, *LEARN, "training.stages=[float,quantized]"), tmp_path / "trained")
    given = saved(tmp_path / "bert", head=True)
    ask(composed("train", *given, *LEARN, "training.stages=[calibrate,quantized]"), tmp_path / "given")


@pytest.mark.parametrize("stages", ["calibrate,quantized", "float,quantized"])
def test_nothing_is_learnt_from_a_network_that_nothing_trained(tmp_path: Path, stages: str) -> None:
    learn = [*LEARN, f"training.stages=[{stages}]", "training.float.epochs=0"]
    with pytest.raises(ConfigError, match=r"distill=0.5: .* the whole network .* would be random"):
        ask(composed("train", *TASK, *learn), tmp_path / "random")
    encoder = saved(tmp_path / "encoder", head=False)
    with pytest.raises(
        ConfigError, match=r"distill=0.5: .* classifier.bias, classifier.weight would be random"
    ):
        ask(composed("train", *encoder, *learn), tmp_path / "head")
    layers = ["distillation.logits=0", "distillation.hidden=1", "distillation.adapter=null"]
    ask(composed("train", *encoder, *learn, *layers), tmp_path / "layers")


def test_what_no_stage_needs_is_not_asked_for(tmp_path: Path) -> None:
    config = composed(
        "train", *TASK, "training.stages=[float]", "evaluation.split=none", "quantization.coverage=none"
    )
    ask(config, tmp_path)


def test_accuracies_that_mean_nothing_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An encoder without its classifier, and no stage that would train one."""
    task = saved(tmp_path / "encoder", head=False)
    ask(composed("train", *task, "conversion=training_free"), tmp_path / "free")
    (said,) = (r.getMessage() for r in caplog.records if r.levelname == "WARNING")
    assert said.startswith("no stage trains classifier.bias, classifier.weight: random from the start")
    caplog.clear()
    ask(composed("train", *task), tmp_path / "trained")
    assert not [r for r in caplog.records if r.levelname == "WARNING"]


def test_a_network_without_weights_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ask(composed("train", *TASK, "conversion=training_free"), tmp_path / "free")
    assert "no stage trains the whole network (model.weights=null)" in caplog.text
    caplog.clear()
    ask(
        composed("train", *TASK, "training.stages=[calibrate,quantized,convert,evaluate]"),
        tmp_path / "quantised",
    )
    assert "no stage trains" not in caplog.text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["optimizer.weight_decay=much"], "optimizer: "),
        (["+optimizer.momentum=0.9"], "optimizer: .*momentum"),
        (["scheduler.warmup=soon"], "scheduler.warmup must be a number; got 'soon'"),
        (
            ["+scheduler@training.quantized.scheduler=cosine", "training.quantized.scheduler.final=2"],
            r"scheduler.final must be in \[0, 1\]",
        ),
    ],
)
def test_recipe_that_no_optimiser_or_schedule_takes(tmp_path: Path, given: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ask(composed("train", *TASK, *given), tmp_path)


def teacher_in(folder: Path, *sizes: str) -> str:
    """Overrides for a teacher that has not been trained."""
    with open_session(composed("train", *TASK, *sizes), folder, "train") as session:
        model, names = build_model(session), session.data.label_names
        save_checkpoint(model, folder / "checkpoint", tokenizer=session.tokenizer, labels=names)
    return f"distillation.teacher={folder}"


def test_a_teacher_that_does_not_fit_a_later_stage(tmp_path: Path) -> None:
    """It is found, but has other heads than the student, whose scores are to be like its own."""
    sizes = ["model.args.hidden_size=24", "model.args.num_attention_heads=3"]
    learn = ["distillation=layers", teacher_in(tmp_path / "teacher", *sizes), "training.float.distill=0"]
    config = composed("train", *TASK, *learn, "training.stages=[float,layers]")
    with pytest.raises(ConfigError, match="the student has 2 attention heads, the teacher 3"):
        ask(config, tmp_path / "run")
    fitting = ["distillation=layers", teacher_in(tmp_path / "other"), "training.float.distill=0"]
    config = composed("train", *TASK, *fitting, "training.stages=[float,layers]")
    with open_session(config, tmp_path / "fits", "train") as session:
        model = build_model(session)
        random = torch.get_rng_state()
        check_later_stages(session, model)
        assert torch.equal(torch.get_rng_state(), random)


def test_the_data_of_a_later_stage_are_opened(tmp_path: Path) -> None:
    corpus = [
        "+dataset@training.general.dataset=corpus",
        f"training.general.dataset.data_dir={tmp_path}/none",
    ]
    learn = ["distillation=general", teacher_in(tmp_path / "teacher"), "training.float.distill=0"]
    config = composed("train", *TASK, *corpus, *learn, "training.stages=[float,general]")
    with pytest.raises(DataError, match=f"{tmp_path}/none"):
        ask(config, tmp_path / "run")
