import csv
import json
import os
import subprocess
import sys
import textwrap

import pytest

from snn.tracking import RunFileError, record_failure, write_sweep_report
from snn.tracking.sweep import SweepReport
from snn.tracking.sweep_jobs import read_jobs

from .summaries import make_job, summary


def result(steps, neuron="para_inf", accuracy=0.7, dataset="trec", **changes):
    made = summary(layers=None, verification=None, neuron=neuron, dataset=dataset, T=steps, **changes)
    made["results"]["spiking"].update(T=steps, metrics={"accuracy": accuracy})
    return made


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    number = 0
    for neuron in ("para_inf", "integrate_fire"):
        for steps in (1, 4, 16):
            name, overrides = str(number), ["model=bert", f"neuron={neuron}", f"T={steps}"]
            contents = result(steps, neuron, 0.5 + steps / 100)
            if number == 4:
                contents = {"status": "failed", "error": "ConfigError: neuron: got x,\n expected y"}
            if number == 5:
                contents = None
            make_job(folder, name, overrides, contents)
            number += 1
    (folder / "0" / "report.md").write_text("")
    (folder / "multirun.yaml").write_text(
        "hydra: {job: {name: evaluate}, overrides: {task: ['T=1,4,16', 'neuron=para_inf,integrate_fire']}}"
    )
    return folder, write_sweep_report(folder)


def test_the_report_counts_and_names_what_did_not_finish(sweep):
    folder, report = sweep
    text = report.path.read_text()
    assert "**6 jobs: 4 finished, 1 failed, 1 unfinished**" in text
    assert (
        "- job 4 (model=bert neuron=integrate_fire T=4) failed: ConfigError: neuron: got x, expected y"
        in text
    )
    assert "- job 5 (model=bert neuron=integrate_fire T=16) unfinished: no summary.json" in text
    assert "```bash\npython evaluate.py -m T=1,4,16 neuron=para_inf,integrate_fire\n```" in text
    assert "![accuracy over T](figures/accuracy_over_T.png)" in text
    assert (folder / "figures" / "accuracy_over_T.svg").is_file()
    assert "[0](0/report.md)" in text


def test_the_table_has_the_overrides_that_differ(sweep):
    _, report = sweep
    heading = report.text.splitlines()[0].split()
    assert heading[:3] == ["job", "neuron", "T"]
    assert "model" not in heading
    assert "job 4 (model=bert neuron=integrate_fire T=4) failed" in report.text


def test_results_csv_holds_full_precision_and_errors(sweep):
    folder, _ = sweep
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["job"] for row in rows] == ["0", "1", "2", "3", "4", "5"]
    assert (rows[1]["metric"], float(rows[1]["spiking"])) == ("accuracy", 0.54)
    assert float(rows[1]["same prediction"]) == 0.999
    assert rows[4]["status"] == "failed"
    assert rows[4]["error"].startswith("ConfigError")
    assert rows[5]["spiking"] == ""


def test_jobs_are_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 9, 2, 1):
        make_job(tmp_path, str(number), [f"T={number}"], result(number))
    assert [job.name for job in read_jobs(tmp_path)] == ["1", "2", "9", "10"]


def test_each_data_set_has_figures_of_its_own(tmp_path):
    make_job(tmp_path, "0", ["dataset=trec"], result(4))
    make_job(tmp_path, "1", ["dataset=sst2"], result(4, dataset="sst2"))
    text = write_sweep_report(tmp_path).path.read_text()
    for name in ("trec", "sst2"):
        assert (tmp_path / "figures" / f"accuracy_over_T_{name}.png").is_file()
        assert f"## {name}: accuracy" in text


def test_a_sweep_in_which_nothing_finished_has_no_figure(tmp_path):
    make_job(tmp_path, "0", ["T=1"], None)
    report = write_sweep_report(tmp_path)
    assert "![" not in report.path.read_text()
    assert "1 job: 1 unfinished" in report.text


def test_a_summary_cut_in_half_is_a_failed_job(tmp_path):
    job = make_job(tmp_path, "0", ["T=1"], {})
    (job / "summary.json").write_text('{"status": "fini')
    assert read_jobs(tmp_path)[0].status == "failed"
    assert "is not JSON" in (read_jobs(tmp_path)[0].error or "")


