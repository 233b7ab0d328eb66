"""Experiment trackers: what `--logger` names. All of them get the same numbers under the same names.

TensorBoard and CSV files are written by the loggers of Lightning Fabric, which has none for Weights & Biases
and MLflow: for these two the packages themselves are called.
"""

from __future__ import annotations

import importlib
import math
import os
import shutil
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from usbench.contracts.watcher import CellFacts, Watcher
from usbench.errors import UsbenchError, unknown
from usbench.results.io import LOGS
from usbench.storage.files import write_json

LOSSES = ("loss", "dice_loss", "bce_loss", "lr")
"""What is logged of every epoch, under the names that it has in history.csv."""


class MetricLogger(Watcher):
    """What is logged of a cell, whoever stores it.

    The losses and the learning rate of an epoch, at the number of the epoch; "case/SCORE/CLASS" at the number
    of the test case, from 1; at the end "mean/SCORE" and "class/SCORE/CLASS". Undefined scores are left out.
    A run that goes on after it was stopped logs its earlier epochs again, to a log that starts anew.
    """

    def on_start(self, facts: CellFacts, epochs: int) -> None:
        self.facts, self._cases, self._epoch = facts, 0, 0
        self.open(facts, _hyperparameters(facts))

    def on_training(self, history: Sequence[Mapping[str, float]]) -> None:
        for row in history:
            self.on_epoch(row)

    def on_epoch(self, row: Mapping[str, float]) -> None:
        self._epoch = int(row["epoch"])
        self.log({name: row[name] for name in LOSSES if not math.isnan(row[name])}, "epoch", self._epoch)

    def on_case(self, case_id: str, scores: Mapping[str, Mapping[str, Any]]) -> None:
        self._cases += 1
        found = {f"case/{score}/{name}": v for name, row in scores.items() for score, v in row.items()}
        self.log(_defined(found), "case", self._cases)

    def on_result(self, result: Any) -> None:
        scores = result.scores
        found = {f"mean/{score}": value for score, value in scores.items()}
        found |= {f"class/{s}/{name}": v for name, row in scores["classes"].items() for s, v in row.items()}
        self.finish(_defined(found), self._epoch)

    def on_end(self, error: BaseException | None) -> None:
        self.close(error is None)

    @abstractmethod
    def open(self, facts: CellFacts, hyperparameters: Mapping[str, Any]) -> None:
        """Begin a log for a cell."""

    @abstractmethod
    def log(self, values: Mapping[str, float], axis: str, step: int) -> None:
        """Log numbers by name at a step; axis: "epoch" or "case", what the steps count."""

    @abstractmethod
    def finish(self, values: Mapping[str, float], epoch: int) -> None:
        """Log the mean scores; epoch: the last one."""

    @abstractmethod
    def close(self, finished: bool) -> None:
        """Let go of the log; `open` may have failed."""


class TensorBoard(MetricLogger):
    """Event files below `logs/tensorboard` in the folder of the run."""

    def __init__(self) -> None:
        self._logger: Any = None

    def open(self, facts: CellFacts, hyperparameters: Mapping[str, Any]) -> None:
        from lightning_fabric.loggers.tensorboard import TensorBoardLogger

        shutil.rmtree(facts.folder / LOGS / "tensorboard", ignore_errors=True)
        self._logger = TensorBoardLogger(facts.folder / LOGS, name="tensorboard", version="")
        self._hyperparameters = dict(hyperparameters)
        words = "\n".join(f"    {name}: {value}" for name, value in hyperparameters.items())
        self._logger.experiment.add_text("settings", words)

    def log(self, values: Mapping[str, float], axis: str, step: int) -> None:
        self._logger.log_metrics(values, step)
        self._logger.save()

    def finish(self, values: Mapping[str, float], epoch: int) -> None:
        # Its table of settings wants the scores of the run beside them, so both come together.
        self._logger.log_hyperparams(self._hyperparameters, dict(values), epoch)

    def close(self, finished: bool) -> None:
        if self._logger is not None:
            self._logger.finalize("success" if finished else "failed")
            self._logger = None


class CSV(MetricLogger):
    """`logs/csv/metrics.csv` in the folder of the run, and `hyperparameters.json` beside it."""

    def __init__(self) -> None:
        self._logger: Any = None

    def open(self, facts: CellFacts, hyperparameters: Mapping[str, Any]) -> None:
        from lightning_fabric.loggers.csv_logs import CSVLogger

        folder = facts.folder / LOGS / "csv"
        shutil.rmtree(folder, ignore_errors=True)
        self._logger = CSVLogger(facts.folder / LOGS, name="csv", version="")
        write_json(folder / "hyperparameters.json", hyperparameters, durable=False)

    def log(self, values: Mapping[str, float], axis: str, step: int) -> None:
        self._logger.log_metrics(dict(values), step)
        self._logger.save()

    def finish(self, values: Mapping[str, float], epoch: int) -> None:
        self.log(values, "epoch", epoch)

    def close(self, finished: bool) -> None:
        self._logger = None


