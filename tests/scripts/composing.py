"""Configs as the scripts get them: composed by Hydra, typed and checked."""

from __future__ import annotations

from functools import cache

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from snn.checks import check
from snn.config import Config, typed
from snn.launch import CONF, register


@cache
def _composed(script: str, overrides: tuple[str, ...]) -> str:
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_yaml(compose(script, overrides=list(overrides)))


def composed(script: str, *overrides: str) -> Config:
    """The config of ``script``, a fresh copy at every call."""
    config = typed(OmegaConf.create(_composed(script, overrides)))
    check(config, script)
    return config
