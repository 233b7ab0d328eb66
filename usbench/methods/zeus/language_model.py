"""The frozen language model of Zeus: it reads tokens of an image among words, and answers or is read.

Dai et al., "Zeus: Zero-shot LLM Instruction for Union Segmentation in Multimodal Medical Imaging",
sections 3.1 and 3.2: the answer as text, or the last layer's embedding. LoRA is that of Hu et
al., "LoRA: Low-Rank Adaptation of Large Language Models" (ICLR 2022), through peft.
"""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from usbench import UsbenchError
from usbench.methods.zeus.generation import CLOSE, Prefix, continued, read_prefix
from usbench.methods.zeus.prompts import STOP
from usbench.methods.zeus.reading import last_states
from usbench.methods.zeus.vision_language import check_info
from usbench.tools import add_lora, converted, freeze, load_errors, make_importable, quiet, seeded, unknown

# Text before the image, its tokens [T, width] or None, and text after it.
Prompt = tuple[str, Tensor | None, str]

PRECISIONS = ("32", "bf16", "4bit")
AT_ONCE = 32  # prompts
# XrayGPT's demo; it leaves `top_k` to transformers, whose default was 50.
SAMPLING: dict[str, Any] = {"do_sample": True, "top_p": 0.9, "top_k": 50, "temperature": 1.0, "num_beams": 1}
LORA_TARGETS = ("q_proj", "v_proj")