class WeightsAndBiases(MetricLogger):
    """A run of Weights & Biases, in the project that WANDB_PROJECT names, else "usbench"."""

    def __init__(self) -> None:
        self._run: Any = None

    def open(self, facts: CellFacts, hyperparameters: Mapping[str, Any]) -> None:
        wandb = importlib.import_module("wandb")
        folder = facts.folder / LOGS
        folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "usbench",
            name=facts.title,
            group=facts.task,
            config=dict(hyperparameters),
            dir=str(folder),
        )
        self._run.define_metric("case/*", step_metric="case")
        for name in LOSSES:
            self._run.define_metric(name, step_metric="epoch")

    def log(self, values: Mapping[str, float], axis: str, step: int) -> None:
        # Its own steps must rise, and cases are counted anew, so what is counted is logged too.
        self._run.log({**values, axis: step})

    def finish(self, values: Mapping[str, float], epoch: int) -> None:
        self._run.summary.update(dict(values))

    def close(self, finished: bool) -> None:
        if self._run is not None:
            self._run.finish(exit_code=0 if finished else 1)
            self._run = None


class MLflow(MetricLogger):
    """A run of MLflow, in the experiment that MLFLOW_EXPERIMENT_NAME names, else "usbench"."""

    def __init__(self) -> None:
        self._client: Any = None

    def open(self, facts: CellFacts, hyperparameters: Mapping[str, Any]) -> None:
        client = importlib.import_module("mlflow").MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "usbench"
        there = client.get_experiment_by_name(name)
        experiment = client.create_experiment(name) if there is None else there.experiment_id
        self._run = client.create_run(experiment, run_name=facts.title).info.run_id
        self._client = client
        for key, value in hyperparameters.items():
            client.log_param(self._run, key, value)

    def log(self, values: Mapping[str, float], axis: str, step: int) -> None:
        for name, value in values.items():
            self._client.log_metric(self._run, name, value, step=step)

    def finish(self, values: Mapping[str, float], epoch: int) -> None:
        self.log(values, "epoch", epoch)

    def close(self, finished: bool) -> None:
        if self._client is not None:
            self._client.set_terminated(self._run, "FINISHED" if finished else "FAILED")
            self._client = None


_LOGGERS: dict[str, tuple[Callable[[], MetricLogger], str]] = {
    "tensorboard": (TensorBoard, "tensorboard"),
    "csv": (CSV, ""),
    "wandb": (WeightsAndBiases, "wandb"),
    "mlflow": (MLflow, "mlflow"),
}
# By name: what makes it, and the package that it needs, which is also the extra of usbench that brings it.


def make_loggers(names: Sequence[str]) -> list[MetricLogger]:
    """The trackers of these names.

    Args:
        names: of `usbench.contracts.request.LOGGERS`.

    Returns:
        A watcher for each.

    Raises:
        UsbenchError: for a name that there is not, and for one whose package is not installed.
    """
    made = []
    for name in dict.fromkeys(names):
        if name not in _LOGGERS:
            raise unknown("value of --logger", name, _LOGGERS)
        make, package = _LOGGERS[name]
        if package:
            try:
                importlib.import_module(package)
            except ImportError as error:
                raise UsbenchError(
                    f"--logger {name}: the package {package} cannot be imported ({error}); "
                    f"install it with: pip install 'usbench[{package}]'"
                ) from error
        made.append(make())
    return made


def _hyperparameters(facts: CellFacts) -> dict[str, Any]:
    """What a cell is and its settings, by flat names such as train.lr; texts, numbers and truth values."""
    found: dict[str, Any] = {
        "task": facts.task,
        "method": facts.method,
        "fusion": facts.fusion,
        "fold": facts.fold,
        "seed": facts.seed,
        "hash": facts.hash,
        "modalities": ",".join(facts.modalities),
        "classes": ",".join(facts.classes),
    }
    for section, settings in facts.settings.items():
        found |= {f"{section}.{name}": value for name, value in settings.items()}
    return {name: v if isinstance(v, bool | int | float | str) else str(v) for name, v in found.items()}


def _defined(values: Mapping[str, Any]) -> dict[str, float]:
    """The scores among some values: numbers that are neither counts nor undefined."""
    return {name: v for name, v in values.items() if isinstance(v, float) and math.isfinite(v)}
