"""Loggers in real runs: their files, their failures, a resumed run in MLflow's own store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.commands import ofav2, overrides

from ofav2_plugins import registry
from ofav2_plugins.cli.options import plugin_option
from ofav2_plugins.errors import DiskError, UserError
from ofav2_plugins.loggers.base import Logger, Loggers, load_loggers
from ofav2_plugins.loggers.energy import Energy

SMALL = ["width_mult=0.25", "resolutions=[16]", "batch_size=512", "evaluation.bn_images=64", "evaluation.max_subnets=1",
         "evaluation.final_trunks=1", "phases={full: {epochs: 1, lr: 0.02}}"]  # fmt: skip


class Failing(Logger):
    """Raises the given error at the given event."""

    def __init__(self, event: str, error: BaseException):
        self.name = "failing"
        self.calls = 0

        def fail(*_: object) -> None:
            self.calls += 1
            raise error

        setattr(self, event, fail)


class Measuring(Logger):
    """Measures the given values."""

    def __init__(self, values: Mapping[str, Any]):
        self.name, self.values = "measuring", values

    def measurements(self) -> Mapping[str, Any]:
        return self.values


def test_a_logger_that_fails_is_reported_once_and_gets_no_more_events():
    lines: list[str] = []
    failing = Failing("epoch_started", ZeroDivisionError("of\nthe logger"))
    loggers = Loggers([failing, Measuring({"watts": 3})], lines.append)
    for epoch in range(3):
        loggers.emit("epoch_started", epoch)
    assert failing.calls == 1
    assert lines == [
        "logger 'failing' fails in epoch_started and is switched off; the run continues without it: "
        "ZeroDivisionError: of the logger"
    ]
    assert loggers.measurements() == {"watts": 3.0}, "the others continue"


@pytest.mark.parametrize("values", [{"watts": "many"}, {"watts": float("nan")}, {"watts": None}, 3])
def test_measurements_that_are_no_finite_numbers_do_not_reach_the_records(values):
    lines: list[str] = []
    assert Loggers([Measuring(values)], lines.append).measurements() == {}
    assert "logger 'measuring' fails in measurements" in lines[0]


@pytest.mark.parametrize("error", [DiskError("full"), KeyboardInterrupt()])
def test_a_full_disk_and_ctrl_c_stop_the_run(error):
    with pytest.raises(type(error)):
        Loggers([Failing("epoch_started", error)], print).emit("epoch_started", 0)


def test_energy_of_no_country_is_rejected():
    for country in ("Germany", "D1", "XQX"):
        with pytest.raises(UserError, match=f"DEU or USA, but got '{country}'"):
            Energy(country).check()


def test_energy_without_a_country_has_no_co2():
    energy = Energy()
    energy.epoch_started(0)
    assert set(energy.measurements()) == {"energy_kwh"}


@pytest.mark.parametrize(
    ("text", "plugin"),
    [
        ("energy", "energy"),
        ("energy,country=DEU", {"name": "energy", "country": "DEU"}),
        ("{name: energy, country: DEU}", {"name": "energy", "country": "DEU"}),
        ("a,b=[1, 2],c=2.5,d=x,y", {"name": "a", "b": [1, 2], "c": 2.5, "d": "x,y"}),
    ],
)
def test_a_plugin_with_settings_in_one_word(text, plugin):
    assert plugin_option(text) == plugin


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--logger", "energi"], "unknown plugin 'energi' in ofav2.loggers; registered plugins: energy"),
        (["--logger", "energy,land=DEU"], "has no setting 'land'; its settings are country"),
        (["--logger", "energy,country=3"], "setting 'country'"),
        (["--energy", "DEU", "--logger", "energy"], "logger 'energy' is given more than once"),
        (["--energy", "XX"], "an ISO code of three letters"),
        (["--logger", "mlflow,uri=nosuch://host"], "logger 'mlflow' cannot use nosuch://host"),
    ],
)  # fmt: skip
def test_wrong_loggers_are_errors_before_anything_is_written(arguments, words, tmp_path):
    error = ofav2("train", "--supernet", "SE_B", "--out", tmp_path / "run", *overrides(*SMALL), *arguments).error
    assert words in error
    assert not (tmp_path / "run").exists()


def test_jsonl_is_part_of_every_run():
    assert [logger.name for logger in load_loggers(["tensorboard"])] == ["jsonl", "tensorboard"]
    assert [logger.name for logger in load_loggers(["jsonl"])] == ["jsonl"]


def test_mlflow_has_settings_metrics_and_results_of_a_resumed_run(tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # needs no database driver

    uri = f"file:{tmp_path / 'store'}"
    run = ["train", "--supernet", "EE_B", "--out", tmp_path / "run", "--threads", 1, "--logger", f"mlflow,uri={uri}",
           *overrides(*SMALL, "phases={full: {epochs: 2, lr: 0.02}}")]  # fmt: skip
    for more in ([], ["--resume"]):
        done = ofav2(*run, *more)
        assert done.returncode == 0, done.stderr
        assert "switched off" not in done.stdout, done.stdout
    client = MlflowClient(uri)
    [experiment] = [e for e in client.search_experiments() if e.name == "ofav2"]
    [logged] = client.search_runs([experiment.experiment_id])
    assert logged.info.status == "FINISHED"
    assert logged.data.params["recipe.batch_size"] == "512" and logged.data.params["supernet"] == "EE_B"
    [folder] = Path(tmp_path / "run").glob("steps/full-*")
    epochs = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    history = client.get_metric_history(logged.info.run_id, "full/val_top1")
    assert [(m.step, m.value) for m in history] == [(e["epoch"], pytest.approx(e["val_top1"])) for e in epochs]
    [row] = json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    assert logged.data.metrics["full/best_top1"] == pytest.approx(row["phases"][0]["best_top1"])


def test_a_third_partys_broken_logger_does_not_lose_the_run(tmp_path, monkeypatch):
    def fail(self: Logger, record: Mapping[str, Any]) -> None:
        raise RuntimeError("the server is gone")

    tensorboard = registry.load_class(registry.LOGGERS, "tensorboard")
    monkeypatch.setattr(tensorboard, "epoch_finished", fail)
    done = ofav2("train", "--supernet", "SE_B", "--out", tmp_path / "run", "--tensorboard", *overrides(*SMALL))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("logger 'tensorboard' fails in epoch_finished and is switched off") == 1
    assert (tmp_path / "run" / "results.json").exists()
