"""Small data sets of two NIfTI files and a dataset.json, drawn: headers, scaling, channels and masks.

Most of what is drawn is sound; the rest contradicts itself in one or two places.
"""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from hypothesis import strategies as st

from kit.nifti_headers import quaternion, turned, write_raw

SHAPE = (6, 5, 4)
NAN, INF = float("nan"), float("inf")
UNITS = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
SIZES = (0.5, 0.7, 0.9375, 1.0, 1.1, 2.0, 3.3, 5.0)
SOUND_SCALES = ((NAN, NAN), (0, 0), (1, 0), (2, -3), (0.01, 100), (-1, 0))
UNSOUND_SCALES = ((0, 5), (NAN, 3), (INF, 0), (2, NAN), (1, INF), (1e-30, 0))
CHANGES = (
    *("pixdim", "sizes", "shear", "turn", "shift", "mirror"),
    *("unit", "qfac", "quaternion", "hole", "code"),
)


@dataclass
class DrawnHeader:
    """What `write_raw` is told; `changed` names what was changed after a sound header was drawn."""

    fields: dict[str, Any]
    changed: set[str] = field(default_factory=set)

    @property
    def unit(self) -> float:
        return UNITS.get(self.fields["xyzt_units"] & 7, 1.0)

    @property
    def placed(self) -> bool:
        """Whether a form has a code; without one, every file lies at the same place."""
        return bool(self.fields["qcode"] or self.fields["scode"])

    @property
    def itk_alone_is_right(self) -> bool:
        """No form has a code, or two forms of different codes may name two spaces: nibabel differs there."""
        qcode, scode = self.fields["qcode"], self.fields["scode"]
        return not self.placed or bool(qcode and scode > 1 and qcode != scode)


@dataclass
class DrawnSet:
    """A data set with one case "a".

    Attributes:
        image: the header of the image.
        mask: that of the mask.
        voxels: of the image in the file, [X, Y, Z, channels], unscaled.
        labels: of the mask in the file, [X, Y, Z], unscaled.
        ones: axes of length 1 at the end of both shapes.
        channels: names, in the order of dataset.json.
        folded: the names' spelling in dataset.json: "modality" or "channel_names", and which way labels go.
        suffix: of both files.
        misnamed: whether the name of the image says another compression.
        far: whether the mask lies elsewhere.
        good_mask: whether all its values are labels, to within 0.001.
    """

    image: DrawnHeader
    mask: DrawnHeader
    voxels: np.ndarray
    labels: np.ndarray
    ones: tuple[int, int]
    channels: list[str]
    folded: tuple[str, bool]
    suffix: str
    misnamed: bool
    far: bool
    good_mask: bool

    @property
    def sound(self) -> bool:
        """Whether nothing in it is wrong, so that it must be read."""
        placed = [bool(h.fields["qcode"] or h.fields["scode"]) for h in (self.image, self.mask)]
        changed = self.image.changed | self.mask.changed
        return (
            not changed and placed[0] == placed[1] and self.good_mask and not self.misnamed and not self.far
        )

    def write(self, root: Path) -> tuple[Path, Path]:
        """Write it to an empty `root`; the files of image and mask."""
        shutil.rmtree(root, ignore_errors=True)
        image, mask = (root / part / f"a{self.suffix}" for part in ("imagesTr", "labelsTr"))
        voxels = self.voxels.reshape(*self.voxels.shape, *[1] * self.ones[0])
        write_raw(image, voxels, **self.image.fields)
        write_raw(mask, self.labels.reshape(*self.labels.shape, *[1] * self.ones[1]), **self.mask.fields)
        if self.misnamed:
            content = image.read_bytes()
            packed = self.suffix.endswith(".gz")
            image.write_bytes(gzip.decompress(content) if packed else gzip.compress(content))
        key, by_name = self.folded
        labels = {"background": 0, "PZ": 1, "TZ": 2}
        data = {
            "name": "DRAWN",
            key: {str(k): name for k, name in enumerate(self.channels)},
            "labels": labels if by_name else {str(v): k for k, v in labels.items()},
            "training": [{"image": f"./imagesTr/{image.name}", "label": f"./labelsTr/{mask.name}"}],
        }
        (root / "dataset.json").write_text(json.dumps(data), encoding="utf-8")
        return image, mask