class LanguageModel:
    """A frozen causal language model of transformers and its tokenizer.

    It is no module, so no optimiser, state dict or train() reaches it.

    Args:
        name: For messages and results.
        model: The model of transformers, which is frozen here.
        tokenizer: Its tokenizer.

    Attributes:
        width: Of a token's embedding.
        positions: Tokens of the longest text it takes, None for any.
        made_alone: Texts so far that `generate` made again, alone, after a choice that was close.
    """

    def __init__(self, name: str, model: Any, tokenizer: Any) -> None:
        self.name = name
        self._model: Any = freeze(model)
        self._tokenizer = tokenizer
        self.width = int(model.get_input_embeddings().weight.shape[1])
        self.positions: int | None = getattr(model.config, "max_position_embeddings", None)
        ends = model.generation_config.eos_token_id
        self._ends = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
        self._lora: nn.ModuleList | None = None
        self.made_alone = 0

    @property
    def model(self) -> Any:
        """The model itself.

        Raises:
            UsbenchError: After `free`.
        """
        if self._model is None:
            raise UsbenchError(f"language model {self.name} was freed; load it again")
        return self._model

    @torch.inference_mode()
    def generate(self, prompts: Sequence[Prompt], max_tokens: int, batch: int = AT_ONCE) -> list[str]:
        """One answer for each prompt, in their order: the likeliest token at every step.

        An answer ends before the model's end of text, before "###", after `max_tokens`, or where the model's
        positions end. In single precision it is the same whatever is asked beside it (see `generation`).

        Args:
            prompts: What to answer.
            max_tokens: The longest answer.
            batch: How many prompts are read at a time; with 1 nothing is shared either.

        Raises:
            UsbenchError: For a prompt that is empty or longer than the model takes, for image tokens of
                another width, and for numbers below 1.
        """
        if max_tokens < 1 or batch < 1:
            raise UsbenchError(f"max_tokens {max_tokens} and batch {batch} must be 1 or more")
        if not prompts:
            return []
        rows = [self._row(prompt) for prompt in prompts]
        # Coarser numbers tie all the time, so that a text there may depend on those beside it.
        closer = CLOSE if batch > 1 and self.model.dtype == torch.float32 else 0.0
        prefix = read_prefix(self.model, rows, max_tokens) if batch > 1 else None
        answers = []
        for start in range(0, len(rows), batch):
            some = rows[start : start + batch]
            made = self._continue(some, max_tokens, prefix, closer)
            for row, ids in zip(some, made, strict=True):
                if ids is None:
                    self.made_alone += 1
                    (ids,) = self._continue([row], max_tokens)
                assert ids is not None
                answers.append(self._decode(ids).split(STOP, 1)[0])
        return answers

    def embed(self, prompts: Sequence[Prompt], batch: int = AT_ONCE) -> Tensor:
        """The embedding of each prompt: the last layer, after its norm, at the prompt's last token.

        Gradients reach the image tokens, and LoRA where it was added, through the frozen model.

        Args:
            prompts: N prompts.
            batch: How many are read at a time.

        Returns:
            Embeddings, float32 [N, width].

        Raises:
            UsbenchError: As `generate`.
        """
        if batch < 1:
            raise UsbenchError(f"batch {batch} must be 1 or more")
        states = []
        for start in range(0, len(prompts), batch):
            some = prompts[start : start + batch]
            # Not by value: equal tokens of two images have gradients of their own.
            images = [id(tokens) if tokens is not None else -1 for _, tokens, _ in some]
            states.append(last_states(self.model, [self._row(prompt) for prompt in some], images))
        return torch.cat(states) if states else torch.zeros(0, self.width)

    @torch.inference_mode()
    def sample(self, prompts: Sequence[Prompt], max_tokens: int, seeds: Sequence[int]) -> list[str]:
        """One drawn answer for each prompt, as XrayGPT draws it: `SAMPLING`, one prompt at a time.

        A seed and a prompt give the same answer on the same machine, whatever is asked beside it. The answer
        has a token at least, and ends as one of `generate` does. Random states are left as they were.

        Args:
            prompts: What to answer.
            max_tokens: The longest answer.
            seeds: Of each prompt's draws.

        Raises:
            UsbenchError: As `generate`.
        """
        answers = []
        device = self.model.get_input_embeddings().weight.device
        for prompt, seed in zip(prompts, seeds, strict=True):
            row = self._row(prompt)[None]
            room = max_tokens if self.positions is None else min(max_tokens, self.positions - row.shape[1])
            if room < 1:
                answers.append("")
                continue
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), quiet():
                torch.manual_seed(seed)
                ids = self.model.generate(
                    inputs_embeds=row,
                    attention_mask=torch.ones(row.shape[:2], dtype=torch.long, device=row.device),
                    max_new_tokens=room,
                    min_new_tokens=1,
                    stopping_criteria=[self._stopped],
                    pad_token_id=self._tokenizer.eos_token_id,
                    **SAMPLING,
                )[0]
            answers.append(self._decode(ids.tolist()).split(STOP, 1)[0])
        return answers

    def _stopped(self, ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """Whether the only row of ids [1, L] ends with "###", at most three tokens behind another."""
        return torch.tensor([STOP in self._decode(ids[0, -4:].tolist())], device=ids.device)

    def add_lora(self, rank: int, seed: int = 0) -> nn.ModuleList:
        """Add LoRA to the attention's q_proj and v_proj.

        Args:
            rank: Of LoRA's matrices; their product is scaled by 2.
            seed: Of the start of "a".

        Returns:
            All that is trainable. Each entry has "a" (drawn) and "b" (zeros), in 32 bit, so that at the start
            nothing changes. The model uses these very modules: loading a state dict into them changes it.

        Raises:
            UsbenchError: For a rank below 1, a model without such projections, and a second call.
        """
        if rank < 1:
            raise UsbenchError(f"LoRA of rank {rank} is nothing; choose 1 or more")
        if self._lora is not None:
            raise UsbenchError(f"language model {self.name} has LoRA already; load it again for another rank")
        with seeded(seed):
            self._lora = add_lora(self.model, rank, LORA_TARGETS, f"language model {self.name}")
        self.model.eval()
        return self._lora

    def to(self, device: torch.device | str) -> LanguageModel:
        """This model, moved to `device`; one in 4bit stays where it was loaded."""
        if not getattr(self.model, "is_loaded_in_4bit", False):
            self.model.to(device)
        return self

    def free(self) -> None:
        """Drop the model and its memory; calls after this raise `UsbenchError`."""
        self._model = self._lora = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _decode(self, ids: Sequence[int]) -> str:
        text = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)

    def _ids(self, text: str, start: bool) -> list[int]:
        """The text's tokens, with the tokenizer's own beginning of text where the prompt starts."""
        ids = list(self._tokenizer(text, add_special_tokens=start, verbose=False).input_ids)
        while start and ids and ids[-1] == self._tokenizer.eos_token_id:
            ids.pop()
        return ids

    def _row(self, prompt: Prompt) -> Tensor:
        """A prompt's embeddings [L, width]."""
        before, tokens, after = prompt
        table = self.model.get_input_embeddings()
        device, dtype = table.weight.device, self.model.dtype

        def words(ids: list[int]) -> Tensor:
            embeds: Tensor = table(torch.tensor(ids, dtype=torch.long, device=device))
            return embeds

        if tokens is None:
            row = words(self._ids(before + after, start=True))
        elif tokens.dim() != 2 or tokens.shape[1] != self.width:
            raise UsbenchError(
                f"image tokens of shape {tuple(tokens.shape)} do not fit language model {self.name}; "
                f"project them to [T, {self.width}]"
            )
        else:
            parts = (words(self._ids(before, start=True)), words(self._ids(after, start=False)))
            row = torch.cat((parts[0], tokens.to(device, dtype), parts[1]))
        if not len(row):
            raise UsbenchError("an empty prompt cannot be answered; give a text or image tokens")
        if self.positions is not None and len(row) > self.positions:
            raise UsbenchError(
                f"a prompt of {len(row)} tokens is longer than the {self.positions} positions of language "
                f"model {self.name}; shorten the names or use fewer image tokens"
            )
        return row

    def _continue(
        self, rows: Sequence[Tensor], max_tokens: int, prefix: Prefix | None = None, closer: float = 0.0
    ) -> list[list[int] | None]:
        """The tokens that follow each row, without the one that ends the text; see `continued`."""
        room = self.positions if self.positions is not None else max(map(len, rows)) + max_tokens
        budgets = [min(max_tokens, room - len(row)) for row in rows]

        def ends(ids: list[int]) -> bool:
            # "###" is at most three tokens long, the fourth is what may stand before it.
            return STOP in self._decode(ids[-4:])

        return continued(self.model, rows, budgets, ends, self._ends, prefix, closer)


