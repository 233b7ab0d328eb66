"""What to run first on a GPU: one table of what works there, what it costs and what is yet to be gained.

Usage: python benchmarks/gpu.py OUT.md [--size 256] [--epochs 4] [--repeat 20] [--device auto] [--only a,b]

U-Net and Zeus on a phantom at every precision, images/s beside a bare loop, SyncBatchNorm, memory, a run that
was killed beside one that was not, the same run twice, torch.compile, cudnn.benchmark, TF32, CUDA graphs, and
how many kernels a step is. Each part is caught: what fails there stands in the table, and the next one goes
on. On a CPU it is a dry pass: small, and what needs a GPU is said. A figure of a dry pass is worth nothing.
"""

from __future__ import annotations

from usbench.runtime.process import settle

settle()

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import usbench
from usbench.baselines.unet import build
from usbench.runs.train import dice_bce
from usbench.runtime.devices import choose_device, device_name, has_bfloat16, make_fabric

LAUNCH_MS = 0.005
"""What a kernel takes to start from Python, about; the number that the estimate for CUDA graphs rests on."""

ENDS = ("cases.csv", ".nii.gz", ".safetensors")
"""Of files that two equal runs have alike."""

Rows = Iterator[tuple[str, str]]


class NeedsGPU(Exception):
    """A part cannot be tried on a CPU."""


@dataclass(frozen=True)
class Try:
    """How the parts are tried.

    Attributes:
        device: "cpu" or "cuda".
        size: Of a slice, in pixels.
        epochs: Of a run.
        repeat: Steps that are timed.
        folder: For runs, removed at the end.
    """

    device: torch.device
    size: int
    epochs: int
    repeat: int
    folder: Path

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those that the device has; a CPU without bfloat16 takes many times as long for it."""
        if self.gpu:
            return "32", "bf16", "16"
        return ("32", "bf16") if has_bfloat16() else ("32",)

    @property
    def gpu(self) -> bool:
        """Whether it is one."""
        return self.device.type == "cuda"

    def need_gpu(self) -> None:
        """Raise where it is none."""
        if not self.gpu:
            raise NeedsGPU

    def wait(self) -> None:
        """Until the device has done what it was asked for."""
        if self.gpu:
            torch.cuda.synchronize(self.device)

    def settings(self) -> dict[str, Any]:
        """Of a run."""
        return {"data.size": self.size, "train.epochs": self.epochs}

    def run(self, method: str, fusion: str, precision: str, place: str) -> Any:
        """A cell of the phantom of the prostate task."""
        return usbench.run(
            method,
            fusion,
            "msd-prostate",
            data="phantom",
            preset="quick" if self.gpu else "smoke",
            limit=None if self.gpu else 4,
            settings=self.settings(),
            device=self.device.type,
            precision=precision,
            runs_dir=self.folder / place,
            yes=True,
        )[0]

    def step(self, precision: str, network: nn.Module | None = None) -> Callable[[], None]:
        """A step of training of U-Net at a precision, as usbench makes it but for the reading of slices."""
        fabric = make_fabric(self.device.type, 1, precision)
        network = unet(self) if network is None else network
        model, adam = fabric.setup(network, torch.optim.Adam(network.parameters(), fused=True))
        images, target = batch(self)

        def step() -> None:
            adam.zero_grad(set_to_none=True)
            dice, bce = dice_bce(model(images), target)
            fabric.backward(dice + bce)
            adam.step()

        return step

    def milliseconds(self, *steps: Callable[[], None]) -> list[float]:
        """The median time of each step, all in turn."""
        for step in steps:
            step(), step(), step()
        taken = []
        for _ in range(self.repeat):
            row = []
            for step in steps:
                self.wait()
                start = time.perf_counter()
                step()
                self.wait()
                row.append(1000 * (time.perf_counter() - start))
            taken.append(row)
        return [statistics.median(column) for column in zip(*taken, strict=True)]


def unet(here: Try) -> nn.Module:
    torch.manual_seed(0)
    return build(3, 2, "resnet34" if here.gpu else "resnet18").to(here.device).train()


def batch(here: Try) -> tuple[Tensor, Tensor]:
    images = torch.randn(8 if here.gpu else 2, 3, here.size, here.size, device=here.device)
    return images, (images[:, :2] > 0.5).float()


def the_machine(here: Try) -> Rows:
    yield "device", device_name(here.device)
    yield "torch", f"{torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    if here.gpu:
        facts = torch.cuda.get_device_properties(here.device)
        yield "GPU", f"{facts.total_memory / 2**30:.0f} GiB, capability {facts.major}.{facts.minor}"


def runs_of(here: Try, method: str, fusion: str) -> Rows:
    for precision in here.precisions:
        try:
            data = here.run(method, fusion, precision, "precisions").data
        except Exception as error:
            yield f"{method} {fusion} at {precision}", _failed(error)
            continue
        cost = data["cost"]
        yield (
            f"{method} {fusion} at {precision}",
            f"DSC {data['scores']['dsc']:.3f}, training {cost['train_seconds']:.1f} s, "
            f"peak memory {cost['peak_memory_mb']:.0f} MB",
        )


def unet_at_every_precision(here: Try) -> Rows:
    yield from runs_of(here, "unet", "early")


def zeus_at_every_precision(here: Try) -> Rows:
    yield from runs_of(here, "zeus", "hybrid")


def step_at_every_precision(here: Try) -> Rows:
    times = here.milliseconds(*(here.step(precision) for precision in here.precisions))
    count = len(batch(here)[0])
    for precision, taken in zip(here.precisions, times, strict=True):
        rate = f"{1000 * count / taken:.1f} images/s, {times[0] / taken:.2f} times as fast as at 32"
        yield f"U-Net step at {precision}", f"{taken:.2f} ms, {rate}"


def images_beside_a_bare_loop(here: Try) -> Rows:
    words = ["--size", str(here.size), "--repeat", str(min(here.repeat, 5)), "--device", here.device.type]
    words += ["--steps", "10" if here.gpu else "2", "--batch", "8" if here.gpu else "2"]
    script = Path(__file__).with_name("step.py")
    made = subprocess.run([sys.executable, str(script), *words], capture_output=True, text=True, check=False)
    if made.returncode:
        raise RuntimeError(made.stderr.strip().splitlines()[-1])
    yield (
        "usbench beside the bare loop",
        "; ".join(" ".join(line.split()) for line in made.stdout.splitlines()),
    )


def sync_batch_norm(here: Try) -> Rows:
    plain, made = unet(here), nn.SyncBatchNorm.convert_sync_batchnorm(unet(here))
    norms = sum(isinstance(module, nn.SyncBatchNorm) for module in made.modules())
    left = sum(type(module) is nn.BatchNorm2d for module in made.modules())
    yield "SyncBatchNorm", f"{norms} norms converted, {left} left"
    here.need_gpu()
    store = torch.distributed.FileStore(str(here.folder / "store"), 1)
    torch.distributed.init_process_group("nccl", rank=0, world_size=1, store=store)
    try:
        images, _ = batch(here)
        difference = (made(images) - plain(images)).abs().max().item()
    finally:
        torch.distributed.destroy_process_group()
    yield "SyncBatchNorm of one process beside BatchNorm", f"logits differ by {difference:.1e}"


def memory_counters(here: Try) -> Rows:
    here.need_gpu()
    for precision in here.precisions:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(here.device)
        step = here.step(precision)
        step(), step()
        here.wait()
        used, held = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
        yield (
            f"memory of a U-Net step at {precision}",
            f"{used / 2**20:.0f} MB, {held / 2**20:.0f} MB reserved",
        )


def killed_and_resumed(here: Try) -> Rows:
    for precision in here.precisions:
        whole = here.run("unet", "early", precision, "unbroken")
        when = _killed(here, precision)
        again = here.run("unet", "early", precision, "killed")
        equal = kept(whole) == kept(again) and whole.data["scores"] == again.data["scores"]
        said = (
            "equal" if equal else f"differs: DSC {whole.data['scores']['dsc']} {again.data['scores']['dsc']}"
        )
        yield f"killed {when} at {precision} beside unbroken", said


def kept(result: Any) -> dict[str, str]:
    """The digests of a run's scores, masks and network; what says how long it took is left out."""
    return {name: digest for name, digest in result.data["files"].items() if name.endswith(ENDS)}


