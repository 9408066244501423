"""Measure a trained network over time: ``python evaluate.py checkpoint=FOLDER T=...``; ``report=`` is for sweeps."""

from pathlib import Path

from snn.config import Config
from snn.launch import launch


def main(config: Config, folder: Path) -> float:
    if config.report is not None:
        from snn.tracking.sweep_report import report_again

        return report_again(config.report, folder)
    from snn.evaluation.jobs import evaluate_checkpoint

    return evaluate_checkpoint(config, folder)


if __name__ == "__main__":
    launch("evaluate", main)
