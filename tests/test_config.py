"""Every YAML below ``conf/``: composes, fits its schema, and is built where that is cheap; and what is refused."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from snn.checks import check
from snn.config import Config, typed
from snn.data.schema import DatasetConfig
from snn.errors import ConfigError
from snn.evaluation.restored_data import merge_dataset
from snn.instantiate import instantiate
from snn.launch import CONF
from tests.scripts.composing import composed

YAMLS = sorted(path.relative_to(CONF) for path in CONF.rglob("*.yaml"))
ROOTS = ("train", "convert", "evaluate")
CHOICES = [path for path in YAMLS if path.parent != Path(".") and path.parts[0] != "hydra"]
# These stand for what a checkpoint says, and train.py starts without one.
PARENT = "from_checkpoint"


def group(name: str) -> list[str]:
    return sorted(path.stem for path in CHOICES if path.parts[0] == name)


def is_native(model: str) -> bool:
    """Whether a choice of the group ``model`` is trained as a spiking network."""
    from snn.models.registry import list_models

    return OmegaConf.load(CONF / "model" / f"{model}.yaml").get("name") in list_models(native=True)


# Neurons that no quantiser is converted to, and the models for which they are tried.
NATIVE_NEURONS = {"lif": "spikformer", "plif": "spikformer", "own": "spikingbert"}


def companions(path: Path) -> list[str]:
    """Choices of other groups that one needs."""
    if path.parts[0] == "quantization" and path.stem.startswith("lsq"):
        return ["neuron=st_bif"]
    if path.parts[0] == "quantization" and path.stem == "da_qcfs":
        return ["neuron=para_inf_channelwise"]
    if path.parts[0] == "execution" and path.stem == "stepwise":
        return ["neuron=integrate_fire"]
    if path.parts[0] == "neuron" and path.stem in NATIVE_NEURONS:
        return [f"model={NATIVE_NEURONS[path.stem]}"]
    distilled = path.parts[0] == "experiment" and path.stem.startswith("spikingbert")
    if distilled or (path.parts[0] == "distillation" and path.stem != "none"):
        return ["distillation.teacher=somewhere"]
    return []


def test_the_glob_finds_the_configs() -> None:
    assert {Path(f"{root}.yaml") for root in ROOTS} <= set(YAMLS)
    assert len({path.parts[0] for path in CHOICES}) >= 10


@pytest.mark.parametrize("path", YAMLS, ids=str)
def test_the_first_line_says_what_it_is(path: Path) -> None:
    lines = (CONF / path).read_text("utf-8").splitlines()
    first = lines[1] if lines[0].startswith("# @package") else lines[0]
    assert first.startswith("# ")
    assert len(first) > 8


@pytest.mark.parametrize("path", [path for path in CHOICES if path.stem != PARENT], ids=str)
def test_every_choice_composes(path: Path) -> None:
    script = ["evaluate", "checkpoint=somewhere"] if path.parts[0] == "analysis" else ["train"]
    config = composed(*script, *companions(path), f"{path.parent.as_posix()}={path.stem}")
    assert isinstance(config, Config)
    section = getattr(config, path.parts[0], None)
    saved = OmegaConf.load(CONF / path)
    if section is None or path.parts[0] in saved:  # written for the whole config
        return
    # Each value of the file reaches the dataclass; interpolations, and what is to be given, aside.
    for key, value in OmegaConf.to_container(saved, resolve=False).items():  # type: ignore[union-attr]
        if key != "defaults" and not isinstance(value, dict | list) and "$" not in str(value) and value != "":
            assert (section[key] if isinstance(section, dict) else getattr(section, key)) == value, key


SWEEPABLE = ("dataset", "model", "neuron", "quantization", "execution", "tracking", "conversion", "debug")


@pytest.mark.parametrize("script", ["convert", "evaluate"])
@pytest.mark.parametrize("turn", range(max(len(group(name)) for name in SWEEPABLE if name != "dataset")))
def test_choices_compose_for_a_checkpoint(script: str, turn: int) -> None:
    """All choices of each group, several groups at a time."""
    chosen = {name: group(name)[turn % len(group(name))] for name in SWEEPABLE}
    neuron = chosen["neuron"]
    if is_native(chosen["model"]) or neuron in NATIVE_NEURONS:
        chosen["model"] = NATIVE_NEURONS.get(neuron, PARENT)
    if chosen["execution"] == "stepwise" and neuron.startswith("para_inf"):
        chosen["execution"] = "parallel"
    if chosen["execution"] == "collapsed" and neuron == "integrate_fire":
        chosen["execution"] = "parallel"
    config = composed(script, "checkpoint=somewhere", *(f"{k}={v}" for k, v in chosen.items()))
    assert config.checkpoint == "somewhere"
    assert config.neuron["name"] == (None if neuron == PARENT else neuron)


def test_what_is_said_about_the_data_of_a_checkpoint_holds() -> None:
    saved = asdict(DatasetConfig("set", data_dir="there", limit_train=5, limit_test=400, max_length=64))
    silent = merge_dataset(saved, composed("evaluate", "checkpoint=somewhere").dataset)
    assert asdict(silent) == saved
    asked = ["dataset.limit_test=null", "dataset.limit_train=7", "dataset.max_length=32"]
    said = merge_dataset(saved, composed("evaluate", "checkpoint=somewhere", *asked).dataset)
    assert asdict(said) == saved | {"limit_test": None, "limit_train": 7, "max_length": 32}
    # A default holds too, where it is said.
    default = composed("evaluate", "checkpoint=somewhere", "dataset.max_length=128").dataset
    assert asdict(merge_dataset(saved, default, {"max_length"})) == saved | {"max_length": 128}


def test_the_splits_of_a_checkpoint_stay_as_they_were() -> None:
    """Other shares would measure the network on rows that it was trained on."""
    saved = asdict(DatasetConfig("set", data_dir="there", test_fraction=0.2))
    asked = composed("evaluate", "checkpoint=somewhere", "dataset.test_fraction=0.3").dataset
    with pytest.raises(
        ConfigError, match=r"dataset\.test_fraction=0\.3, but the checkpoint's splits were made with 0\.2"
    ):
        merge_dataset(saved, asked)
    the_same = composed("evaluate", "checkpoint=somewhere", "dataset.test_fraction=0.2").dataset
    assert asdict(merge_dataset(saved, the_same, {"test_fraction"})) == saved


def test_nor_are_they_cut_otherwise_where_the_data_set_is_named_again() -> None:
    digits = ["checkpoint=somewhere", "dataset=digits"]
    same = composed("evaluate", *digits).dataset
    saved = asdict(same)
    assert merge_dataset(saved, same) is same
    another = composed("evaluate", *digits, "dataset.test_fraction=0.5").dataset
    with pytest.raises(ConfigError, match=r"dataset\.test_fraction=0\.5, but the checkpoint's splits"):
        merge_dataset(saved, another)
    elsewhere = composed("evaluate", *digits, "dataset.test_fraction=0.5", "dataset.data_dir=there").dataset
    assert merge_dataset(saved, elsewhere) is elsewhere


@pytest.mark.parametrize("script", ["convert", "evaluate"])
def test_the_checkpoint_decides_what_is_not_said(script: str) -> None:
    config = composed(script, "checkpoint=somewhere")
    assert (config.T, config.neuron["name"], config.dataset.name) == (None, None, PARENT)


@pytest.mark.parametrize("name", [name for name in group("model") if name != PARENT and not is_native(name)])
@pytest.mark.parametrize("neuron", [n for n in group("neuron") if n not in (PARENT, *NATIVE_NEURONS)])
def test_every_model_converts_with_every_neuron(name: str, neuron: str) -> None:
    """As the config says, at a small size: build, insert at the places, calibrate, convert, run."""
    from snn.conversion.convert import convert
    from snn.conversion.quantize import calibrate, quantize, quantizers
    from snn.models.registry import create_model
    from tests.models.small import SMALL, SMALL_CONFIGS, batch

    config = composed("train", f"model={name}", f"neuron={neuron}", "T=3")
    arguments = {
        k: v
        for k, v in {**config.model.args, **SMALL_CONFIGS.get(name, SMALL.get(config.model.name, {}))}.items()
        if v is not None
    }
    torch.manual_seed(0)
    model = create_model(config.model.name, weights=None, num_classes=3, **arguments).eval()
    asked = config.quantization
    for coverage, rules in config.model.places.items():
        inputs = batch(model)
        options = {"name": asked.name, "levels": asked.levels, "granularity": asked.granularity}
        quantised = quantize(model, rules, example=inputs, **options).eval()
        assert quantizers(quantised), coverage
        calibrate(quantised, [inputs], init=asked.init, percentile=asked.percentile)
        options = {k: v for k, v in config.neuron.items() if v is not None}
        network = convert(quantised, options.pop("name"), 3, execution=config.execution.mode, **options)
        out = network(**inputs)
        assert out.logits.shape == (3, 3, 3)
        assert out.logits.isfinite().all()
        assert len(network.neurons) == len(quantizers(quantised))


@pytest.mark.parametrize("name", group("optimizer"))
def test_every_optimizer_is_built_and_steps(name: str) -> None:
    from snn.training.optimizer import build_optimizer

    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    config = composed("train", f"optimizer={name}").optimizer
    optimizer = build_optimizer(model, config)
    assert type(optimizer).__name__ == config["_target_"].split(".")[-1]
    before = [p.detach().clone() for p in model.parameters()]
    model(torch.ones(2, 3)).square().sum().backward()
    optimizer.step()
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters()))


@pytest.mark.parametrize("name", group("scheduler"))
def test_every_scheduler_is_built(name: str) -> None:
    config = composed("train", f"scheduler={name}").scheduler
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = instantiate(config, "scheduler", optimizer=optimizer, total_steps=10)
    assert 0 < scheduler.get_last_lr()[0] <= 1


@pytest.mark.parametrize("name", [name for name in group("quantization") if name != PARENT])
def test_every_quantization_names_a_registered_quantiser(name: str) -> None:
    from snn.quantizers.registry import QUANTIZERS

    loaded = OmegaConf.load(CONF / "quantization" / f"{name}.yaml")
    assert loaded.name in QUANTIZERS


def test_every_registered_thing_has_a_config() -> None:
    from snn.models.registry import MODELS
    from snn.neurons.registry import NATIVE_NEURONS, NEURONS
    from snn.quantizers.registry import QUANTIZERS

    registries = (
        ("neuron", NEURONS),
        ("neuron", NATIVE_NEURONS),
        ("quantization", QUANTIZERS),
        ("model", MODELS),
    )
    for kind, registry in registries:
        named = {OmegaConf.load(CONF / kind / f"{choice}.yaml").get("name") for choice in group(kind)}
        named |= {
            OmegaConf.load(CONF / kind / f"{choice}.yaml").get(kind, {}).get("name") for choice in group(kind)
        }
        assert set(registry.names()) <= named


def test_defaults() -> None:
    config = composed("train")
    assert (config.model.name, config.dataset.name, config.neuron["name"]) == (
        "bert",
        "rotten_tomatoes",
        "para_inf",
    )
    assert config.quantization.levels == config.T == 8


def test_levels_follow_T_unless_set() -> None:
    assert composed("train", "T=5").quantization.levels == 5
    assert composed("train", "T=5", "quantization.levels=3").quantization.levels == 3


NATIVE = [name for name in group("model") if is_native(name) and not name.startswith("spikingbert")]


@pytest.mark.parametrize(
    ("name", "neuron"),
    list(zip(NATIVE, itertools.cycle(["lif", "plif", "integrate_fire", "para_inf"]))),
)
def test_every_native_model_takes_T_and_neuron_from_the_root(name: str, neuron: str) -> None:
    from snn.models.registry import create_model
    from tests.models.small import SMALL, batch

    assert composed("train", f"model={name}").neuron["name"] == "lif"
    config = composed("train", f"model={name}", f"neuron={neuron}", "T=3")
    arguments = {**config.model.args, **SMALL[config.model.name], "T": config.model.args["T"]}
    model = create_model(config.model.name, num_classes=3, **arguments)
    assert (model.T, model.spec["args"]["neuron"]) == (3, config.neuron)
    assert model(**batch(model)).shape == (3, 3, 3)
    assert {module.name for module in model.modules() if hasattr(module, "step")} == {neuron}


@pytest.mark.parametrize(
    ("said", "rate"),
    [
        (["model=resnet20"], 0.02),
        (["model=resnet20", "optimizer.lr=0.05"], 0.01),
        (["model=vit_tiny", "neuron=st_bif", "T=64"], 2e-5),
        (["model=resnet20", "optimizer=adamw"], 2e-5),
        (["model=vit_tiny", "training.quantized.lr=1e-3"], 1e-3),
        (["model=resnet20", "+optimizer@training.quantized.optimizer=adamw"], None),
    ],
)
def test_the_rate_of_quantised_training_suits_the_optimizer(said: list[str], rate: float | None) -> None:
    assert composed("train", *said, "dataset=cifar10").training.quantized.lr == rate


@pytest.mark.parametrize(
    ("rate", "refusal"), [("null", "is null, and so is training.quantized.lr"), ("fast", "must be a number")]
)
def test_the_rate_of_a_stages_own_optimizer(rate: str, refusal: str) -> None:
    said = ["+optimizer@training.quantized.optimizer=sgd", f"training.quantized.optimizer.lr={rate}"]
    with pytest.raises(ConfigError, match=f"^training.quantized.optimizer.lr {refusal}"):
        check(composed("train", "model=resnet20", "dataset=cifar10", *said), "train")


def test_a_model_with_neurons_of_its_own_takes_no_other() -> None:
    config = composed("train", "model=spikingbert", "T=5")
    assert (config.neuron["name"], config.model.args["T"]) == ("own", 5)
    with pytest.raises(ConfigError, match=r"neuron=lif does not fit model=spikingbert.* takes neuron=own"):
        composed("train", "model=spikingbert", "neuron=lif")
    with pytest.raises(ConfigError, match=r"neuron=own does not fit model=sdt, which takes neuron=.*lif"):
        composed("train", "model=sdt", "neuron=own")
    with pytest.raises(ConfigError, match=r"neuron=own is for .* \(model=spikingbert\); .* got model=bert"):
        composed("train", "neuron=own")


def test_to_compile_takes_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    config = composed("train", "training.compile=true")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ConfigError, match=r"training.compile=true needs a C\+\+ compiler"):
        check(config, "train")


def test_st_bif_brings_lsq() -> None:
    config = composed("train", "neuron=st_bif")
    assert (config.quantization.name, config.quantization.levels) == ("lsq", 16)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"T": 0}, "T must be at least 1; got 0"),
        ({"device": "cuda:1"}, "device: unknown name .cuda:1.*auto, cpu"),
        ({"threads": 0}, "threads must be at least 1; got 0"),
        ({"T": None}, "T: train.py needs a number of time steps"),
        ({"quantization.levels": 0}, "quantization.levels must be at least 1; got 0"),
        (
            {"quantization.init": "first"},
            "quantization.init: unknown name 'first'; did you mean 'first_batch'",
        ),
        ({"quantization.percentile": 0}, r"quantization.percentile must be in \(0, 100\]; got 0"),
        ({"quantization.batches": 0}, "quantization.batches must be at least 1; got 0"),
        ({"training.batch_size": 0}, "training.batch_size must be at least 1; got 0"),
        ({"training.accumulate": 0}, "training.accumulate must be at least 1; got 0"),
        ({"training.float.epochs": -1}, "training.float.epochs must be at least 0; got -1"),
        ({"training.float.freeze_norm": -0.1}, r"training.float.freeze_norm must be in \[0, 1\]; got -0.1"),
        ({"training.quantized.fade": 1.0}, r"training.quantized.fade must be in \[0, 1\); got 1.0"),
        (
            {"training.float.fade": 0.5},
            "training.float.fade: quantisers fade in while training.quantized learns",
        ),
        ({"training.clip_norm": -1.0}, "training.clip_norm must be above 0, or null for no limit; got -1.0"),
        ({"training.clip_norm": 0.0}, "training.clip_norm must be above 0"),
        ({"training.monitor": "los"}, "training.monitor: unknown name 'los'; did you mean 'loss'"),
        ({"training.label_smoothing": -0.1}, r"training.label_smoothing must be in \[0, 1\); got -0.1"),
        ({"training.label_smoothing": 1.5}, r"training.label_smoothing must be in \[0, 1\); got 1.5"),
        ({"training.workers": -1}, "training.workers must be at least 0; got -1"),
        ({"training.quantized.lr": -0.1}, "training.quantized.lr must be at least 0; got -0.1"),
        ({"optimizer.lr": "fast"}, "optimizer.lr must be a number; got 'fast'"),
        ({"optimizer.lr": None}, "optimizer.lr is null, and so is training.float.lr: give one of them"),
        (
            {"optimizer.lr": None, "training.float.lr": 0.1},
            "optimizer.lr is null, and so is training.quantized.lr",
        ),
        ({"training.stages": ["float", "quantised"]}, r"training.stages\[1\].*did you mean 'quantized'"),
        (
            {"training.stages": ["evaluate", "float"]},
            r"in the order \[float,evaluate\]; got \[evaluate,float\]",
        ),
        (
            {"training.stages": ["float", "spiking"], "training.spiking.epochs": 1},
            "training.stages: spiking needs convert before it",
        ),
        ({"training.stages": ["float", "float"]}, r"each once, in the order \[float\]"),
        ({"training.precision": "fp16"}, "training.precision: unknown name 'fp16'"),
        ({"conversion.thresholds": "folow"}, "conversion.thresholds.*did you mean 'follow'"),
        ({"execution.mode": "paralel"}, "execution.mode.*did you mean 'parallel'"),
        ({"neuron.name": "para_in"}, "neuron: unknown name 'para_in'; did you mean 'para_inf'"),
        ({"neuron.coding": "sum"}, "neuron=para_inf works under coding mean; got neuron.coding=sum"),
        ({"neuron.order": "erly"}, "neuron.order must be one of early, late, even; got 'erly'"),
        ({"neuron.ordr": "early"}, "neuron.ordr: para_inf takes no such argument; did you mean 'order'"),
        (
            {"neuron.name": "integrate_fire", "neuron.order": None, "neuron.initial": "x"},
            "neuron=integrate_fire: '<='",
        ),
        ({"conversion.verify_dtype": "float16"}, "conversion.verify_dtype: .*did you mean 'float64'"),
        ({"conversion.verify_batches": 0}, "conversion.verify_batches must be at least 1; got 0"),
        ({"evaluation.limit": 0}, "evaluation.limit must be at least 1; got 0"),
        ({"execution.chunk": 2}, "neuron=para_inf needs all T steps at once"),
        ({"execution.mode": "stepwise"}, "neuron=para_inf needs all T steps at once"),
        (
            {"execution.mode": "collapsed", "neuron.name": "integrate_fire"},
            "neuron=integrate_fire has no collapsed form",
        ),
        ({"quantization.name": "lsq"}, "neuron=para_inf needs quantization=qcfs; got lsq"),
        ({"distillation.teacher": ""}, "distillation.teacher: name a run's folder.*or minilm"),
        ({"distillation.logits": 0}, "one of hidden, attention, logits must be above 0"),
        ({"distillation.hidden": -1}, "distillation.hidden must be at least 0; got -1"),
        ({"distillation.temperature": 0}, "distillation.temperature must be positive; got 0"),
        ({"distillation.layers": "uniformly"}, "distillation.layers: .*did you mean 'uniform'"),
        ({"distillation.adapter": "share"}, "distillation.adapter: .*did you mean 'shared'"),
        ({"distillation.weighting": "errors"}, "distillation.weighting: .*did you mean 'error'"),
        ({"training.float.distill": 1.5}, r"training.float.distill must be in \[0, 1\]; got 1.5"),
        ({"training.stages": ["layers"]}, "layers learns from a teacher, distillation.teacher: name"),
        (
            {"neuron.name": "lif"},
            "neuron=lif is for networks that are trained as spiking ones.*got model=bert",
        ),
        (
            {"model.name": "sdt", "neuron.name": "st_bif"},
            "neuron: unknown name 'st_bif'; .*lif, para_inf, plif",
        ),
        ({"model.name": "sdt", "neuron.alfa": 1}, "neuron.alfa: neuron=para_inf takes no such argument"),
    ],
)
def test_what_cannot_work_is_refused(change: dict[str, Any], expected: str) -> None:
    config = OmegaConf.structured(composed("train"))
    for key, value in change.items():
        OmegaConf.update(config, key, value, force_add=True)
    with pytest.raises(ConfigError, match=expected) as error:
        check(typed(config), "train")
    assert "\n" not in str(error.value)


def test_each_stage_may_have_a_learning_rate_of_its_own() -> None:
    config = composed("train", "optimizer.lr=null", "training.float.lr=0.1", "training.quantized.lr=0.2")
    assert (config.optimizer["lr"], config.training.spiking.lr) == (
        None,
        None,
    )  # without epochs, so without a rate
    assert composed("train", "~optimizer.lr").optimizer.get("lr") is None


@pytest.mark.parametrize("script", ["convert", "evaluate"])
def test_a_checkpoint_is_needed(script: str) -> None:
    with pytest.raises(ConfigError, match=f"checkpoint: {script}.py needs checkpoint=FOLDER"):
        composed(script)


@pytest.mark.parametrize(
    ("key", "value"),
    [("T", "abc"), ("training.batch_size", "many"), ("dataset.mean", ["x"]), ("name", "${no}")],
)
def test_a_wrong_value_is_named_with_its_key(key: str, value: Any) -> None:
    config = OmegaConf.create({})
    OmegaConf.update(config, key, value, force_add=True)
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")) as error:
        typed(config)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("os.system", "optimizer._target_: 'os.system' is not allowed"),
        ("torch.load", "optimizer._target_: 'torch.load' is not allowed"),
        ("torch.optim.Adam2", "optimizer._target_: there is no torch.optim.Adam2"),
        ("torch.optim.nowhere.Adam", "optimizer._target_: there is no torch.optim.nowhere.Adam"),
        ("torch.optim.adamw.torch.load", "optimizer._target_"),
        ("torch.optim.adam._get_value.__globals__", "optimizer._target_"),
        (None, "optimizer._target_: None is not allowed"),
        (["torch.optim.SGD"], "optimizer._target_"),
    ],
)
def test_targets_outside_of_the_list_are_refused(target: Any, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as error:
        instantiate({"_target_": target, "lr": 0.1}, "optimizer", params=[nn.Parameter(torch.zeros(1))])
    assert "\n" not in str(error.value)


def test_arguments_that_a_target_does_not_take_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"optimizer: .*'speed'"):
        instantiate(
            {"_target_": "torch.optim.SGD", "speed": 1}, "optimizer", params=[nn.Parameter(torch.zeros(1))]
        )


def test_values_that_a_target_refuses_are_one_line() -> None:
    with pytest.raises(ConfigError, match=r"optimizer: .*-1\.0"):
        instantiate(
            {"_target_": "torch.optim.SGD", "lr": -1.0}, "optimizer", params=[nn.Parameter(torch.zeros(1))]
        )


def test_a_target_that_names_its_key_is_quoted_as_it_is() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(ConfigError, match=r"^scheduler\.final must be in \[0, 1\]"):
        instantiate(
            {"_target_": "snn.training.schedule.linear", "final": 2.0},
            "scheduler",
            optimizer=optimizer,
            total_steps=3,
        )