def _killed(here: Try, precision: str) -> str:
    """Start a run in a process of its own and end it where its first checkpoint is there."""
    words = ["run", "--method", "unet", "--fusion", "early", "--task", "msd-prostate", "--data", "phantom"]
    words += ["--preset", "quick" if here.gpu else "smoke", "--device", here.device.type]
    words += ["--precision", precision, "--runs-dir", str(here.folder / "killed")]
    words += [] if here.gpu else ["--limit", "4"]
    for key, value in here.settings().items():
        words += ["--set", f"{key}={value}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "usbench", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    before = set((here.folder / "killed").rglob("checkpoint*"))
    while process.poll() is None:
        if set((here.folder / "killed").rglob("checkpoint*")) - before:
            process.kill()
            process.wait()
            return "after a checkpoint"
        time.sleep(0.01)
    return "too late (it ended before)"


def the_same_twice(here: Try) -> Rows:
    for precision in here.precisions:
        one, two = (here.run("unet", "early", precision, place) for place in ("once", "twice"))
        equal = kept(one) == kept(two)
        difference = abs(one.data["scores"]["dsc"] - two.data["scores"]["dsc"])
        yield (
            f"the same run twice at {precision}",
            "equal files" if equal else f"DSC differs by {difference:.1e}",
        )


def compiled(here: Try) -> Rows:
    network = unet(here)
    # On a CPU a dry pass traces the network, and compiles nothing.
    made: Any = torch.compile(unet(here), backend="inductor" if here.gpu else "eager")
    start = time.perf_counter()
    eager, fast = here.step("32", network), here.step("32", made)
    fast()
    here.wait()
    first = time.perf_counter() - start
    plain, taken = here.milliseconds(eager, fast)
    yield "torch.compile", f"{plain / taken:.2f} times as fast, {first:.0f} s for the first step"


@contextlib.contextmanager
def _set(owner: Any, name: str, value: Any) -> Iterator[None]:
    was = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, was)


