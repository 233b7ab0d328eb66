"""The ablation tables of the Zeus paper as runs: every row is a setting.

Dai et al.: Zeus, Tables 3 to 5. Where the paper's words leave open what a row does, `note` says what is
run. Table 5 is printed under CHAOS, but its modalities and its last row are those of MSD-Brain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from usbench.methods.zeus.parts import CHOICES, SETS
from usbench.tools import unknown


@dataclass(frozen=True)
class AblationRow:
    """One printed row of an ablation table.

    Attributes:
        table: Number of the table: 3, 4 or 5.
        name: As printed.
        settings: Of `method.*`, without that prefix.
        tasks: Names of the tasks that it is printed for.
        printed: DSC and mIoU in percent, by task.
        modalities: Names of the modalities used; empty for all of the task.
        note: How what is run departs from what is printed.
    """

    table: int
    name: str
    settings: Mapping[str, Any]
    tasks: tuple[str, ...]
    printed: Mapping[str, tuple[float, float]]
    modalities: tuple[str, ...] = ()
    note: str = ""

    def lacking(self, weights: str) -> list[str]:
        """The parts that this row is about and a set of weights does not have; empty where it can be run.

        The paper's usual parts, which a row merely keeps, are stood in for by the set's own.

        Args:
            weights: A key of `SETS`.
        """
        own, usual = SETS[weights], SETS["paper"]
        return [
            str(value)
            for key, value in self.settings.items()
            if weights != "paper" and key in CHOICES and value not in (own[key], usual[key])
        ]

    def commands(self, weights: str, fusion: str, options: Sequence[str]) -> list[str]:
        """A `usbench run` for each task of the row.

        Args:
            weights: A key of `SETS`.
            fusion: Name of the fusion.
            options: Words to put at the end.
        """
        usual = SETS["paper"]
        chosen = {key: value for key, value in self.settings.items() if value != usual.get(key)}
        words = [f"--set method.{key}={value}" for key, value in {**chosen, "weights": weights}.items()]
        if self.modalities:
            words.insert(0, f"--modalities {','.join(self.modalities)}")
        return [
            " ".join([f"usbench run --method zeus --fusion {fusion} --task {task}", *words, *options])
            for task in self.tasks
        ]


_TASKS = ("chaos", "msd-prostate", "msd-brain")
_EMBEDDING = {"instruction": "embedding", "per": "case"}
_LORA = 8


def _table3() -> list[AblationRow]:
    blip2, medclip = {"vision_encoder": "blip2"}, {"vision_encoder": "medclip-vit"}
    note = "instruction=embedding, since only there a gradient reaches projection, Q-Former and LoRA"
    rows = []
    for name, settings, printed in (
        (
            "Blip2 (with QFormer)",
            {**blip2, "projection": "qformer"},
            ((65.15, 59.06), (57.56, 50.95), (66.70, 61.48)),
        ),
        (
            "Blip2 (with QFormer) + LoRA",
            {**blip2, "projection": "qformer", "lora": _LORA},
            ((61.08, 55.29), (67.19, 62.29), (63.09, 58.76)),
        ),
        (
            "MedCLIP + QFormer",
            {**medclip, "projection": "qformer"},
            ((75.59, 70.14), (68.29, 63.29), (76.43, 71.70)),
        ),
        (
            "MedCLIP + QFormer + LoRA",
            {**medclip, "projection": "qformer", "lora": _LORA},
            ((72.90, 67.90), (67.09, 65.34), (74.49, 70.91)),
        ),
        (
            "MedCLIP + MLP",
            {**medclip, "projection": "mlp"},
            ((85.80, 84.19), (71.09, 68.36), (83.67, 80.86)),
        ),
    ):
        scores = dict(zip(_TASKS, printed, strict=True))
        rows.append(AblationRow(3, name, {**settings, **_EMBEDDING}, _TASKS, scores, note=note))
    return rows


def _table4() -> list[AblationRow]:
    rows = []
    for image, projected, llm, prompt, backbone, printed in (
        ("SAM", False, "Vic-Ori", "CLIP", "ViT", (66.34, 59.81)),
        ("SAM", False, "Vic-Ori", "MedCLIP", "ViT", (66.21, 60.96)),
        ("SAM", False, "Vic-Rad", "MedCLIP", "ViT", (73.15, 75.93)),
        ("SAM", True, "Vic-Ori", "CLIP", "ViT", (63.64, 55.87)),
        ("SAM", True, "Vic-Ori", "MedCLIP", "ViT", (68.33, 61.05)),
        ("SAM", True, "Vic-Rad", "CLIP", "ViT", (78.22, 64.20)),
        ("SAM", True, "Vic-Rad", "MedCLIP", "ResNet", (81.74, 78.26)),
        ("SAM", True, "Vic-Rad", "MedCLIP", "ViT", (83.67, 80.86)),
        ("MedSAM", True, "Vic-Rad", "MedCLIP", "ViT", (85.33, 82.07)),
    ):
        settings = {
            "image_encoder": {"SAM": "sam-vit-b", "MedSAM": "medsam"}[image],
            "projection": "mlp" if projected else "none",
            "llm": {"Vic-Ori": "vicuna", "Vic-Rad": "vicuna-rad"}[llm],
            "text_encoder": prompt.lower(),
            "vision_encoder": {"ViT": "medclip-vit", "ResNet": "medclip-resnet"}[backbone],
            "instruction": "text",
        }
        name = f"{image}, LLM_proj {'yes' if projected else 'no'}, {llm}, {prompt}, {backbone}"
        note = (
            "the projection keeps its seeded start: no gradient reaches it through text"
            if projected
            else "image features go in as they are, filled up with zeros to the model's width"
        )
        rows.append(AblationRow(4, name, settings, ("chaos",), {"chaos": printed}, note=note))
    return rows


def _table5() -> list[AblationRow]:
    note = "printed under CHAOS; modalities and last row are MSD-Brain's"
    rows = []
    for modalities, printed in (
        (("t1gd", "t2"), (80.14, 78.76)),
        (("flair", "t1"), (80.73, 79.48)),
        (("t1", "t1gd", "t2"), (81.66, 79.84)),
        (("flair", "t1", "t1gd"), (82.88, 78.19)),
        (("flair", "t1", "t1gd", "t2"), (83.67, 80.86)),
    ):
        rows.append(
            AblationRow(
                5,
                " + ".join(modalities),
                {"instruction": "text"},
                ("msd-brain",),
                {"msd-brain": printed},
                modalities,
                note,
            )
        )
    return rows


def ablation(table: int) -> list[AblationRow]:
    """The rows of Table 3, 4 or 5, in printed order.

    Raises:
        UsbenchError: For another table.
    """
    tables = {3: _table3, 4: _table4, 5: _table5}
    if table not in tables:
        raise unknown("ablation table", str(table), map(str, tables))
    return tables[table]()