def _affines() -> st.SearchStrategy[tuple[np.ndarray, list[float]]]:
    """A place on perpendicular axes, straight or turned, of either hand; and the sizes of a voxel."""
    angle = st.integers(-1800, 1800).map(lambda tenths: tenths / 10)
    angles = st.tuples(angle, angle, angle) | st.tuples(*[st.sampled_from((0, 90, 180, 270))] * 3)
    sizes = st.lists(st.sampled_from(SIZES), min_size=3, max_size=3)
    shift = st.integers(-20000, 20000).map(lambda v: v / 100)
    shifts = st.tuples(shift, shift, shift)

    def place(turn: Any, size: list[float], offset: Any, mirrored: bool) -> tuple[np.ndarray, list[float]]:
        affine = turned(turn, size, offset)
        return affine @ np.diag([1, 1, -1 if mirrored else 1, 1]), size

    return st.builds(place, angles, sizes, shifts, st.booleans())


@st.composite
def _headers(draw: Any, affine: np.ndarray, size: list[float]) -> DrawnHeader:
    """A sound header that puts voxels where `affine` does (or nowhere), in any form and unit."""
    code = draw(st.sampled_from((2, 2, 2, 0, 1, 3)))
    unit = UNITS[code]
    forms = draw(st.sampled_from(("sform", "qform", "both") * 4 + ("none",)))
    numbers, qfac = quaternion(affine)
    qcode = draw(st.integers(1, 5))
    scode = draw(st.just(qcode) | st.integers(1, 5))
    fields = {
        "pixdim": np.array(size) / unit,
        "qform": [*numbers[:3], *(np.array(numbers[3:]) / unit)],
        "qfac": qfac,
        "qcode": qcode if forms in ("qform", "both") else 0,
        "sform": affine[:3] / unit,
        "scode": scode if forms in ("sform", "both") else 0,
        "xyzt_units": code | draw(st.sampled_from((0, 8, 16))),
        "kind": draw(st.sampled_from((nibabel.Nifti1Header,) * 3 + (nibabel.Nifti2Header,))),
        "endian": draw(st.sampled_from("<<>")),
    }
    scale = draw(st.sampled_from(SOUND_SCALES))
    fields["scl_slope"], fields["scl_inter"] = scale
    return DrawnHeader(fields)


def _change(draw: Any, header: DrawnHeader) -> None:
    """Change one thing in a header, a little or a lot."""
    fields = header.fields
    what = draw(st.sampled_from(CHANGES))
    header.changed.add(what)
    much = draw(st.sampled_from((1e-6, 1e-5, 3e-4, 3e-3, 0.05, 0.7)))
    axis, other = draw(st.permutations((0, 1, 2)))[:2]
    pixdim, sform = np.array(fields["pixdim"], dtype=float), np.array(fields["sform"], dtype=float)
    if what == "pixdim":
        pixdim[axis] = draw(st.sampled_from((0, -pixdim[axis], NAN, INF, 500, 1e-4)))
    elif what == "sizes":
        sform[:, axis] *= 1 + much
    elif what == "shear":
        sform[:, axis] += much * sform[:, other]
        if draw(st.booleans()):
            pixdim = np.linalg.norm(sform[:, :3], axis=0)
    elif what == "turn":
        sform = turned((0, 0, np.degrees(much)), (1, 1, 1))[:3, :3] @ sform
    elif what == "shift":
        sform[axis, 3] += much * pixdim.min()
    elif what == "mirror":
        sform[:, axis] *= -1
    elif what == "unit":
        fields["xyzt_units"] = draw(st.integers(0, 7))
    elif what == "qfac":
        fields["qfac"] = draw(st.sampled_from((0, -1, 1, -4, 0.5, NAN, INF)))
    elif what == "quaternion":
        grown = np.array(fields["qform"])
        grown[:3] = grown[:3] * (1 + much) if draw(st.booleans()) else [0.9, 0.9, much]
        fields["qform"] = grown.tolist()
    elif what == "hole":
        value = draw(st.sampled_from((NAN, INF, 0)))
        if draw(st.booleans()):
            sform[:, axis] = value
        else:
            fields["qform"] = [value, *fields["qform"][1:]]
    else:
        fields[draw(st.sampled_from(("qcode", "scode")))] = draw(st.sampled_from((-1, 0, 1, 2, 6, 99)))
    fields["pixdim"], fields["sform"] = pixdim, sform


