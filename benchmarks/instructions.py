"""Instructions of Zeus, many at a time beside one by one: texts a second, and whether they are the same.

Usage: python benchmarks/instructions.py [--tasks chaos,msd-brain] [--texts 64] [--alone 64]
           [--max-tokens 64] [--batch 32] [--size 56] [--seed 0]

Slices of a phantom patient of each task, every modality and class of them, shuffled; bundled weights. The
first ALONE of the texts are made one by one too, in turns with the batches, so that what else the machine
does hits both. Prints texts a second of either way, their ratio, how many texts are equal, how many a batch
left to be made alone after a choice that was close (within its time), and the largest difference that a batch
made in a logit of 16 texts. Image features are made before.

Then embeddings and their way back, in single and in half precision: ours beside one padded call of
transformers on the same prompts, every class of six images, image tokens drawn by chance, for the bundled
weights (one token) and as many as a Q-Former has (32, in XrayGPT's conversation).
"""

from __future__ import annotations

from usbench.runtime.process import settle

settle()

import argparse
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from usbench.config import make_config
from usbench.datasets.phantom import make_phantom
from usbench.datasets.store import prepare
from usbench.datasets.tasks import get_task
from usbench.methods.registry import get_method
from usbench.methods.zeus.instructions import Instructions
from usbench.methods.zeus.language_model import LanguageModel, load_language_model
from usbench.methods.zeus.parts import resolve
from usbench.methods.zeus.prompts import prompt_parts
from usbench.methods.zeus.reading import pad_left
from usbench.runtime.devices import choose_device
from usbench.tools import weight_path


def prompts_of(name: str, settings: dict[str, Any], device: torch.device, count: int) -> list[Any]:
    """So many prompts on slices of a task's phantom, with their image tokens."""
    method, _ = get_method("zeus")
    config = make_config("paper", method.settings, method.presets, settings)
    task = get_task(name)
    with tempfile.TemporaryDirectory() as folder:
        make_phantom(task, Path(folder) / "data", cases=1, seed=0)
        store = prepare(task, Path(folder) / "data", config.data)
        images = torch.from_numpy(store.case(store.case_ids[0]).images[:].astype("float32"))
    maker = Instructions(task, resolve(config.method), device)
    found: list[Any] = []
    for slice_ in images[len(images) // 4 :].split(1):
        for m in range(len(task.modalities)):
            tokens = maker._image_tokens(slice_[:, m])
            for k in range(len(task.classes)):
                before, after = prompt_parts(*maker.words(m, k))
                found.append((before, tokens, after))
        if len(found) >= count:
            break
    return found[:count]


def furthest(llm: LanguageModel, prompts: list[Any], tokens: int) -> float:
    """The largest difference of a logit between a batch and one by one, as long as both say the same."""
    seen: list[torch.Tensor] = []
    hook = llm.model.register_forward_hook(lambda _, __, out: seen.append(out.logits[:, -1].float()))
    rows = [llm._row(prompt) for prompt in prompts]
    with torch.inference_mode():
        together = llm._continue(rows, tokens)
        batch, worst = list(seen), 0.0
        for i, row in enumerate(rows):
            seen.clear()
            (alone,) = llm._continue([row], tokens)
            for step, logits in enumerate(seen):
                # From where a row has ended, the others have moved up.
                if len(batch[step]) < len(rows) or (alone or [])[:step] != (together[i] or [])[:step]:
                    break
                worst = max(worst, float((logits[0] - batch[step][i]).abs().max()))
    hook.remove()
    return worst


def embedded(precision: str, template: str, tokens: int, device: torch.device, rounds: int = 4) -> None:
    """Print how much sooner the prompts of six images with four classes are embedded, there and back."""
    llm = load_language_model(weight_path("smollm2"), "smollm2", precision, device)
    torch.manual_seed(0)
    images = [(torch.randn(tokens, llm.width, device=device) * 0.1).requires_grad_() for _ in range(6)]
    prompts = []
    for image in images:
        for one in get_task("chaos").classes:
            before, after = prompt_parts(one.words, "MRI-T2", template)
            prompts.append((before, image, after))

    def bare() -> torch.Tensor:
        embeds, mask, positions = pad_left([llm._row(prompt) for prompt in prompts])
        base = llm.model.base_model
        read = base(inputs_embeds=embeds, attention_mask=mask, position_ids=positions, use_cache=False)
        state: torch.Tensor = read.last_hidden_state[:, -1].float()
        return state

    seconds, states = {"ours": 0.0, "bare": 0.0}, {}
    for turn in range(rounds + 1):
        for name, read in (("ours", lambda: llm.embed(prompts)), ("bare", bare)):
            begun = time.perf_counter()
            states[name] = read()
            torch.autograd.grad(states[name].sum(), images)
            seconds[name] += time.perf_counter() - begun if turn else 0.0
    apart = ((states["ours"] - states["bare"]).norm() / states["bare"].norm()).item()
    length = len(llm._row(prompts[0]))
    print(
        f"embeddings, {precision}, {template}, {tokens} image tokens, prompts of {length}: "
        f"{seconds['ours'] / rounds:.2f} s, a padded call {seconds['bare'] / rounds:.2f} s, "
        f"ratio {seconds['bare'] / seconds['ours']:.2f}; relative difference {apart:.1e}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tasks", default="chaos,msd-brain")
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--alone", type=int, default=64)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=56)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    words = parser.parse_args()
    device = torch.device(choose_device(words.device))
    names = words.tasks.split(",")
    settings = {"method.size": words.size, "data.size": 64}
    prompts = [p for n in names for p in prompts_of(n, settings, device, words.texts // len(names))]
    random.Random(words.seed).shuffle(prompts)
    method, _ = get_method("zeus")
    maker = Instructions(get_task(names[0]), resolve({**method.settings, "size": words.size}), device)
    llm = maker.language_model()
    lengths = [len(llm._row(prompt)) for prompt in prompts]
    print(
        f"{len(prompts)} prompts of {min(lengths)} to {max(lengths)} tokens, at most {words.max_tokens} "
        f"more; {llm.name} in float32, {device}, {torch.get_num_threads()} threads",
        flush=True,
    )
    llm.generate(prompts[:1], 2)
    ours: list[str] = []
    alone: list[str] = []
    seconds = {"ours": 0.0, "alone": 0.0}
    for start in range(0, len(prompts), words.batch):
        some = prompts[start : start + words.batch]
        begun = time.perf_counter()
        ours += llm.generate(some, words.max_tokens, batch=words.batch)
        middle = time.perf_counter()
        for prompt in some[: max(0, words.alone - start)]:
            alone += llm.generate([prompt], words.max_tokens, batch=1)
        seconds["ours"] += middle - begun
        seconds["alone"] += time.perf_counter() - middle
    fast, slow = len(ours) / seconds["ours"], len(alone) / seconds["alone"]
    equal = sum(a == b for a, b in zip(ours, alone, strict=False))
    print(
        f"batches of {words.batch}: {fast:.3f} texts a second, one by one {slow:.3f}, ratio {fast / slow:.1f}"
    )
    print(f"{equal} of {len(alone)} texts equal, {len(set(alone))} of them different from each other")
    print(f"{llm.made_alone} of {len(ours)} texts were made again alone", flush=True)
    print(f"largest difference of a logit: {furthest(llm, prompts[:16], 12):.1e}", flush=True)
    for precision in ("32", "bf16"):
        embedded(precision, "paper", 1, device)
        embedded(precision, "xraygpt", 32, device)


if __name__ == "__main__":
    main()
