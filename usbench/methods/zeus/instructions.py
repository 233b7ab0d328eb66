"""Instructions: what the language model says of an image, and its embedding, for every slice.

Equations 2 to 4 of the Zeus paper (Dai et al.): the vision encoder's features of a slice go through the
projection into the language model's space, the model is asked for advice on one modality and one
structure, and its answer is encoded as a single sentence. A text is made once: greedily, kept in a file
by the content of its question, and shared by folds, seeds, fusions and runs.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from usbench import UsbenchError
from usbench.methods.zeus.instruction_encoder import TextEncoder, load_text_encoder
from usbench.methods.zeus.language_model import SAMPLING, LanguageModel, load_language_model
from usbench.methods.zeus.parts import VOCABULARY, WIDTHS, Parts
from usbench.methods.zeus.projection import LinearProjection, QFormerProjection, make_projection
from usbench.methods.zeus.prompts import clean_answer, prompt_parts, question, targets
from usbench.methods.zeus.vision import VisionTower
from usbench.tools import cache_dir, digest_of, os_errors, say, weight_digest, weight_path

if TYPE_CHECKING:
    from usbench import Task

PROJECTION_SEED = 0
_KEPT_AFTER = 64  # texts that an interruption may cost


class TextStore:
    """Texts by the digest of what they answer, in one file that several processes may use.

    Args:
        path: The file (default: instructions.sqlite in the user's cache folder).

    Raises:
        UsbenchError: Where its folder cannot be made.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or cache_dir() / "instructions.sqlite"
        with os_errors(self.path, "write"):
            self.path.parent.mkdir(parents=True, exist_ok=True)

    def _run(self, act: Callable[[sqlite3.Connection], Any]) -> Any:
        try:
            with closing(sqlite3.connect(self.path, timeout=60)) as file, file:
                file.execute("CREATE TABLE IF NOT EXISTS texts (key TEXT PRIMARY KEY, text TEXT NOT NULL)")
                return act(file)
        except sqlite3.Error as error:
            raise UsbenchError(
                f"{self.path}: cannot use the store of instructions ({error}); "
                "free some space, or remove the file: its texts are then made again"
            ) from error

    def get(self, keys: Sequence[str]) -> dict[str, str]:
        """The stored texts among `keys`, by key.

        Raises:
            UsbenchError: Where the file cannot be used.
        """

        def read(file: sqlite3.Connection) -> dict[str, str]:
            found = {}
            for key in keys:
                row = file.execute("SELECT text FROM texts WHERE key = ?", (key,)).fetchone()
                if row is not None:
                    found[key] = str(row[0])
            return found

        texts: dict[str, str] = self._run(read)
        return texts

    def put(self, texts: dict[str, str]) -> None:
        """Keep texts by key, in place of those that were there.

        Raises:
            UsbenchError: Where the file cannot be written.
        """
        self._run(lambda file: file.executemany("INSERT OR REPLACE INTO texts VALUES (?, ?)", texts.items()))


class Instructions:
    """The rows of feature `instruction`, [N, M, K, width], for the texts of one task.

    Models are loaded when a text or an embedding is really missing, one after the other, and let go by
    `free`: the language model is not in memory while the decoder trains.

    Args:
        task: Its modalities and classes are what the language model is asked about.
        parts: Which models to use, and how.
        device: Where the models run.
        store: Where texts are kept, by default the file in the user's cache folder.
    """

    def __init__(
        self, task: Task, parts: Parts, device: torch.device, store: TextStore | None = None
    ) -> None:
        self.task, self.parts, self.device = task, parts, device
        self.store = store or TextStore()
        self.targets = targets([one.words for one in task.classes], parts.about)
        self.vision = VisionTower(parts, device)
        self._llm: LanguageModel | None = None
        self._encoder: TextEncoder | None = None
        self._encoded: dict[str, tuple[Tensor, bool]] = {}

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(modality, class), class fastest."""
        return [(m, k) for m in range(len(self.task.modalities)) for k in range(len(self.task.classes))]

    def words(self, modality: int, structure: int) -> tuple[str, str]:
        """The words for a structure and a modality in a prompt, in this order.

        Args:
            modality: Its index among those of the task.
            structure: The index of the class, from 0.
        """
        return self.targets[structure], self.task.modalities[modality].words

    def texts(self, images: Tensor | None) -> list[list[tuple[str, bool]]]:
        """The text for every unit and pair; a missing one is made and stored.

        Units are the slices, the case or the modality, by `parts.per`; there is one unit in the last two.

        Args:
            images: [N, M, S, S] of one case, or None where the unit is the modality.

        Returns:
            For every unit, for every pair as in `pairs`: the text, and whether the question stands for an
            empty answer.

        Raises:
            UsbenchError: For weights that are absent or damaged, and where the store cannot be used.
        """
        if self.parts.instruction == "fixed":
            return [[(question(*self.words(m, k)), False) for m, k in self.pairs]]
        units = [images] if self.parts.per != "slice" or images is None else list(images.split(1))
        wanted = [(unit, m, k) for unit in units for m, k in self.pairs]
        keys = [self._key(unit, m, k) for unit, m, k in wanted]
        known = self.store.get(list(dict.fromkeys(keys)))
        missing = [i for i, key in enumerate(keys) if key not in known]
        fresh = list({keys[i]: i for i in missing}.values())
        for start in range(0, len(fresh), _KEPT_AFTER):
            some = fresh[start : start + _KEPT_AFTER]
            answers = self._generate([wanted[i] for i in some])
            made = {keys[i]: answer for i, answer in zip(some, answers, strict=True)}
            self.store.put(made)
            known |= made
        cleaned = []
        for (_, m, k), key in zip(wanted, keys, strict=True):
            text, empty = clean_answer(known[key], template=self.parts.template)
            cleaned.append((question(*self.words(m, k)) if empty else text, empty))
        count = len(self.pairs)
        return [cleaned[i : i + count] for i in range(0, len(cleaned), count)]

    def _key(self, unit: Tensor | None, modality: int, structure: int) -> str:
        image = None
        if unit is not None and self.parts.shown:
            content = unit[:, modality].half().cpu().contiguous().numpy().tobytes()
            image = [
                hashlib.sha256(content).hexdigest(),
                self.vision.key,
                self.parts.projection,
                PROJECTION_SEED,
            ]
        llm = [self.parts.llm, weight_digest(self.parts.llm), self.parts.llm_precision]
        if image is not None and self.parts.projection == "linear":
            image.append(weight_digest("xraygpt-projection"))
        # A longer list only where there is more to say, so that older texts are found.
        drawn = [SAMPLING] if self.parts.template == "xraygpt" else []
        return digest_of([llm, self._frame(modality, structure), self.parts.max_tokens, image, *drawn])

    def _frame(self, modality: int, structure: int) -> tuple[str, str]:
        """What the language model reads before the tokens of the image, and after them."""
        return prompt_parts(*self.words(modality, structure), self.parts.template, self.parts.shown)

    def _generate(self, wanted: Sequence[tuple[Tensor | None, int, int]]) -> list[str]:
        llm = self.language_model()
        prompts = []
        seen: dict[tuple[int, int], Tensor] = {}  # An image is looked at once for all classes.
        for unit, modality, structure in wanted:
            tokens = None
            if unit is not None and self.parts.shown:
                image = (id(unit), modality)
                if image not in seen:
                    seen[image] = self._image_tokens(unit[:, modality])
                tokens = seen[image]
            before, after = self._frame(modality, structure)
            prompts.append((before, tokens, after))
        if self.parts.template == "xraygpt":
            seeds = [int(hashlib.sha256(self._key(*one).encode()).hexdigest()[:8], 16) for one in wanted]
            return llm.sample(prompts, self.parts.max_tokens, seeds)
        return llm.generate(prompts, self.parts.max_tokens)

    def _image_tokens(self, images: Tensor) -> Tensor:
        """Slices [n, S, S] of one unit -> image tokens [T, width of the language model]: their mean."""
        features = self.vision(images.to(self.device)).mean(dim=0, keepdim=True)
        return projected(self.parts, features, self.device)[0]

    def language_model(self) -> LanguageModel:
        """The language model, loaded on first use.

        Raises:
            UsbenchError: For weights that are absent, damaged or of another width.
        """
        if self._llm is None:
            say(f"loading the language model {self.parts.llm}")
            self._llm = load_language_model(
                weight_path(self.parts.llm), self.parts.llm, self.parts.llm_precision, self.device
            )
            require_width(self.parts.llm, self._llm.width)
        return self._llm

    def encode(self, texts: Sequence[str]) -> list[tuple[Tensor, bool]]:
        """Embed texts; those seen before are not computed again.

        Returns:
            For each text its embedding, float32 [width] on the CPU, and whether the encoder had to cut the
            text.

        Raises:
            UsbenchError: For weights that are absent, damaged or of another width.
        """
        missing = [text for text in dict.fromkeys(texts) if text not in self._encoded]
        if missing:
            if self._encoder is None:
                self._encoder = text_encoder(self.parts, self.device)
            cut = self._encoder.truncated(missing)
            rows = self._encoder(missing)
            for text, row, was_cut in zip(missing, rows, cut, strict=True):
                self._encoded[text] = (row.detach().cpu().float(), was_cut)
        return [self._encoded[text] for text in texts]

    def compute(self, images: Tensor) -> tuple[Tensor, list[dict[str, Any]]]:
        """The rows of a case, and its texts.

        Args:
            images: The slices [N, M, S, S].

        Returns:
            Rows [N, M, K, width], and for each text an entry with "slice" (None where there is one unit),
            "modality", "class", "text", "fallback" and "truncated".

        Raises:
            UsbenchError: As `texts` and `encode`.
        """
        units = self.texts(None if self.parts.per == "modality" else images)
        rows, table = [], []
        for number, unit in enumerate(units):
            encoded = self.encode([text for text, _ in unit])
            rows.append(torch.stack([row for row, _ in encoded]))
            for (m, k), (text, empty), (_, cut) in zip(self.pairs, unit, encoded, strict=True):
                entry = {
                    "slice": number if len(units) > 1 else None,
                    "modality": self.task.modalities[m].name,
                    "class": self.task.classes[k].name,
                    "text": text,
                    "fallback": empty,
                    "truncated": cut,
                }
                table.append(entry)
        stacked = torch.stack(rows).unflatten(1, (len(self.task.modalities), len(self.task.classes)))
        return stacked.expand(len(images), *stacked.shape[1:]), table

    def free(self) -> None:
        """Let go of every model."""
        if self._llm is not None:
            self._llm.free()
        self._llm = self._encoder = None
        self.vision.free()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def remarks(notes: Sequence[list[dict[str, Any]]]) -> list[str]:
    """What of the texts of all cases fell back to the question or was cut, a line each.

    Args:
        notes: For each case its texts, as `Instructions.compute` gives them.
    """
    texts = [entry for table in notes for entry in table]
    lines = []
    for flag, words in (
        ("fallback", "answers were empty; the question stands in their place"),
        ("truncated", "texts are longer than the text encoder takes and were cut"),
    ):
        count = sum(entry[flag] for entry in texts)
        if count:
            lines.append(f"{count} of {len(texts)} {words}")
    return lines


def text_encoder(parts: Parts, device: torch.device) -> TextEncoder:
    """The frozen text tower of the parts.

    Raises:
        UsbenchError: For weights that are absent, damaged or of another width.
    """
    vocabulary = weight_path(VOCABULARY) if parts.text_encoder == "medclip" else None
    path, unit = weight_path(parts.text_weights), parts.medclip_norm == "unit"
    encoder = load_text_encoder(parts.text_encoder, path, vocabulary, device, unit)
    require_width(parts.text_encoder, encoder.width)
    return encoder


def require_width(part: str, width: int) -> None:
    """Check that a loaded part is as wide as the networks around it were built for.

    Args:
        part: A key of `WIDTHS`.
        width: That of the part as loaded.

    Raises:
        UsbenchError: Where it has another width.
    """
    if width != WIDTHS[part]:
        raise UsbenchError(
            f"part '{part}': the weights found give width {width}, not {WIDTHS[part]}; get the published ones"
        )


def start_projection(parts: Parts, seed: int, load: bool) -> torch.nn.Module:
    """The projection of the parts as it is before training.

    Args:
        parts: Which projection, and from which width to which.
        seed: Of its random start.
        load: Whether the linear layer brings XrayGPT's trained weights, and the Q-Former behind BLIP-2's
            image tower its own. Behind another tower a Q-Former starts from nothing: BLIP-2's reads features
            of another width.

    Raises:
        UsbenchError: For a kind that is not in `projection.KINDS`, and for weights that are absent or do not
            fit.
    """
    made = make_projection(parts.projection, WIDTHS[parts.vision_encoder], WIDTHS[parts.llm], seed)
    if load and isinstance(made, QFormerProjection) and parts.vision_encoder == "blip2":
        made.load_qformer(weight_path("blip2-qformer"))
    if load and isinstance(made, LinearProjection):
        made.load_xraygpt(weight_path("xraygpt-projection"))
    return made


_projections: dict[tuple[Any, ...], torch.nn.Module] = {}


def projected(parts: Parts, features: Tensor, device: torch.device) -> Tensor:
    """Bring image features into the space of the language model, without gradients.

    The projection starts from a fixed seed: no gradient reaches it through a text, so all runs share it.

    Args:
        parts: Which projection, and from which width to which.
        features: [N, T, in], on `device`.
        device: Where the projection runs.

    Returns:
        Tokens [N, T', width of the language model]; T' is T but for a Q-Former.
    """
    width = WIDTHS[parts.llm]
    if parts.projection == "none":
        return fitted(features, width)
    key = (parts.projection, parts.vision_encoder, width, str(device))
    if key not in _projections:
        made = start_projection(parts, PROJECTION_SEED, load=True)
        _projections[key] = made.to(device).eval().requires_grad_(False)
    with torch.inference_mode():
        tokens: Tensor = _projections[key](features)
    return tokens


def fitted(features: Tensor, width: int) -> Tensor:
    """Features [..., C] brought to a width without a layer: cut, or filled up with zeros."""
    missing = width - features.shape[-1]
    return torch.nn.functional.pad(features, (0, missing)) if missing > 0 else features[..., :width]
