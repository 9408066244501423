"""The command line: what is refused, with which one line, before anything is loaded."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from snn.config import Config
from snn.errors import DataError, SNNError
from snn.launch import check_overrides, launch, register
from snn.shorthand import written_out

ROOT = Path(__file__).parents[1]
Command = Callable[..., tuple[int, str, list[Config]]]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("model=brt", "model: unknown name 'brt'; did you mean 'bert'? (choices: bert"),
        ("neuron=parainf", "neuron: unknown name 'parainf'; did you mean 'para_inf'?"),
        ("-m neuron=para_inf,st_bff", "neuron: unknown name 'st_bff'; did you mean 'st_bif'?"),
        ("-m model=bert,resnet2 T=1,2", "model: unknown name 'resnet2'; did you mean 'resnet20'?"),
        ("dataset=zzzz", "dataset: unknown name 'zzzz'; choices: "),
        ("experiment=nothing_like_this", "experiment: unknown name 'nothing_like_this'"),
        ("experiment=null", "experiment: to use none of the choices write ~experiment"),
        ("modle=bert", "unknown key 'modle': the config has no 'modle'; did you mean 'model'?"),
        ("training.bach_size=3", "training has no 'bach_size'; did you mean 'batch_size'?"),
        ("training.float.epoch=3", "training.float has no 'epoch'; did you mean 'epochs'?"),
        ("-m training.float.epoch=3,4", "training.float has no 'epoch'"),
        ("neuron.ordr=late", "neuron has no 'ordr'; did you mean 'order'?"),
        ("model=resnet20 model.args.width=[1]", "model.args has no 'width'; did you mean 'widths'?"),
        ("T=abc", "T"),
        ("training.batch_size=many", "training.batch_size"),
        ("training.float.epochs=[1]", "training.float.epochs"),
        ("T=", "T"),
        (
            "resume=outputs/x seed=1",
            "resume goes on with the config that the run was started with; leave out seed=1",
        ),
        ("resume=outputs/x dataset.broken=refuse", "leave out dataset.broken=refuse"),
        (
            "checkpoint=outputs/x model.activation=relu model.weights=minilm",
            "checkpoint brings its network and tokenizer along; leave out model.weights=minilm, model.activation=relu",
        ),
        ("-m checkpoint=a,b model.num_classes=2,3", "leave out model.num_classes=2,3"),
        (
            "training.quantized.scheduler.warmup=0.1",
            "training.quantized.scheduler is null, so nothing in it can be set; choose one first: "
            "+scheduler@training.quantized.scheduler=NAME",
        ),
        ("+training.layers.distillation={hidden: 1}", "+distillation@training.layers.distillation=NAME"),
        ("dataset.events={frames: 3}", "dataset.events is null, so nothing in it can be set"),
        ("T", "cannot read the command line"),
        ("model.args={a: {b}}", "cannot read the command line"),
        ("-m neuron=glob(x*)", "neuron=glob(x*): matches no choice; choices: "),
    ],
)
def test_mistakes_on_the_command_line(arguments: str, expected: str) -> None:
    register()
    with pytest.raises(SNNError) as error:
        check_overrides("train", arguments.split(" ") if "{" not in arguments else [arguments])
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "arguments",
    [
        "model=resnet20 dataset=mnist5k neuron=para_inf T=4",
        "-m neuron=para_inf,integrate_fire T=1,2,4",
        "-m T=range(1,4) seed=choice(1,2)",
        "-m neuron=glob(*_*)",
        "-m optimizer.lr=interval(0.1,1)",
        "+optimizer.betas=[0.9,0.99] ~debug hydra.run.dir=somewhere",
        "++optimizer.eps=1e-6 training.stages=[float,evaluate]",
        "quantization.rules=[{match:x,do:keep}]",
        "-m dataset=glob(*,exclude=from_checkpoint) T=2",
        "resume=outputs/x hydra.job.chdir=false",
        "resume=outputs/x dataset.broken=skip",
        "checkpoint=outputs/x model=bert model.weights=null model.rename=[]",
        "checkpoint=null model.activation=relu",
        "+scheduler@training.quantized.scheduler=cosine training.quantized.scheduler.warmup=0.2",
        "experiment=spikingbert_all_sst2 training.general.dataset.limit_train=100",
        "conversion.correction={weights:true}",
        "dataset=text_file dataset.splits.validation=null",
        "dataset=hub_text dataset.splits={train:train,validation:dev,test:null}",
        "-sc install=bash",
        "dataset=text_file dataset.splits.test_other=other",
    ],
)
def test_what_is_right_passes(arguments: str) -> None:
    register()
    check_overrides("train", written_out(arguments.split(" ")))


@pytest.mark.parametrize("script", ["convert", "evaluate"])
def test_only_training_is_resumed(script: str) -> None:
    register()
    with pytest.raises(
        SNNError, match=rf"resume goes on with the training of train\.py; {script}\.py starts anew"
    ):
        check_overrides(script, ["checkpoint=outputs/x", "resume=outputs/x"])


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Runs a script's command line with a job that only notes the config; returns code, stderr and configs."""

    def command(
        line: str, job: Callable[..., float] | None = None, script: str = "train"
    ) -> tuple[int, str, list]:
        seen: list[Config] = []

        def note(config: Config, folder: Path) -> float:
            seen.append(config)
            return job(config, folder) if job else 0.0

        logging = ["hydra/job_logging=none", "hydra/hydra_logging=none"]
        folders = [f"hydra.run.dir={tmp_path}/run", f"hydra.sweep.dir={tmp_path}/sweep"]
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *line.split(), *logging, *folders])
        code = 0
        try:
            launch(script, note)
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err + captured.out
        return code, captured.err, seen

    return command


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("neuron=st_bif quantization=qcfs", "neuron=st_bif needs quantization=lsq; got qcfs"),
        (
            "execution=stepwise",
            "neuron=para_inf needs all T steps at once; use execution=parallel or collapsed",
        ),
        ("T=0", "T must be at least 1; got 0"),
        ("quantization.levels=0", "quantization.levels must be at least 1; got 0"),
        ("model=brt", "model: unknown name 'brt'; did you mean 'bert'?"),
        ("T=abc", "T=abc"),
    ],
)
def test_a_mistake_is_one_line_before_the_job(command: Command, line: str, expected: str) -> None:
    code, err, seen = command(line)
    assert (code, seen) == (1, [])
    (said,) = err.splitlines()
    assert said.startswith("error: ")
    assert expected in said


