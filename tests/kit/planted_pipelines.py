"""A plugin file with outside pipelines: one that works, one that looks for test masks, and faulty ones.

It is copied beside a test and named by --plugin, so it imports nothing of the tests.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import nibabel
import numpy as np

from usbench import Method, Pipeline, PipelineMasks
from usbench.tools import run_program


def _pause(folder, moment):
    """Where PLANTED_WAIT names a file: say where this is, and wait there to be killed."""
    place = os.environ.get("PLANTED_WAIT")
    if place and os.environ.get("PLANTED_MOMENT") == moment and not Path(place).exists():
        Path(place).write_text(moment)
        time.sleep(120)


def _learn(folder, watcher, epochs=2):
    """The mean of the foreground's first channel over all training cases, kept as a checkpoint."""
    checkpoint = folder.work / "mean.txt"
    watcher.on_start(epochs)
    if not checkpoint.exists():
        values = []
        for case in folder.train:
            image = np.asarray(nibabel.load(folder.raw / "imagesTr" / f"{case}_0000.nii.gz").dataobj)
            mask = np.asarray(nibabel.load(folder.raw / "labelsTr" / f"{case}.nii.gz").dataobj)
            values.append(float(image[mask > 0].mean()))
        watcher.on_epoch({"epoch": 1, "loss": 0.5, "lr": 0.1, "seconds": 0.01})
        _pause(folder, f"training {folder.modalities[0]}")
        checkpoint.write_text(repr(float(np.mean(values))))
    watcher.on_epoch({"epoch": 2, "loss": 0.25, "lr": 0.1, "seconds": 0.01})
    return float(checkpoint.read_text())


def train_and_predict(folder, settings, device, watcher):
    """Voxels within a band about the mean of the foreground are the first class."""
    mean = _learn(folder, watcher)
    value = next(iter(folder.classes.values()))
    masks = {}
    for number, case in enumerate(folder.test):
        image = nibabel.load(folder.raw / "imagesTs" / f"{case}_0000.nii.gz")
        mask = (np.abs(np.asarray(image.dataobj) - mean) < settings["band"] * abs(mean)) * value
        masks[case] = folder.masks / f"{case}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(mask.astype(np.uint8), image.affine), masks[case])
        if number == 0:
            _pause(folder, f"prediction {folder.modalities[0]}")
    watcher.say("predicted all of them")
    return PipelineMasks(
        masks, parameters=1, trainable=1, epochs=2, remarks=("a band",), versions={"band": "1"}
    )


def search(folder, settings, device, watcher):
    """Look everywhere for a file that belongs to a test case and is no image of it."""
    seen = []
    places = [folder.raw, folder.work, folder.masks, folder.log.parent]
    for value in os.environ.values():
        for part in value.split(os.pathsep):
            if part.startswith("/") and Path(part).is_dir() and str(part) not in sys.path:
                if len(Path(part).parts) > 2 and "usbench" in part.lower():
                    places.append(Path(part))
    probe = (
        "import os, json; print(json.dumps([os.getcwd(), sorted(k for k in os.environ if 'USBENCH' in k)]))"
    )
    run_program([sys.executable, "-c", probe], folder.log, seen.append, folder=folder.work)
    assert seen[-1].endswith("[]]"), seen
    assert "USBENCH_CACHE" not in os.environ
    for place in places:
        for file in place.rglob("*"):
            assert not file.is_symlink(), file
            assert file.resolve().is_relative_to(place.resolve()), file
            of_test = any(file.name.startswith(case) for case in folder.test)
            assert not of_test or file.parent.name == "imagesTs", file
            if file.suffix in (".json", ".txt", ".log", ".csv"):
                for line in file.read_text().splitlines():
                    assert "labelsTs" not in line, (file, line)
    watcher.say(f"searched {len(places)} places")
    return train_and_predict(folder, settings, device, watcher)


def _broken(kind):
    """A pipeline that works once the file PLANTED_MENDED names is there."""

    def call(folder, settings, device, watcher):
        if os.environ.get("PLANTED_MENDED") and Path(os.environ["PLANTED_MENDED"]).exists():
            return train_and_predict(folder, settings, device, watcher)
        if kind == "fails":
            code = "import sys; print('loading'); print('no such planner'); sys.exit(3)"
            run_program([sys.executable, "-c", code], folder.log)
        if kind == "raises":
            raise RuntimeError("the planner is lost")
        if kind == "hangs":
            run_program(
                [sys.executable, "-c", "import time; print('begin'); time.sleep(99)"],
                folder.log,
                silent_minutes=0.03,
            )
        if kind == "absent":
            run_program(["no-such-program-of-usbench"], folder.log)
        found = train_and_predict(folder, settings, device, watcher)
        first = next(iter(found.masks.values()))
        image = nibabel.load(first)
        data = np.asarray(image.dataobj).astype(np.uint8)
        if kind == "half":
            return PipelineMasks(dict(list(found.masks.items())[1:]))
        if kind == "grid":
            nibabel.save(nibabel.Nifti1Image(data[:-1], image.affine), first)
        if kind == "moved":
            affine = image.affine.copy()
            affine[0, 3] += 5
            nibabel.save(nibabel.Nifti1Image(data, affine), first)
        if kind == "labels":
            nibabel.save(nibabel.Nifti1Image(np.where(data, 9, 0).astype(np.uint8), image.affine), first)
        if kind == "nothing":
            return None
        return found

    return call


def _method(name, call, **more):
    pipeline = Pipeline(call, label=lambda settings: f"{name} (band {settings['band']})", **more)
    return Method(name, "Planted for tests.", pipeline=pipeline, settings={"band": 0.3, "epochs": 2})


KINDS = ("fails", "raises", "hangs", "absent", "half", "grid", "moved", "labels", "nothing")
METHODS = [
    _method("band", train_and_predict),
    _method("searching", search),
    *(_method(f"broken-{kind}", _broken(kind)) for kind in KINDS),
]
