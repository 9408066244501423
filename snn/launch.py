"""How a script starts: Hydra composes the config, and a user's mistake ends in one line instead of a traceback."""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from omegaconf import DictConfig, OmegaConf

from snn.allocator import keep_freed_memory
from snn.checks import check
from snn.config import Config, typed
from snn.errors import ConfigError, SNNError, did_you_mean
from snn.shorthand import written_out

CONF = Path(__file__).resolve().parent.parent / "conf"
#: Keys of ``model`` that a checkpoint decides.
OF_THE_CHECKPOINT = ("weights", "tokenizer", "num_classes", "activation", "rename")
log = logging.getLogger(__name__)

Job = Callable[[Config, Path], float]


def launch(script: str, job: Job) -> None:
    """Run ``job`` under Hydra with the root config ``conf/<script>.yaml``.

    Args:
        script: ``train``, ``convert`` or ``evaluate``.
        job: Takes the checked config and the run's folder; returns the number that a sweeper optimises.
    """
    keep_freed_memory()
    register()
    sys.argv[1:] = written_out(sys.argv[1:])
    try:
        check_overrides(script, sys.argv[1:])
    except SNNError as error:
        _fail(str(error))
    if any(argument.startswith("resume=") and argument != "resume=null" for argument in sys.argv[1:]):
        sys.argv.append("hydra.output_subdir=null")  # .hydra goes on saying how the run was started

    def task(config: DictConfig) -> float:
        return _run(script, job, config)

    task.__module__ = script  # Hydra names the job, and with it the sweep's folder and the log, after it
    hydra.main(version_base="1.3", config_path=str(CONF), config_name=script)(task)()


def register() -> None:
    """Make the schema and the resolvers known to Hydra."""
    ConfigStore.instance().store("config_schema", Config)
    OmegaConf.register_new_resolver("snn_run_dir", _run_dir, replace=True)
    OmegaConf.register_new_resolver("snn_share", _share, replace=True)


def _run_dir(resume: str | None, outputs: str, name: str, now: str) -> str:
    return str(resume) if resume else f"{outputs}/{name}/{now}"


def _share(whole: float | None, share: float, own: Any = None) -> float | None:
    """A share of the run's rate; nothing where a stage has an optimiser of its own, whose rate is its own too."""
    return None if whole is None or own is not None else float(f"{whole * share:.6g}")