def test_st_bif_alone_is_right(command: Command) -> None:
    code, err, seen = command("neuron=st_bif")
    assert (code, err) == (0, "")
    assert (seen[0].neuron["name"], seen[0].quantization.name) == ("st_bif", "lsq")


def test_folders_and_logs_are_called_after_the_script(command: Command) -> None:
    from hydra.core.hydra_config import HydraConfig

    names: list[str] = []

    def job(config: Config, folder: Path) -> float:
        names.append(HydraConfig.get().job.name)
        return 0.0

    command("T=2", job)
    command("T=2 checkpoint=x", job, script="convert")
    assert names == ["train", "convert"]


def test_a_job_that_refuses_its_data_is_one_line(command: Command) -> None:
    def job(config: Config, folder: Path) -> float:
        raise DataError("dataset.data_dir=x: no such folder")

    code, err, _ = command("T=2", job)
    assert (code, err) == (1, "error: dataset.data_dir=x: no such folder\n")


def test_a_full_disk_is_one_line(command: Command) -> None:
    import errno

    def job(config: Config, folder: Path) -> float:
        raise OSError(errno.ENOSPC, "No space left on device")

    code, err, _ = command("T=2", job)
    assert code == 1
    assert err.startswith("error: ")
    assert "No space left on device" in err


def test_a_checkpoint_is_asked_for(command: Command) -> None:
    code, err, seen = command("T=2", script="evaluate")
    assert (code, seen) == (1, [])
    assert err == "error: checkpoint: evaluate.py needs checkpoint=FOLDER, such as outputs/NAME/TIME\n"


def test_other_jobs_of_a_sweep_go_on(command: Command, tmp_path: Path) -> None:
    """One combination cannot work; it is named, the others run, and the exit code tells."""
    from snn.tracking.files import read_json

    code, _, seen = command("-m neuron=para_inf,integrate_fire execution=stepwise T=1,2")
    assert code == 1
    # At T = 1 there is but one step, so ParaInf can do it.
    assert {(c.neuron["name"], c.T) for c in seen} == {
        ("para_inf", 1),
        ("integrate_fire", 1),
        ("integrate_fire", 2),
    }
    failed = [
        p for p in sorted((tmp_path / "sweep").glob("*/summary.json")) if read_json(p)["status"] == "failed"
    ]
    assert [path.parent.name for path in failed] == ["1"]
    assert "needs all T steps at once" in read_json(failed[0])["error"]


HEAVY = (
    "torch",
    "transformers",
    "timm",
    "wandb",
    "datasets",
    "pandas",
    "matplotlib",
    "sklearn",
    "accelerate",
)


@pytest.mark.parametrize("script", ["train", "convert", "evaluate"])
def test_help_shows_examples_and_loads_nothing_heavy(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(ROOT / f"{script}.py"), "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    for example in ("python train.py", "python convert.py checkpoint=", "python evaluate.py -m checkpoint="):
        assert example in done.stdout
    for choice in ("para_inf", "resnet20", "rotten_tomatoes"):
        assert choice in done.stdout
    loaded = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "hydra" in loaded
    assert not loaded & set(HEAVY)


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = f"import sys, snn, snn.config, snn.launch; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
