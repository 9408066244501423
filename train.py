"""Train a quantised network, make it spike, measure it over time: ``python train.py --help``."""

from pathlib import Path

from snn.config import Config
from snn.launch import launch


def main(config: Config, folder: Path) -> float:
    from snn.training.experiment import run

    return run(config, folder)


if __name__ == "__main__":
    launch("train", main)