def switches(here: Try) -> Rows:
    here.need_gpu()
    for words, owner, name in (
        ("cudnn.benchmark", torch.backends.cudnn, "benchmark"),
        ("TF32 of convolutions", torch.backends.cudnn, "allow_tf32"),
        ("TF32 of matrix products", torch.backends.cuda.matmul, "allow_tf32"),
    ):
        taken = []
        for value in (False, True):
            with _set(owner, name, value):
                taken += here.milliseconds(here.step("32"))
        yield words, f"{taken[0]:.2f} ms without, {taken[1]:.2f} ms with it: {taken[0] / taken[1]:.2f}"


def cuda_graphs(here: Try) -> Rows:
    here.need_gpu()
    images, target = batch(here)
    plain, captured = unet(here), unet(here)
    graphed: Any = torch.cuda.make_graphed_callables(captured, (images,))

    def step_of(network: Any, owner: nn.Module) -> Callable[[], None]:
        adam = torch.optim.Adam(owner.parameters(), fused=True)

        def step() -> None:
            adam.zero_grad(set_to_none=False)
            dice, bce = dice_bce(network(images), target)
            (dice + bce).backward()
            adam.step()

        return step

    one, two = here.milliseconds(step_of(plain, plain), step_of(graphed, captured))
    yield (
        "CUDA graphs of forward and backward",
        f"{one:.2f} ms without, {two:.2f} ms with them: {one / two:.2f}",
    )


def kernels_of_a_step(here: Try) -> Rows:
    """How many kernels a step starts; what CUDA graphs can gain is at most their starts, an estimate."""
    for precision in here.precisions:
        step = here.step(precision)
        (taken,) = here.milliseconds(step)
        count, what = count_kernels(step, here.gpu)
        starts = count * LAUNCH_MS
        yield (
            f"kernels of a U-Net step at {precision}",
            f"{count} {what}; estimate: {starts:.2f} ms to start them at {LAUNCH_MS * 1000:.0f} us each, "
            f"of a step of {taken:.2f} ms",
        )


def count_kernels(step: Callable[[], None], gpu: bool) -> tuple[int, str]:
    """Kernels that the profiler saw on a GPU; on a CPU the operations that call no other, in their place."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    with profile(activities=kinds) as seen:
        step()
    events = list(seen.events() or [])
    if gpu:
        return sum(event.device_type == DeviceType.CUDA for event in events), "kernels"
    leaves = [e for e in events if e.name.startswith("aten::") and not e.cpu_children]
    return len(leaves), "operations that call no other (stands for kernels; views are among them)"


PARTS = {
    "machine": the_machine,
    "unet": unet_at_every_precision,
    "zeus": zeus_at_every_precision,
    "steps": step_at_every_precision,
    "bare": images_beside_a_bare_loop,
    "norm": sync_batch_norm,
    "memory": memory_counters,
    "resume": killed_and_resumed,
    "twice": the_same_twice,
    "compile": compiled,
    "switches": switches,
    "graphs": cuda_graphs,
    "kernels": kernels_of_a_step,
}


def _failed(error: BaseException) -> str:
    words = " ".join(str(error).split())
    return f"FAILED: {type(error).__name__}: {words[:300]}"


def rows_of(name: str, here: Try) -> Rows:
    """The rows of a part; what it raises is one of them."""
    try:
        yield from PARTS[name](here)
    except NeedsGPU:
        yield name, "skipped: needs a GPU"
    except Exception as error:
        yield name, _failed(error)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path, help="the table, Markdown")
    parser.add_argument("--size", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--repeat", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {','.join(PARTS)}")
    words = parser.parse_args()
    device = torch.device(choose_device(words.device))
    size, epochs, repeat = (256, 4, 20) if device.type == "cuda" else (32, 2, 2)
    with tempfile.TemporaryDirectory() as folder:
        here = Try(device, words.size or size, words.epochs or epochs, words.repeat or repeat, Path(folder))
        title = f"# {device_name(device)}" + ("" if here.gpu else ": a dry pass, no figure counts")
        lines = [title, "", "| what | found |", "|---|---|"]
        for name in words.only.split(","):
            for what, found in rows_of(name, here):
                lines.append("| {} | {} |".format(what, found.replace("|", "\\|")))
                print(lines[-1], flush=True)
                # Whatever comes next, what was found until here is kept.
                words.out.write_text("\n".join(lines) + "\n")
    return int(any("FAILED" in line for line in lines))


if __name__ == "__main__":
    sys.exit(main())