def _change_some(draw: Any, header: DrawnHeader) -> None:
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 1, 2)))):
        _change(draw, header)


@st.composite
def drawn_sets(draw: Any) -> DrawnSet:
    """A data set, sound or not."""
    affine, size = draw(_affines())
    image = draw(_headers(affine, size))
    far = draw(st.sampled_from((False,) * 9 + (True,)))
    beside = affine + np.eye(4)[:, [3, 3, 3, 0]] * [0, 0, 0, 2 * max(size)] if far else affine
    _change_some(draw, image)
    if draw(st.sampled_from((False,) * 11 + (True,))):
        image.changed.add("scale")
        image.fields["scl_slope"], image.fields["scl_inter"] = draw(st.sampled_from(UNSOUND_SCALES))
    if far or draw(st.booleans()):
        mask = draw(_headers(beside, size))
        _change_some(draw, mask)
    else:  # written by the same program: what is wrong in one is wrong in both
        mask = DrawnHeader(dict(image.fields), set(image.changed))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    channels = list(draw(st.permutations(("T2", "adc", "DWI"))))
    if draw(st.booleans()):
        channels.remove("DWI")
    dtype = np.dtype(draw(st.sampled_from(("u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"))))
    voxels = rng.integers(0, 120, (*SHAPE, len(channels))).astype(dtype)
    labels, good_mask = _labels(draw, mask, rng)
    return DrawnSet(
        image,
        mask,
        voxels,
        labels,
        ones=(draw(st.integers(0, 2)), draw(st.integers(0, 2))),
        channels=channels,
        folded=(draw(st.sampled_from(("modality", "channel_names"))), draw(st.booleans())),
        suffix=draw(st.sampled_from((".nii", ".nii.gz"))),
        misnamed=draw(st.sampled_from((False,) * 24 + (True,))),
        far=far,
        good_mask=good_mask,
    )


def _labels(draw: Any, mask: DrawnHeader, rng: np.random.Generator) -> tuple[np.ndarray, bool]:
    """A mask of 0, 1 and 2, times some factor, with an odd value in it or none; and whether it is sound."""
    factor = draw(st.sampled_from((1, 1, 7, 100)))
    slope = 1 / factor if factor > 1 else draw(st.sampled_from((NAN, 0, 1)))
    mask.fields["scl_slope"], mask.fields["scl_inter"] = slope, NAN if np.isnan(slope) else 0
    labels = rng.integers(0, 3, SHAPE) * factor
    dtype = draw(st.sampled_from(("u1", "i2", "f4", "f8")))
    odd_values: list[tuple[float, bool]] = [(0, True)] * 7 + [(5, False)]
    if dtype[0] == "f":
        odd_values += [(5e-4, True), (-2e-4, True), (3e-3, False), (0.4, False), (NAN, False)]
    odd, good = draw(st.sampled_from(odd_values))
    labels = labels.astype(dtype if dtype[0] == "f" else "i8")
    labels[0, 0, 0] = (1 + odd) * factor
    return labels.astype(dtype), good
