"""What `usbench run` prints when it is done."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from usbench.contracts.few import few_of
from usbench.results.words import task_words
from usbench.runtime.console import count
from usbench.scores.registry import all_scores
from usbench.scores.text import number

if TYPE_CHECKING:
    from usbench.contracts.score import Score
    from usbench.results.result import Result
    from usbench.runs.plan import Plan


def print_results(results: Sequence[Result]) -> None:
    """Print the table of a run, a row a class and fold, and where the files are, on standard output."""
    from rich.table import Table
    from rich.text import Text

    from usbench.runtime.safe_console import SafeConsole

    console = SafeConsole(highlight=False)
    first = results[0].data
    cell = first["cell"]
    title = f"{task_words(first)}: {cell['method']}, {cell['fusion']} fusion, preset {first['preset']}"
    # As text: a name in square brackets is no markup.
    table = Table(title=Text(title), title_justify="left", title_style="bold")
    # With parts of the training patients a fold has several rows, and says which is which.
    parted = any(few_of(result.data["split"]) for result in results)
    for column in ("fold", *(["trained on"] if parted else []), "class", "cases"):
        table.add_column(column, no_wrap=True)
    shown = [score for score in all_scores() if score.in_summary]
    for score in shown:
        table.add_column(score.heading, justify="right", no_wrap=True)
    for result in results:
        fold = [str(result.data["cell"]["fold"]), *([_trained_on(result.data["split"])] if parted else [])]
        classes: dict[str, Any] = result.scores["classes"]
        for class_name, scores in classes.items():
            cells = _cells(scores, shown, lambda score: score.name)
            table.add_row(*fold, Text(class_name), str(scores["cases"]), *cells)
        if len(classes) > 1:
            mean = _cells(result.scores, shown, lambda score: score.mean_name)
            cases = str(result.scores["cases"])
            table.add_row(*fold, "mean", cases, *mean, style="bold", end_section=True)
    console.print(table)
    console.print(_cost_line(first), markup=False, soft_wrap=True)
    for claim in first.get("outside", {}).get("claims", []):
        console.print(f"only claimed: {claim}", markup=False, soft_wrap=True)
    for remark in first.get("remarks", []):
        console.print(f"note: {remark}", markup=False, soft_wrap=True)
    if agreement := mean_agreement(results):
        words = ", ".join(f"{name} {value:.3f}" for name, value in agreement.items())
        console.print(
            f"two annotations of each patient, one per scan, agree with a Dice of: {words}; no method can be "
            "expected to reach more",
            markup=False,
            soft_wrap=True,
        )
    for few in dict.fromkeys(few_of(result.data["split"]) for result in results):
        alike = [result for result in results if few_of(result.data["split"]) == few]
        total = pooled_dsc(alike)
        if len(alike) > 1 and total is not None:
            which = f", trained on {few or 'all training patients'}" if parted else ""
            patients = f"{count(total[1], 'patient')} of {count(alike, 'fold')}"
            console.print(f"mean DSC over {patients}{which}: {total[0]:.3f}", style="bold")
    for result in results:
        path = result.path
        console.print(f"fold {result.data['cell']['fold']}: {path}/result.json", markup=False, soft_wrap=True)
        drawn = [path / "figures" / name for name in ("cases.png", "history.png")]
        pictures = ", ".join(str(file) for file in drawn if file.is_file())
        console.print(f"  pictures: {pictures}", markup=False, soft_wrap=True)
        console.print(f"  masks: {path}/predictions/", markup=False, soft_wrap=True)


def _cost_line(data: Mapping[str, Any]) -> str:
    """What a run cost; of an outside program what it said of itself."""
    cost = data["cost"]
    end = f"on {cost['device']}, weights: {data['method']['weights']}"
    if "outside" not in data:
        return (
            f"parameters {cost['parameters']:,} (trainable {cost['trainable']:,}), "
            f"{number(cost['gflops_per_slice'], 1)} GFLOPs and {cost['ms_per_slice']:.1f} ms a slice, "
            f"{cost['train_seconds']:.0f} s of training for {cost['epochs']} epochs, {end}"
        )
    known = [data["outside"]["label"]]
    if cost["parameters"] is not None:
        known.append(f"parameters {cost['parameters']:,}")
    if cost["train_seconds"] is not None:
        known.append(f"{cost['train_seconds']:.0f} s of training")
    if cost["epochs"]:
        known.append(f"{cost['epochs']} epochs")
    if cost["peak_memory_mb"] is not None:
        known.append(f"{cost['peak_memory_mb']:,.0f} MB at its peak")
    return ", ".join([*known, end])


def _trained_on(split: Mapping[str, Any]) -> str:
    """How many patients a result was trained on: "3 of 10", or "10" for all that its fold has."""
    return f"{len(split['train'])} of {split['of']}" if "of" in split else str(len(split["train"]))


def mean_agreement(results: Sequence[Result]) -> dict[str, float]:
    """Mean Dice between two annotations of the test patients, by class; empty where there is one each."""
    values: dict[str, list[float]] = {}
    for result in results:
        for agreement in result.data["data"].get("agreement", {}).values():
            for name, value in agreement.items():
                values.setdefault(name, []).append(value)
    return {name: sum(found) / len(found) for name, found in values.items()}


def pooled_dsc(results: Sequence[Result]) -> tuple[float, int] | None:
    """(mean DSC, number of patients) over the patients of all folds; classes are averaged first."""
    per_case: dict[str, list[float]] = {}
    for result in results:
        for row in result.rows:
            if not math.isnan(row["dsc"]):
                per_case.setdefault(row["case"], []).append(row["dsc"])
    means = [sum(values) / len(values) for values in per_case.values()]
    return (sum(means) / len(means), len(means)) if means else None


def _cells(values: Mapping[str, Any], scores: Iterable[Score], name: Callable[[Score], str]) -> list[str]:
    """The values of `scores` as text; a result may lack those that were added after it."""
    return [number(values.get(name(score)), score.digits) for score in scores]


def print_plan(plan: Plan) -> None:
    """Print what `--dry-run` promises: the data, the network, the folds and the configuration."""
    import yaml

    from usbench.datasets.readers.layouts import open_reader
    from usbench.datasets.splits import make_split, subset_of
    from usbench.fusions.build import build_model
    from usbench.methods.cost import count_parameters
    from usbench.runs.consent import outlook_lines
    from usbench.runs.disk import cells_to_do, dry_run_line, network_bytes, network_line, pipeline_line
    from usbench.runs.plan import chosen_parts
    from usbench.runtime.safe_console import SafeConsole

    case_ids = open_reader(plan.task, plan.task_data.root).case_ids()[: plan.request.limit]
    split = make_split(plan.task, case_ids)
    seed = plan.request.seed
    folds = []
    parts = chosen_parts(plan, split)
    for k, few in parts:
        patients = split.train(k)
        chosen = patients if few is None else subset_of(patients, few.of(len(patients)), seed)
        some = "" if few is None else f" of {len(patients)}"
        which = "" if few is None else f" ({', '.join(chosen)})"
        folds.append(f"fold {k}: train {len(chosen)}{some} cases{which}, test {', '.join(split.test(k))}")
    method, end, kept = f"method: {plan.method.name} ({plan.found.origin}), {plan.fusion} fusion", [], []
    config = plan.config.as_dict()
    if plan.method.pipeline is not None:
        method += ", an outside pipeline: what it trains is known after its run"
        end = [pipeline_line(plan, case_ids)]
        config = {"method": config["method"]}
    else:
        network = build_model(plan.method, plan.task, plan.found_fusion.fusion, plan.config)
        parameters = count_parameters(network)
        method += f", {parameters.all:,} parameters ({parameters.trainable:,} trainable)"
        if plan.request.keep_weights:
            kept = [network_bytes(network)] * cells_to_do(plan, [k for k, _ in parts])
    data = plan.task_data
    lines = [
        f"task: {plan.task.name} ({data.words(plan.task)}), {count(case_ids, 'case')} in {data.root}",
        f"modalities: {', '.join(plan.task.modality_names)}",
        f"{'regions' if plan.task.regions else 'classes'}: {', '.join(plan.task.class_names)}",
        method,
        f"device: {plan.device}, preset: {plan.config.preset}",
        *folds,
        f"command: {plan.request}",
        *outlook_lines([plan]),
        *([network_line(kept, plan.request.runs_dir)] if kept else []),
        *end,
        yaml.safe_dump(config, sort_keys=False).rstrip(),
        dry_run_line([plan]),
    ]
    console = SafeConsole(highlight=False)
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