def load_language_model(
    path: Path, name: str, precision: str = "32", device: torch.device | str = "cpu"
) -> LanguageModel:
    """A frozen language model. The caller's random state is left as it was.

    Code that comes with a model never runs.

    Args:
        path: A folder in the format of transformers with config.json, a tokenizer and weights (safetensors,
            or .bin read with weights_only); or a .gguf file, which is converted once into the cache, see
            `converted`.
        name: For messages and results.
        precision: "32", "bf16" or "4bit", which needs bitsandbytes and CUDA.
        device: Where the model goes.

    Raises:
        UsbenchError: For files that are missing, damaged or incomplete, for another precision and for
            packages that are missing.
    """
    if precision not in PRECISIONS:
        raise unknown("precision of the language model", precision, PRECISIONS)
    if precision == "4bit":
        _check_4bit()
    path = Path(path).expanduser()
    if path.suffix.lower() == ".gguf":
        path = converted(path, precision)
    if not (path / "config.json").is_file():
        raise UsbenchError(
            f"{path / 'config.json'}: there is no such file; give language model {name} as a folder of "
            "transformers or as a .gguf file"
        )
    make_importable()
    with seeded(0), quiet(), load_errors(path, f"language model {name}"):
        import transformers

        kind: Any = transformers.AutoModelForCausalLM
        local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, **local)
        if precision == "4bit":
            local["device_map"] = {"": device}
            local["quantization_config"] = transformers.BitsAndBytesConfig(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
            )
        model, info = kind.from_pretrained(
            path,
            **local,
            dtype=_dtype(precision),
            weights_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
        if precision != "4bit":
            model = model.to(device)
    check_info(info, str(path), extra=False)
    return LanguageModel(name, model, tokenizer)


def _dtype(precision: str) -> torch.dtype:
    return torch.float32 if precision == "32" else torch.bfloat16


def _check_4bit() -> None:
    if importlib.util.find_spec("bitsandbytes") is None or not torch.cuda.is_available():
        raise UsbenchError(
            "a language model in 4bit needs CUDA and the package bitsandbytes; "
            "pip install bitsandbytes on a machine with a GPU, or choose precision bf16 or 32"
        )
