"""The content of a result.json as one typed model, by which it is read, checked and documented.

Types are strict: a number as text, or yes and no for a number, is an error. Keys that came when results
without them were there may be absent; what came together is there together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import groupby
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import WithDefaultSchema

from usbench.contracts.names import DataKind
from usbench.contracts.score import Score
from usbench.errors import UsbenchError
from usbench.results.wrong import what_is_wrong
from usbench.scores.registry import all_scores

SCHEMA_VERSION = 1
OUTSIDE_VERSION = 2
"""Of a result with the block "outside", in which costs may be null; others are as they were."""

KNOWN_VERSIONS = (SCHEMA_VERSION, OUTSIDE_VERSION)

MOST = 2**63
"""No count and no cost reaches it: what adds them up, or hands them on as 64 bits, may rely on that."""

Count = Annotated[int, Field(ge=0, lt=MOST)]
Small = Annotated[int, Field(ge=0, lt=2**31)]
"""A number of folds, cases, epochs or devices."""

Cost = Annotated[float, Field(ge=0, lt=MOST)]
Names = Annotated[list[str], Field(min_length=1)]


class Block(BaseModel):
    """A mapping of a result.json that has no keys but those of its fields."""

    # Deferred: a block is built as a part of the whole that is asked for, and not once more for itself.
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True, defer_build=True)


def _later(**words: Any) -> Any:
    """A key that results of an older usbench lack; it is None in Python then, and never null in the file."""
    return Field(default=None, **words)


class CellBlock(Block):
    """Which cell of the benchmark it is."""

    task: str = Field(description="name of the task")
    method: str = Field(description="name of the method")
    fusion: str = Field(description="early, hybrid, late, or one that a plugin brings")
    fold: Small = Field(description="test fold, from 0")
    seed: int = Field(ge=0, lt=2**31, description="seed of every random draw")
    hash: str = Field(description="digest of everything that changes the outcome; names the folder")


class WordsBlock(Block):
    """Words for prompts and pictures."""

    modalities: list[str] = Field(description="a word or more for each modality, in their order")
    classes: list[str] = Field(description="a word or more for each class, in their order")


class TaskBlock(Block):
    """The task."""

    name: str = Field(description="name of the task")
    title: str = Field(description="name for people")
    modalities: Names = Field(description="the modalities used, in the task's order")
    classes: Names = Field(
        description="the foreground classes, in the order of mask values from 1, or of bits of the values"
    )
    regions: dict[str, Annotated[float, Field(gt=0, lt=1)]] = _later(
        description="where the classes are regions that may overlap: class -> threshold of its sigmoid; "
        "absent where they exclude each other"
    )
    merge_labels: str | None = Field(
        description="name of the class that all labels were merged into, or null"
    )
    words: WordsBlock = _later(
        description="words for prompts and pictures, of the modalities and of the classes"
    )
    nsd_tolerance_mm: Cost = _later(description="tolerance of the normalised surface distance, mm")
    origin: str = _later(description="built in, folder, package or file")
    version: str = _later(description="version of the package that the task comes from")
    definition: str = _later(
        description="of a task that a file describes: digest of its classes' values and thresholds, and of "
        "the grid; absent for others"
    )
    patterns: str = _later(
        description="of a task that a file describes: digest of which file goes where; absent for others"
    )


class DataBlock(Block):
    """The data."""

    kind: DataKind = Field(
        description="phantom, sample (less than the full data set, or a user's own) or real (all of it)"
    )
    fingerprint: str = Field(description="SHA-256 over the content of all cases")
    cases: Small = Field(description="number of cases in the data set")
    limit: Annotated[int, Field(ge=1, lt=2**31)] | None = Field(
        description="--limit, or null; a limited run is never ranked"
    )
    agreement: dict[str, dict[str, Annotated[float, Field(ge=0, le=1)]]] = _later(
        description="test case -> class -> Dice between two annotations of it, where a case has two"
    )


class SplitBlock(Block):
    """Who was trained on and who was scored."""

    folds: int = Field(ge=1, lt=2**31, description="number of folds")
    rule: Literal["fixed", "derived"] = Field(
        description="fixed (stored with usbench) or derived (from a hash of the case ids)"
    )
    digest: str = Field(description="digest of the folds")
    train: list[str] = Field(description="case ids trained on")
    test: Names = Field(description="case ids scored")
    share: float = _later(
        gt=0, lt=1, description="--train-share; absent where all training patients are trained on"
    )
    train_cases: int = _later(
        ge=1, lt=2**31, description="--train-cases; absent where all training patients are trained on"
    )
    of: int = _later(
        ge=1, lt=2**31, description="number of training patients of the fold; absent where all are trained on"
    )


class ConfigBlock(Block):
    """Every setting, by name."""

    data: dict[str, Any] = Field(description="settings of the data")
    train: dict[str, Any] = Field(description="settings of training")
    fusion: dict[str, Any] = Field(description="settings of the fusion")
    method: dict[str, Any] = Field(description="settings of the method")
    volume: dict[str, Any] = _later(
        description="what a network of volumes sees; absent for networks of slices"
    )


class MethodBlock(Block):
    """The method."""

    name: str = Field(description="name of the method")
    origin: str = Field(description="built in, package or file")
    source_hash: str = Field(
        description="SHA-256 of the code of the method: its file and those of its package that it uses"
    )
    version: str = Field(description="version of the package that the method comes from")
    paper: str = Field(description="reference of the method")
    weights: str = Field(description="what the network started from")
    licence: str = _later(description="licence of those weights, or none")
    pretraining_overlap: str = Field(description="what is known of test cases in the pretraining data")


class FusionBlock(Block):
    """The fusion."""

    name: str = Field(description="name of the fusion")
    origin: str = Field(description="built in, package or file")
    version: str = Field(description="version of the package that the fusion comes from")
    source_hash: str = Field(description="SHA-256 of the code of a fusion that a plugin brings, else empty")
    paper: str = Field(description="reference of the fusion")
    label: str = _later(description="what tables and pages call it")
    colour: str = _later(description="what it is drawn in, or empty")


class PaperStyle(Block):
    """Slice-wise numbers; NaN is null."""

    paper_dsc: float | None = Field(description="DSC, a slice at a time, as the Zeus paper prints it")
    paper_miou: float | None = Field(description="mean IoU with the background, a slice at a time")


_NULL = "; null where an outside program does not say"


class CostBlock(Block):
    """What the cell cost."""

    parameters: Count | None = Field(description=f"number of parameters{_NULL}")
    trainable: Count | None = Field(description=f"number of parameters that are trained{_NULL}")
    frozen_elsewhere: Count = _later(
        description="number of parameters of frozen parts that made features for the network"
    )
    gflops_per_slice: Cost | None = Field(
        description="forward GFLOPs of one slice, 2 x multiply-adds, or null"
    )
    ms_per_slice: Cost | None = Field(
        description="forward milliseconds of one slice while predicting; null for outside masks"
    )
    peak_memory_mb: Cost | None = Field(
        description=f"peak memory: of the GPU, or of the whole process on a CPU{_NULL}"
    )
    memory_since: Literal["cell", "process"] = _later(
        description="what that is the peak since: start of training (cell), or of the process (process)",
    )
    train_seconds: Cost | None = Field(description=f"seconds of training{_NULL}")
    seconds: Cost = _later(description="seconds of training, predicting and scoring")
    epochs: Small = Field(description="epochs trained")
    device: str = Field(description="name of the device")
    devices: int = Field(ge=1, lt=2**31, description="number of devices")
    precision: str = Field(description="numerical precision")


class OutsideBlock(Block):
    """What another program made and usbench only scored."""

    kind: Literal["pipeline", "masks"] = Field(
        description="pipeline: usbench had a program train and predict on this fold; masks: somebody's"
    )
    label: str = Field(min_length=1, description="what tables and pages call it")
    missing: list[str] = Field(description="test cases without a mask, scored as an empty one")
    claims: list[str] = Field(description="what its author says and nobody measured, a line each")
    predict_seconds: Cost | None = Field(description="seconds of predicting the test cases, or null")
    versions: dict[str, str] = Field(description="version of each package that the program ran with")


class Provenance(Block):
    """When, where and with what it was computed; other versions of usbench may say other things too."""

    model_config = ConfigDict(extra="allow")

    commit: str | None = _later(description="commit of usbench, or null")
    finished: str = _later(description="day and time, UTC")
    python: str = _later(description="version of Python")
    platform: str = _later(description="operating system and processor")
    packages: dict[str, str] = _later(description="version of each package that matters")
    threads: Small = _later(description="threads of torch")
    cores: Small | None = _later(description="processor cores, or null")


def _scores_block(
    scores: Sequence[Score], name: str, sentence: str, of_class: bool, **more: Any
) -> type[Block]:
    """A block with a number for each score, null where it is undefined."""
    fields: dict[str, Any] = {}
    for score in scores:
        unit = f", {score.unit}" if score.unit else ""
        field = _later if score.added else Field
        key = score.name if of_class else score.mean_name
        fields[key] = float | None, field(description=f"{score.sentence}{unit}")
    return create_model(name, __base__=Block, __doc__=sentence, **fields, **more)


_MEANS = "means over the classes of a case, then over cases; what is undefined is left out"


class ResultFile(Block):
    """The content of a result.json: one cell of the benchmark, what it was computed from, and its scores.

    The keys of `scores` are those of the scores that there are: `result_model` gives the model with them.
    """

    model_config = ConfigDict(title="result.json")
    together: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """Keys that came when results without them were there, each line together."""

    schema_version: int = Field(
        alias="schema",
        ge=SCHEMA_VERSION,
        le=OUTSIDE_VERSION,
        description=f"version of this layout: {OUTSIDE_VERSION} with outside, else {SCHEMA_VERSION}",
    )
    usbench: str = Field(description="version of usbench")
    cell: CellBlock = Field(description="which cell of the benchmark it is")
    task: TaskBlock = Field(description="the task")
    data: DataBlock = Field(description="the data")
    split: SplitBlock = Field(description="who was trained on and who was scored")
    preset: str = Field(description="the preset that the configuration started from")
    config: ConfigBlock = Field(description="the effective configuration: data, train, fusion, method")
    method: MethodBlock = Field(description="the method")
    fusion: FusionBlock = _later(description="the fusion")
    remarks: list[str] = _later(description="what of frozen features fell back or was cut, a line each")
    scores: Block = Field(description=_MEANS)
    paper_style: PaperStyle = Field(
        description="slice-wise numbers as the Zeus paper prints them; never ranked"
    )
    cost: CostBlock = Field(description="what the cell cost")
    outside: OutsideBlock = _later(
        description="of masks that another program made: which and how; absent for others"
    )
    provenance: Provenance = Field(description="when, where and with what it was computed")
    protocol: str = Field(description="digest of all that two rows must share to be compared")
    protocol_version: int = _later(
        ge=3,
        lt=2**31,
        description="version of the protocol, by which digests are taken; 2 where it is absent",
    )
    files: dict[str, str] = Field(
        description="SHA-256 of each file beside this one, but for logs and pages, which come later"
    )
    digest: str = Field(description="digest of all the above")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.cell.fold >= self.split.folds:
            raise PydanticCustomError(
                "fold",
                "cell.fold is {fold} of {folds} folds",
                {"fold": self.cell.fold, "folds": self.split.folds},
            )
        self._outside_fits()
        asked = {"share", "train_cases", "of"} & self.split.model_fields_set
        if asked and asked not in ({"share", "of"}, {"train_cases", "of"}):
            raise PydanticCustomError("few", "split has not one of share and train_cases, and of")
        regions = self.task.regions
        if regions is not None and set(regions) != set(self.task.classes):
            raise PydanticCustomError("regions", "task.regions has other names than task.classes")
        words = self.task.words
        if words and (len(words.modalities), len(words.classes)) != (
            len(self.task.modalities),
            len(self.task.classes),
        ):
            raise PydanticCustomError("words", "task.words has not a word for each modality and class")
        blocks: dict[str, Any] = {"": self, "task": self.task, "scores": self.scores, "fusion": self.fusion}
        # A block is None where a result lacks it.
        there = {name: block.model_fields_set if block else () for name, block in blocks.items()}
        for keys in self.together:
            found = [name in there[block] for block, _, name in (key.rpartition(".") for key in keys)]
            if any(found) and not all(found):
                raise PydanticCustomError("together", "lacks '{key}'", {"key": keys[found.index(False)]})
        return self

    def _outside_fits(self) -> None:
        """Version, unknown costs and absent settings are those of a result with the block outside, or not."""
        outside = self.outside is not None
        if (self.schema_version == OUTSIDE_VERSION) != outside:
            raise PydanticCustomError("outside", "has outside, or lacks it, against its schema")
        known = ("parameters", "trainable", "ms_per_slice", "peak_memory_mb", "train_seconds")
        unknown = [name for name in known if getattr(self.cost, name) is None]
        if unknown and not outside:
            raise PydanticCustomError("outside", "'cost.{key}' is null without outside", {"key": unknown[0]})
        if outside and (self.config.data or self.config.train):
            raise PydanticCustomError("outside", "has settings of data or training, which are not outside's")
        if outside and (odd := sorted(set(self.outside.missing) - set(self.split.test))):
            raise PydanticCustomError("outside", "outside.missing has '{key}', no test case", {"key": odd[0]})


def result_model() -> type[ResultFile]:
    """The model of a result.json with a key for each score that there is."""
    return _model_of(all_scores())


@cache
def _model_of(scores: tuple[Score, ...]) -> type[ResultFile]:
    of_class = _scores_block(
        scores,
        "ClassScores",
        "Means of one class over cases.",
        True,
        cases=(Count, Field(description="number of cases in which it is scored")),
    )
    of_all = _scores_block(
        scores,
        "ScoresBlock",
        "Means over the classes of a case, then over cases.",
        False,
        cases=(Count, Field(description="number of cases with at least one scored class")),
        unscored=(Count, Field(description="number of pairs of case and class without a DSC")),
        classes=(dict[str, of_class], Field(description="the means of each class over cases")),  # type: ignore[valid-type]
    )
    model = create_model(
        "ResultFile",
        __base__=ResultFile,
        __doc__="One cell of the benchmark, what it was computed from, and its scores.",
        scores=(of_all, Field(description=_MEANS)),
    )
    added = sorted((score for score in scores if score.added), key=lambda score: score.added)
    model.together = (
        ("task.words", "task.nsd_tolerance_mm", "task.origin", "task.version"),
        ("protocol_version", "fusion.label", "fusion.colour"),
        *(tuple(f"scores.{s.mean_name}" for s in some) for _, some in groupby(added, lambda s: s.added)),
    )
    return model


class _Documented(GenerateJsonSchema):
    """The JSON schema without the defaults of keys that may be absent: they are values in Python alone."""

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def json_schema() -> dict[str, Any]:
    """The JSON schema of a result.json (draft 2020-12), as `docs/result.schema.json` holds it."""
    found = result_model().model_json_schema(schema_generator=_Documented)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


def typed(data: Mapping[str, Any], where: str, remedy: str) -> ResultFile:
    """The content of a result.json, held against the model.

    Args:
        data: What JSON gives.
        where: The file, for the error.
        remedy: What to do about it, for the error.

    Returns:
        The same values with their types.

    Raises:
        UsbenchError: For the first key that is absent, unknown, or has a value that it cannot have.
    """
    try:
        return result_model().model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UsbenchError(f"{where}: {what_is_wrong(first)}; {remedy}") from error
