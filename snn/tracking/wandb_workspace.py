"""A W&B workspace for the runs of a project, defined in code and applied with one command:

    python -m snn.tracking.wandb_workspace USER/PROJECT

It needs an account, and the package ``wandb-workspaces`` (extra ``workspaces``). ``--show`` prints what would be sent.
"""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING, Any

from snn.errors import ConfigError, SNNError

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace


def build_workspace(entity: str, project: str, metric: str = "accuracy", split: str = "test") -> Workspace:
    """The workspace: results and curves over time steps, spikes, energy, conversion, mistakes, training.

    Args:
        entity: W&B user or team.
        project: The project whose runs it shows.
        metric: The metric that the runs are judged by.
        split: The split that they are measured on.

    Raises:
        ConfigError: The package is missing.
    """
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise ConfigError(
            "the workspace needs the package wandb-workspaces; `pip install wandb-workspaces`"
        ) from error
    score, energy = f"results/spiking/metrics/{metric}", "results/spiking/energy_uj"

    def over_time(title: str, names: list[Any], axis: str, **more: Any) -> wr.LinePlot:
        return wr.LinePlot(title=title, x="timestep", y=names, title_x="time step", title_y=axis, **more)

    def pictures(title: str, *names: str) -> wr.MediaBrowser:
        return wr.MediaBrowser(title=title, media_keys=[f"figures/{name}" for name in names], num_columns=1)

    def table(name: str) -> wr.WeavePanelSummaryTable:
        return wr.WeavePanelSummaryTable(table_name=name)

    rate = "spikes per neuron"
    panels: dict[str, list[Any]] = {
        "Result": [
            over_time(f"{metric} after each time step", [f"{split}/{metric}_at_t"], metric),
            wr.ScatterPlot(title=f"{metric} against T", x=wr.Config("T"), y=wr.SummaryMetric(score)),
            wr.ScatterPlot(
                title=f"{metric} against energy (µJ per sample)",
                x=wr.SummaryMetric(energy),
                y=wr.SummaryMetric(score),
            ),
            wr.RunComparer(diff_only=True),
        ],
        "Spikes": [
            over_time("Spike rate of the network", [f"{split}/spike_rate_at_t"], rate),
            over_time("Spike rate of every layer", [], rate, metric_regex="spike_rate_at_t/.*"),
            pictures("Layers and time steps", "spike_rate_heatmap"),
            pictures("Spikes of a few neurons", "spike_raster"),
            table("spike_rates"),
        ],
        "Energy": [pictures("By what is computed", "energy_by_part"), table("energy")],
        "Conversion": [
            pictures("Difference by layer", "error_by_depth"),
            table("verification"),
            table("plan"),
        ],
        "Mistakes": [pictures("What was taken for what", "confusion"), table("confusion_table")],
        "Training": [
            wr.LinePlot(title="Loss", x="step", metric_regex=".*/train/loss"),
            wr.LinePlot(
                title=f"Validation {metric}", x="step", metric_regex=f".*/validation/{re.escape(metric)}"
            ),
            wr.LinePlot(title="Learning rate", x="step", y=["lr"]),
        ],
    }
    sections = [ws.Section(name=name, panels=own, is_open=name != "Training") for name, own in panels.items()]
    return ws.Workspace(entity=entity, project=project, name="Spiking networks", sections=sections)


def main(arguments: list[str]) -> None:
    """Build the workspace and send it."""
    parser = argparse.ArgumentParser(prog="python -m snn.tracking.wandb_workspace", description=__doc__)
    parser.add_argument("where", metavar="USER/PROJECT", help="whose project gets the workspace")
    parser.add_argument("--metric", default="accuracy", help="the first metric of the data set")
    parser.add_argument("--split", default="test", help="the split that the runs were measured on")
    parser.add_argument("--show", action="store_true", help="print what would be sent, and stop")
    given = parser.parse_args(arguments)
    entity, _, project = given.where.partition("/")
    if not entity or not project:
        parser.error(f"expected USER/PROJECT; got {given.where!r}")
    workspace = build_workspace(entity, project, given.metric, given.split)
    if given.show:
        sys.stdout.write(workspace._to_model().model_dump_json(by_alias=True, indent=2) + "\n")
        return
    workspace.save()
    sys.stdout.write(f"{workspace.url}\n")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SNNError as error:
        sys.exit(f"error: {error}")
