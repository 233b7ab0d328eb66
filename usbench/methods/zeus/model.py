"""Zeus: a frozen language model advises SAM's mask decoder on every modality.

Dai, Ye, Liu, Tang, Zhan: Zeus: Zero-shot LLM Instruction for Union Segmentation in Multimodal Medical
Imaging. A frozen image encoder (SAM's) gives the embedding of every slice and modality. A frozen
language model is shown the slice through a vision encoder and a projection, and is asked for advice on
segmenting one structure in one modality; its answer, encoded as one sentence and brought to width 256 by
an aligner, is the only prompt of SAM's mask decoder. Hybrid fusion has one decoder, which sees the mean of
the modalities' embeddings and the instructions of all of them; late fusion has a decoder and an aligner for
each modality and merges their masks. Early fusion does not apply: the frozen encoder takes one scan.

Decoder, projection and aligner are what the paper trains. With text between them no gradient reaches the
projection, so that it keeps its start there; docs/protocol.md says what follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from usbench import Method, UsbenchError
from usbench.methods.zeus.aligner import START, Aligner, standardised, told_apart
from usbench.methods.zeus.frozen import features
from usbench.methods.zeus.image_encoder import ImageEncoder, load_image_encoder, sam_state
from usbench.methods.zeus.instructions import PROJECTION_SEED, fitted, require_width, start_projection
from usbench.methods.zeus.language_model import LanguageModel, load_language_model
from usbench.methods.zeus.mask_decoder import WIDTH, MaskDecoder, load_sam
from usbench.methods.zeus.parts import Parts, frozen_parameters, resolve, weights_words
from usbench.methods.zeus.prompts import prompt_parts, targets
from usbench.tools import find_weight, weight_path

if TYPE_CHECKING:
    from usbench import Task

ALIGNER_HIDDEN = 512


class Zeus(nn.Module):
    """What of Zeus is trained; it gets the rows of frozen parts with every batch.

    Parameters of an instruction-tuned language model are not among this network's: they are held beside it,
    outside its state and the optimiser, and only where instructions are embeddings.

    Args:
        task: Its modalities and classes.
        fusion: "hybrid" or "late".
        parts: The settings, resolved.

    Attributes:
        takes_present: It is told which modalities a slice has. Hybrid fusion then takes the mean and the
            instructions of these alone; late fusion leaves that to the merge.

    Raises:
        UsbenchError: For weights that are absent, damaged or do not fit.
    """

    takes_present = True

    def __init__(self, task: Task, fusion: str, parts: Parts) -> None:
        super().__init__()
        self.task, self.parts, self.fusion = task, parts, fusion
        self.asked = targets([one.words for one in task.classes], parts.about)
        modalities, classes = len(task.modalities), len(task.classes)
        copies = modalities if fusion == "late" else 1
        on_meta = torch.get_default_device().type == "meta"
        decoders = [MaskDecoder(together=parts.classes == "together") for _ in range(copies)]
        state = None
        if not on_meta:
            path = weight_path(parts.image_encoder)
            state = sam_state(path)
            for decoder in decoders:
                load_sam(decoder, state, path)
        for decoder in decoders:
            _freeze(decoder, parts.freeze)
            decoder.learning_rate_share = parts.decoder_rate
        self.decoders = nn.ModuleList(decoders)
        self.own = (
            nn.Parameter(
                torch.randn(modalities, classes, parts.own_prompts, WIDTH) * START[parts.prompt_norm]
            )
            if parts.own_prompts
            else None
        )
        self.encoder: ImageEncoder | None = None
        if parts.encoder_lora:
            name = parts.image_encoder
            with torch.device("cpu"):
                encoder = load_image_encoder(name, weight_path(name), parts.size, state=state)
                self.encoder = encoder.adapt(parts.encoder_lora)
        self.projection: nn.Module | None = None
        self.lora: nn.Module | None = None
        self.prompts: nn.Parameter | None = None
        # A list, so that the frozen model is no submodule: it stays out of state_dict and optimiser.
        self._llm: list[LanguageModel] = []
        if parts.instruction == "none":
            self.prompts = nn.Parameter(torch.randn(modalities, classes, WIDTH) * START[parts.prompt_norm])
            return
        self.aligners = nn.ModuleList(Aligner(parts.instruction_width, ALIGNER_HIDDEN) for _ in range(copies))
        if parts.instruction in ("text", "embedding") and parts.projection != "none":
            trained = parts.instruction == "embedding"
            seed = int(torch.randint(2**31, (), device="cpu")) if trained else PROJECTION_SEED
            self.projection = start_projection(parts, seed, load=not on_meta).requires_grad_(trained)
        if parts.lora and not on_meta:
            self.lora = self.language_model(torch.device("cpu")).add_lora(parts.lora)

    def language_model(self, device: torch.device) -> LanguageModel:
        """The frozen language model on a device, loaded on first use.

        Raises:
            UsbenchError: For weights that are absent, damaged or of another width.
        """
        if not self._llm:
            name = self.parts.llm
            self._llm.append(load_language_model(weight_path(name), name, self.parts.llm_precision, device))
            require_width(name, self._llm[0].width)
        self._llm[0].to(device)
        return self._llm[0]

    def __getstate__(self) -> dict[str, Any]:
        # The frozen model is loaded again where a copy needs it, unless LoRA sits inside it.
        state = dict(self.__dict__)
        if self.lora is None:
            state["_llm"] = []
        return state

    def instructions(self, vision: Tensor) -> Tensor:
        """Ask the language model for an embedding on every modality and class.

        Slices with equal features (all of a case, where instructions are made for a case) are asked once.

        Args:
            vision: Features [B, M, T, width of the vision encoder].

        Returns:
            Embeddings [B, M, K, width of the language model].
        """
        llm = self.language_model(vision.device)
        answers = []
        for m, modality in enumerate(self.task.modalities):
            unique, index = torch.unique(vision[:, m], dim=0, return_inverse=True)
            tokens = fitted(unique, llm.width) if self.projection is None else self.projection(unique)
            prompts = []
            for one in tokens:
                for words in self.asked:
                    before, after = prompt_parts(words, modality.words, self.parts.template)
                    prompts.append((before, one, after))
            embedded = llm.embed(prompts).unflatten(0, (len(unique), len(self.task.classes)))
            answers.append(embedded[index])
        return torch.stack(answers, dim=1)

    def sparse(self, batch: int, instruction: Tensor | None, vision: Tensor | None) -> list[Tensor]:
        """The prompt of every modality.

        Args:
            batch: Number of slices, B.
            instruction: Rows [B, M, K, width of the text encoder], or None.
            vision: Rows [B, M, T, width of the vision encoder], where instructions are embeddings; else None.

        Returns:
            For each modality its prompts [B, K, P, 256]: its instruction, and the trained ones beside it.

        Raises:
            UsbenchError: Where the rows that this network needs are not given.
        """
        given = self._given(batch, instruction, vision)
        if self.own is None:
            return [one.unsqueeze(2) for one in given]
        own = [one.expand(batch, -1, -1, -1) for one in self.own]
        return [torch.cat((one.unsqueeze(2), more), dim=2) for one, more in zip(given, own, strict=True)]

    def _given(self, batch: int, instruction: Tensor | None, vision: Tensor | None) -> list[Tensor]:
        """Of `sparse`, for each modality what stands for its instruction, [B, K, 256]."""
        modalities = len(self.task.modalities)
        if self.prompts is not None:
            return [self.prompts[m].expand(batch, -1, -1) for m in range(modalities)]
        if vision is not None:
            instruction = self.instructions(vision).float()
        if instruction is None:
            raise UsbenchError(
                "zeus was called without the rows of its instruction; run it through usbench run"
            )
        aligners = list(self.aligners) * (modalities // len(self.aligners))
        if self.parts.prompt_norm == "none":
            return [aligner(instruction[:, m]) for m, aligner in enumerate(aligners)]
        if self.parts.prompt_norm == "classes":
            instruction = told_apart(instruction)
        rows = standardised(instruction)
        return [standardised(aligner(rows[:, m])) for m, aligner in enumerate(aligners)]

    def forward(
        self,
        images: Tensor,
        embedding: Tensor | None = None,
        instruction: Tensor | None = None,
        vision: Tensor | None = None,
        present: Tensor | None = None,
    ) -> Tensor:
        """Segment a batch of slices.

        Args:
            images: [B, M, H, W], of which only the size counts where their embedding is given.
            embedding: Of the images, [B, M, 256, h, w]; under hybrid fusion their mean will do, [B, 1, 256,
                h, w]. None where the image encoder is part of this network.
            instruction: Rows [B, M, K, width of the text encoder], where instructions are texts.
            vision: Rows [B, M, T, width of the vision encoder], where instructions are embeddings.
            present: Which modalities each slice has, bool [B, M]; None for all. Rows that come as a mean are
                that of the modalities which are there.

        Returns:
            Logits [B, K, H, W] under hybrid fusion; under late fusion those of every modality, [B, M, K, H,
            W].

        Raises:
            UsbenchError: Where the rows that this network needs are not given.
        """
        prompts = self.sparse(len(images), instruction, vision)
        if embedding is None:
            embedding = self._embedded(images)
        if self.fusion == "late":
            masks: list[Tensor] = [d(embedding[:, m], prompts[m]) for m, d in enumerate(self.decoders)]
        else:
            masks = [self._hybrid(embedding, torch.stack(prompts, dim=2), present)]
        size = images.shape[-2:]
        resized = [
            functional.interpolate(m.float(), size, mode="bilinear", align_corners=False)
            if m.shape[-2:] != size
            else m.float()
            for m in masks
        ]
        return torch.stack(resized, dim=1) if self.fusion == "late" else resized[0]

    def _embedded(self, images: Tensor) -> Tensor:
        """Images [B, M, H, W] -> their embeddings [B, M, 256, h, w], by the encoder that trains."""
        if self.encoder is None:
            raise UsbenchError("zeus was called without the rows of its images; run it through usbench run")
        embedding: Tensor = self.encoder(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        return embedding

    def _hybrid(self, embedding: Tensor, prompts: Tensor, present: Tensor | None) -> Tensor:
        """The masks [B, K, h, w] of one decoder: embeddings [B, M or 1, ...], prompts [B, K, M, P, 256]."""
        decoder = self.decoders[0]
        if present is None:
            logits: Tensor = decoder(embedding.mean(dim=1), prompts.flatten(2, 3))
            return logits
        # Slices with the same modalities go through the decoder together: a prompt that is not there is not
        # the same as one of zeros.
        masks: Tensor | None = None
        for there in torch.unique(present, dim=0):
            rows = (present == there).all(dim=1).nonzero()[:, 0]
            some = embedding[rows] if embedding.shape[1] == 1 else embedding[rows][:, there]
            part = decoder(some.mean(dim=1), prompts[rows][:, :, there].flatten(2, 3))
            if masks is None:
                masks = part.new_zeros((len(present), *part.shape[1:]))
            masks = masks.index_copy(0, rows, part.to(masks.dtype))
        assert masks is not None
        return masks


def _freeze(decoder: nn.Module, what: str) -> None:
    """Let a part of a mask decoder keep its start: "none", "transformer" or "all" of it."""
    if what == "transformer":
        decoder.get_submodule("transformer").requires_grad_(False)
    elif what == "all":
        decoder.requires_grad_(False)


def build(task: Task, fusion: str, **settings: Any) -> nn.Module:
    """Zeus for a task. On the meta device nothing is loaded.

    Args:
        task: Its modalities and classes.
        fusion: "hybrid" or "late".
        settings: As `METHOD.settings`.

    Raises:
        UsbenchError: Naming the setting that is wrong, or the weights that are absent and how to get them.
    """
    return Zeus(task, fusion, resolve(settings))


def _licence(settings: Mapping[str, Any]) -> str:
    names = resolve(settings).needed_weights
    return "; ".join(dict.fromkeys(f"{name}: {find_weight(name).licence}" for name in names))


def _needed(settings: Mapping[str, Any]) -> tuple[str, ...]:
    return resolve(settings).needed_weights


METHOD = Method(
    name="zeus",
    paper="Dai, Ye, Liu, Tang, Zhan: Zeus: Zero-shot LLM Instruction for Union Segmentation in Multimodal "
    "Medical Imaging.",
    build_segmenter=build,
    fusions=("hybrid", "late"),
    settings={
        "weights": "bundled",
        "image_encoder": "auto",
        "vision_encoder": "auto",
        "projection": "mlp",
        "llm": "auto",
        "llm_precision": "32",
        "lora": 0,
        "text_encoder": "auto",
        "instruction": "text",
        "per": "slice",
        "max_tokens": 0,
        "template": "paper",
        "medclip_norm": "auto",
        "medclip_small": "auto",
        "size": 0,
        "feature_bits": 16,
        "encoder_precision": "32",
        "freeze": "none",
        "own_prompts": 0,
        "about": "own",
        "classes": "apart",
        "prompt_norm": "none",
        "decoder_rate": 1.0,
        "encoder_lora": 0,
    },
    presets={
        # docs/zeus.md has the trials that these come from.
        "quick": {
            "size": 84,
            "per": "modality",
            "max_tokens": 48,
            "classes": "together",
            "prompt_norm": "unit",
            "own_prompts": 1,
            "decoder_rate": 0.5,
            "train.warmup": 1,
        },
        "smoke": {"size": 32, "per": "modality", "max_tokens": 16},
    },
    weights=weights_words,
    licence=_licence,
    needed_weights=_needed,
    size_multiple=1,
    features=features,
    frozen_parameters=frozen_parameters,
    pretraining_overlap="unknown",
)