def test_an_empty_folder_is_one_clear_line(tmp_path):
    with pytest.raises(RunFileError, match="holds no job"):
        write_sweep_report(tmp_path)


def test_a_failure_after_the_summary_was_written_is_recorded(tmp_path):
    job = make_job(tmp_path, "0", [], result(4))
    record_failure(job, ValueError("beyond\ntolerance"))
    contents = json.loads((job / "summary.json").read_text())
    assert (contents["status"], contents["error"]) == ("failed", "ValueError: beyond tolerance")
    assert contents["results"]["float"]["metrics"]["accuracy"] == 0.791
    record_failure(job, ValueError("later"))
    assert "beyond" in (job / "summary.json").read_text()


APP = """
    import sys
    from pathlib import Path
    import hydra
    from hydra.core.config_store import ConfigStore
    from hydra.core.hydra_config import HydraConfig
    from snn.tracking import RunInfo, create_trackers

    callbacks = {"sweep_report": {"_target_": "snn.tracking.sweep.SweepReport"}}
    ConfigStore.instance().store("app", {"T": 1, "hydra": {"callbacks": callbacks}})

    @hydra.main(version_base="1.3", config_path=None, config_name="app")
    def main(config):
        if config.T == 3:
            raise ValueError("T is 3")
        with create_trackers() as trackers:
            trackers.start(RunInfo({"T": config.T}, Path(HydraConfig.get().runtime.output_dir)))
            if config.T == 5:
                raise KeyboardInterrupt
            trackers.summary["T"] = config.T
            if config.T == 7:
                trackers.finish({"error": "said in one line"}, "failed")
                return
            trackers.summary["results"] = {"spiking": {"T": config.T, "metrics": {"accuracy": config.T / 10}}}

    main()
"""


def run_app(folder, *arguments):
    app = folder / "app.py"
    app.write_text(textwrap.dedent(APP))
    environment = {**os.environ, "PYTHONWARNINGS": "ignore::DeprecationWarning"}
    command = [sys.executable, str(app), "-m", "hydra.sweep.dir=sweep", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_hydra_ends_a_sweep_with_the_report(tmp_path):
    done = run_app(tmp_path, "T=1,2")
    assert done.returncode == 0, done.stderr
    assert "2 jobs: 2 finished" in done.stdout
    assert done.stdout.count("Report:") == 1
    assert (tmp_path / "sweep" / "figures" / "accuracy_over_T.png").is_file()


def test_a_failed_job_is_reported_and_the_exit_code_is_not_zero(tmp_path):
    done = run_app(tmp_path, "T=1,3,2")
    assert done.returncode == 1
    assert "ValueError: T is 3" in done.stderr
    assert "3 jobs: 2 finished, 1 failed" in done.stdout
    assert "job 1 (T=3) failed: ValueError: T is 3" in done.stdout
    assert done.stdout.count("Report:") == 1
    assert "job 1 (T=3) failed" in (tmp_path / "sweep" / "report.md").read_text()


def test_a_failure_that_was_not_raised_makes_the_exit_code_1_too(tmp_path):
    done = run_app(tmp_path, "T=7,1")
    assert done.returncode == 1
    assert "job 0 (T=7) failed: said in one line" in done.stdout
    assert done.stdout.count("Report:") == 1


def test_jobs_that_went_elsewhere_are_said_to_be_missing(tmp_path):
    done = run_app(tmp_path, "T=1,2", "hydra.sweep.dir=sweep_${T}")
    told = "Not in the report, because hydra.sweep.dir depends on what is swept:"
    assert f"{told}\n  {tmp_path / 'sweep_2' / '1'}\n" in done.stdout
    assert "1 job: 1 finished" in done.stdout


def test_a_sweep_without_a_job_to_read_says_so(tmp_path):
    done = run_app(tmp_path, "T=1", "hydra.output_subdir=null")
    assert "holds no job" in done.stdout


def test_an_interrupted_sweep_reports_what_was_done(tmp_path):
    done = run_app(tmp_path, "T=1,5,2")
    assert done.returncode != 0
    assert "2 jobs: 1 finished, 1 interrupted" in done.stdout


def test_the_callback_travels_to_other_processes():
    import pickle

    assert isinstance(pickle.loads(pickle.dumps(SweepReport())), SweepReport)