def _run(script: str, job: Job, config: DictConfig) -> float:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    settings = HydraConfig.get()
    folder = Path(settings.runtime.output_dir)
    try:
        checked = typed(config)
        check(checked, script)
        return job(checked, folder)
    except KeyboardInterrupt:
        again = f"; go on with: python {script}.py resume={folder}" if script == "train" else ""
        _fail(f"interrupted; what was done is in {folder}{again}", code=130)
    except (SNNError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (
            errno.ENOSPC,
            errno.EACCES,
            errno.EROFS,
            errno.EDQUOT,
        ):
            raise
        if settings.mode is RunMode.MULTIRUN:
            # The other jobs go on; the sweep's report names this one and makes the exit code non-zero.
            from snn.tracking.files_tracker import record_failure

            log.error("error: %s", error)
            record_failure(folder, error)
            return float("nan")
        _fail(str(error))
    raise AssertionError("unreachable")


def _fail(message: str, code: int = 1) -> None:
    sys.stderr.write(f"error: {message}\n")
    sys.exit(code)


def check_overrides(script: str, arguments: list[str], conf: Path = CONF) -> None:
    """Refuse unknown groups, choices and keys on the command line, and name the nearest.

    Raises:
        ConfigError: One line.
    """
    from hydra._internal.utils import get_args_parser

    parsed = get_args_parser().parse_args(arguments)
    if parsed.help or parsed.hydra_help or parsed.shell_completion:
        return
    if parsed.config_dir or parsed.config_path or parsed.config_name:
        return
    try:
        overrides = OverridesParser.create().parse_overrides(parsed.overrides)
    except Exception as error:
        raise ConfigError(f"cannot read the command line: {str(error).splitlines()[0]}") from None
    overrides = [o for o in overrides if not o.key_or_group.startswith("hydra")]
    _check_resume(script, overrides)
    _check_checkpoint(overrides)
    groups = {str(p.relative_to(conf)) for p in conf.rglob("*") if p.is_dir()}
    for override in overrides:
        _check_choice(override, groups, conf)
    _check_keys(script, overrides, groups, conf)


def _check_resume(script: str, overrides: list[Override]) -> None:
    if any(o.key_or_group == "resume" and o.value() is not None for o in overrides):
        if script != "train":
            raise ConfigError(
                f"resume goes on with the training of train.py; {script}.py starts anew, so leave it out"
            )
        # A picture that cannot be read may turn up in the middle of a run.
        others = [o.input_line for o in overrides if o.key_or_group != "resume"]
        others = [line for line in others if line != "dataset.broken=skip"]
        if others:
            raise ConfigError(
                f"resume goes on with the config that the run was started with; leave out {', '.join(map(str, others))}"
            )


def _check_checkpoint(overrides: list[Override]) -> None:
    said = {o.key_or_group: o for o in overrides if not o.is_delete() and o.value()}
    others = [str(said[f"model.{key}"].input_line) for key in OF_THE_CHECKPOINT if f"model.{key}" in said]
    if others and "checkpoint" in said:
        raise ConfigError(
            f"checkpoint brings its network and tokenizer along; leave out {', '.join(others)}, which would say nothing"
        )


def _choices(override: Override, available: list[str]) -> list[Any]:
    value = override.value()
    if isinstance(value, Glob):
        return value.filter(available)
    if override.is_choice_sweep():
        return list(override.sweep_iterator())
    return value if isinstance(value, list) else [value]


def _available(group: str, conf: Path) -> list[str]:
    return sorted(p.stem for p in (conf / group).glob("*.yaml"))


def _check_choice(override: Override, groups: set[str], conf: Path) -> None:
    group = override.key_or_group
    if (
        group not in groups
        or override.is_delete()
        or (override.is_sweep_override() and not override.is_choice_sweep())
    ):
        return
    available = _available(group, conf)
    choices = _choices(override, available)
    if not choices:
        raise ConfigError(f"{override.input_line}: matches no choice; choices: {', '.join(available)}")
    for choice in choices:
        if choice is None:
            raise ConfigError(f"{group}: to use none of the choices write ~{group}")
        if str(choice) not in available:
            raise ConfigError(
                f"{group}: unknown name {str(choice)!r}; {did_you_mean(str(choice), available)}"
            )


def _check_keys(script: str, overrides: list[Override], groups: set[str], conf: Path) -> None:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    def first(override: Override) -> str:
        line = override.input_line or ""
        if isinstance(override.value(), Glob):
            return f"{override.key_or_group}={_choices(override, _available(override.key_or_group, conf))[0]}"
        if override.is_sweep_override():
            value = next(iter(override.sweep_string_iterator())) if override.is_choice_sweep() else "1"
            return f"{line.split('=', 1)[0]}={value}"
        return line

    chosen = [first(o) for o in overrides if o.key_or_group in groups]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf), version_base="1.3"):
            config = compose(script, overrides=chosen)
            for override in overrides:
                if override.key_or_group not in groups:
                    _check_section(config, override, groups)
                    if not (override.is_add() or override.is_force_add()):
                        _check_key(config, override.key_or_group)
            compose(script, overrides=[first(o) for o in overrides])
    except SNNError:
        raise
    except Exception as error:
        lines = [str(e).splitlines()[0] for e in (error, error.__cause__) if e is not None]
        raise ConfigError(f"the config cannot be composed: {': '.join(dict.fromkeys(lines))}") from None
    finally:
        GlobalHydra.instance().clear()


def _check_section(config: DictConfig, override: Override, groups: set[str]) -> None:
    """Refuse keys of a section that is null: OmegaConf would need one to put them into."""
    parts = override.key_or_group.split(".")
    within = len(parts) if isinstance(override.value(), dict) else len(parts) - 1
    node: Any = config
    for depth, part in enumerate(parts[:within], 1):
        if not OmegaConf.is_dict(node) or part not in node or OmegaConf.is_missing(node, part):
            return
        node = node[part]
        if node is None:
            key = ".".join(parts[:depth])
            choose = f"; choose one first: +{part}@{key}=NAME" if part in groups else ""
            raise ConfigError(f"{override.input_line}: {key} is null, so nothing in it can be set{choose}")


def _check_key(config: DictConfig, key: str) -> None:
    node: Any = config
    for depth, part in enumerate(key.split(".")):
        if OmegaConf.is_list(node):
            return
        if not OmegaConf.is_dict(node) or part not in node:
            place = ".".join(key.split(".")[:depth])
            known = [str(k) for k in node] if OmegaConf.is_dict(node) else []
            raise ConfigError(
                f"unknown key {key!r}: {place or 'the config'} has no {part!r}; {did_you_mean(part, known)}"
            )
        node = (
            OmegaConf.select(node, part, throw_on_missing=False)
            if not OmegaConf.is_missing(node, part)
            else None
        )
