"""Measure a trained network over time: ``python evaluate.py checkpoint=FOLDER T=...``."""

from pathlib import Path

from snn.config import Config
from snn.launch import launch


def main(config: Config, folder: Path) -> float:
    from snn.evaluation.jobs import evaluate_checkpoint

    return evaluate_checkpoint(config, folder)


if __name__ == "__main__":
    launch("evaluate", main)
