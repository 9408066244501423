"""Make a trained network spike, without training: ``python convert.py checkpoint=FOLDER neuron=... T=...``."""

from pathlib import Path

from snn.config import Config
from snn.launch import launch


def main(config: Config, folder: Path) -> float:
    from snn.evaluation.jobs import convert_checkpoint

    return convert_checkpoint(config, folder)


if __name__ == "__main__":
    launch("convert", main)
