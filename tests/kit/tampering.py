"""A tamperer's tools: a submission taken apart, changed, and put together again with every digest re-made."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import stat
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from kit.places import ROOT
from usbench.results.digests import key_of, protocol_of
from usbench.results.io import cases_csv, parse_cases, scores_of
from usbench.scores.case import ClassScore
from usbench.scores.registry import all_scores
from usbench.scores.summary import summarise
from usbench.storage.files import digest_of
from usbench.submissions.archive import opened
from usbench.submissions.checks import archive_folder
from usbench.submissions.content import read_submission
from usbench.submissions.record import Found, Verification, record_path, write_record
from usbench.submissions.tracks import track_member

EXAMPLE = ROOT / "leaderboards" / "submissions" / "phantoms" / "unext-small.zip"

Members = dict[str, bytes]


def taken_apart(path: Path = EXAMPLE) -> Members:
    """The files of a submission by name, without its manifest."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name != "manifest.json"}


def folder_of_fold(members: Mapping[str, bytes], fold: int = 0) -> str:
    return next(
        name.removesuffix("/result.json")
        for name in members
        if name.endswith("/result.json") and json.loads(members[name])["cell"]["fold"] == fold
    )


def change_result(
    members: Members, change: Callable[[dict[str, Any]], None], fold: int | None = 0, rehash: bool = True
) -> None:
    """Change result.json of a fold, or of all, and make its digests, hash and folder fit again."""
    wanted = [fold] if fold is not None else range(5)
    for one in wanted:
        folder = folder_of_fold(members, one)
        data = json.loads(members[f"{folder}/result.json"])
        change(data)
        seal(members, folder, data, rehash)


def seal(members: Members, folder: str, data: dict[str, Any], rehash: bool = True) -> str:
    """Put `data` in place of the result in `folder`, with digests that fit; returns its folder then."""
    inside = {name.removeprefix(f"{folder}/"): name for name in members if name.startswith(f"{folder}/")}
    data["files"] = {
        name: hashlib.sha256(members[full]).hexdigest()
        for name, full in inside.items()
        if name != "result.json"
    }
    if rehash:
        data["protocol"] = protocol_of(
            data["task"]["name"],
            data["task"]["modalities"],
            data["task"]["classes"],
            data["config"],
            data["split"]["digest"],
            data["data"]["limit"],
            data["cost"]["precision"],
            version=data.get("protocol_version", 2),
            regions=data["task"].get("regions"),
            few={key: data["split"][key] for key in ("share", "train_cases") if key in data["split"]},
        )
        data["cell"]["hash"] = key_of(
            data["protocol"],
            data["data"]["fingerprint"],
            data["method"],
            data["cell"]["fusion"],
            data["cell"]["fold"],
            data["cell"]["seed"],
            data["config"],
            data["cost"]["devices"],
            {},
            version=data.get("protocol_version", 2),
        )
    data.pop("digest", None)
    data["digest"] = digest_of(data)
    target = archive_folder(data) if rehash else folder
    moved = {f"{target}/{name}": members.pop(full) for name, full in inside.items()}
    members.update(moved)
    members[f"{target}/result.json"] = json.dumps(data).encode()
    return target


def change_cases(members: Members, change: Callable[[list[dict[str, Any]]], None], fold: int = 0) -> None:
    """Change the rows of cases.csv of a fold; the summary and all digests are made to fit."""
    folder = folder_of_fold(members, fold)
    rows = parse_cases(members[f"{folder}/cases.csv"].decode(), "cases.csv")
    change(rows)
    scores: dict[str, list[ClassScore]] = {}
    for row in rows:
        values = {score.name: row[score.name] for score in all_scores()}
        counts = (row["tp"], row["fp"], row["fn"], row["tn"], row["edge"])
        scores.setdefault(row["case"], []).append(ClassScore(row["class"], values, *counts))
    data = json.loads(members[f"{folder}/result.json"])
    known = scores_of(data)
    members[f"{folder}/cases.csv"] = cases_csv(scores, known).encode()
    if len({len(one) for one in scores.values()}) == 1:
        data["scores"] = summarise(list(scores.values()), known)
    seal(members, folder, data)


def change_mask(
    members: Members, change: Callable[[np.ndarray, np.ndarray, Any], Any], fold: int = 0
) -> None:
    """Put what `change(labels, affine, header)` returns, an image or bytes, in place of the first mask."""
    folder = folder_of_fold(members, fold)
    data = json.loads(members[f"{folder}/result.json"])
    name = f"{folder}/predictions/{data['split']['test'][0]}.nii.gz"
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(members[name]))
    made = change(np.asarray(image.dataobj).copy(), image.affine.copy(), image.header.copy())
    members[name] = made if isinstance(made, bytes) else gzip.compress(made.to_bytes(), mtime=0)
    seal(members, folder, data)


def accept(path: Path, date: str = "2026-11-25") -> None:
    """Put a record beside an archive which says that its masks give what it claims, found on that day."""
    with opened(path) as archive:
        submission = read_submission(archive)
        found = {
            one.folder: Found(
                archive.read(f"{one.folder}/cases.csv").decode(),
                {case: hashlib.sha256(archive.read(f"{one.folder}/predictions/{case}.nii.gz")).hexdigest()
                 for case in one.data["split"]["test"]},
                one.data["data"]["fingerprint"],
                {name: one.data["cost"][name] for name in ("parameters", "trainable")},
            )
            for one in submission.runs
        }  # fmt: skip
        tracks = {
            track_member(one, track): archive.read(f"{track_member(one, track)}/cases.csv").decode()
            for one in submission.runs
            for track in one.tracks
        }
    count = sum(len(one.masks) for one in found.values())
    write_record(
        Verification(
            path, submission.sha256, submission.entry, submission.method, len(found), count, 0.0, {}, (),
            tuple(tracks), (), found, tracks,
        )
    )  # fmt: skip
    change_record(path, lambda record: record.update(date=date))


def change_record(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the record beside an archive; its digest is made to fit."""
    record = json.loads(record_path(path).read_text())
    change(record)
    record["digest"] = digest_of({name: value for name, value in record.items() if name != "digest"})
    record_path(path).write_text(json.dumps(record))


def manifest(members: Mapping[str, bytes], **changes: Any) -> bytes:
    files = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in sorted(members.items())
    }
    return json.dumps({"schema": 1, "usbench": "0.1.0", "files": files, **changes}).encode()


def put_together(
    path: Path,
    members: Mapping[str, bytes],
    said: bytes | None = None,
    kind: Callable[[str], dict[str, Any]] = lambda name: {},
) -> Path:
    """Write a zip of `members` with a manifest (`said`, or one that fits).

    kind: attributes of the zip's entry by name of the member, "names" other names for it.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in {"manifest.json": said or manifest(members), **members}.items():
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            for key, value in kind(name).items():
                setattr(info, key, value)
            archive.writestr(info, content, compress_type=info.compress_type)
    path.write_bytes(buffer.getvalue())
    return path


def image(labels: np.ndarray, affine: np.ndarray, **header: Any) -> nibabel.Nifti1Image:
    made = nibabel.Nifti1Image(labels, affine)
    made.header.set_xyzt_units("mm")
    for key, value in header.items():
        made.header[key] = value
    return made


def raised(members: Members) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[0]["dsc"] += 0.01

    change_cases(members, change)


def raised_everywhere(members: Members) -> None:
    """All numbers of a case are those of a better mask, counts too."""

    def change(rows: list[dict[str, Any]]) -> None:
        row = rows[0]
        row["tp"], row["fn"] = row["tp"] + row["fn"], 0
        row["dsc"] = 2 * row["tp"] / (2 * row["tp"] + row["fp"])
        row["iou"], row["sensitivity"] = row["tp"] / (row["tp"] + row["fp"]), 1.0

    change_cases(members, change)


def undefined(members: Members) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[0]["dsc"] = float("nan")

    change_cases(members, change)


def twice(members: Members) -> None:
    change_cases(members, lambda rows: rows.append(dict(rows[0])))


def dropped(members: Members) -> None:
    folder = folder_of_fold(members)
    data = json.loads(members[f"{folder}/result.json"])
    case = data["split"]["test"].pop(0)
    members.pop(f"{folder}/predictions/{case}.nii.gz")
    seal(members, folder, data)
    change_cases(members, lambda rows: rows.pop(0))


def from_another_fold(members: Members) -> None:
    """A case that is easy is scored in two folds, in place of a hard one."""
    folder, other = folder_of_fold(members, 0), folder_of_fold(members, 1)
    data, source = (json.loads(members[f"{f}/result.json"]) for f in (folder, other))
    gone, taken = data["split"]["test"][0], source["split"]["test"][0]
    members[f"{folder}/predictions/{taken}.nii.gz"] = members[f"{other}/predictions/{taken}.nii.gz"]
    members.pop(f"{folder}/predictions/{gone}.nii.gz")
    data["split"]["test"][0] = taken
    seal(members, folder, data)
    line = members[f"{other}/cases.csv"].decode().splitlines()[1]
    values = dict(zip(("case", "class", "dsc"), line.split(",")[:3], strict=True))

    def change(rows: list[dict[str, Any]]) -> None:
        rows[0] |= {"case": values["case"], "dsc": float(values["dsc"])}

    change_cases(members, change)


def swapped(members: Members) -> None:
    folder = folder_of_fold(members)
    data = json.loads(members[f"{folder}/result.json"])
    a, b = (f"{folder}/predictions/{case}.nii.gz" for case in data["split"]["test"])
    members[a], members[b] = members[b], members[a]
    seal(members, folder, data)


def lacking_a_fold(members: Members) -> None:
    folder = folder_of_fold(members, 3)
    for name in [name for name in members if name.startswith(folder)]:
        members.pop(name)


def renamed(name: str, **more: str) -> Callable[[Members], None]:
    def change(data: dict[str, Any]) -> None:
        data["cell"]["method"] = data["method"]["name"] = name
        data["method"].update(more)

    return lambda members: change_result(members, change, fold=None)


def result(**changes: Any) -> Callable[[Members], None]:
    """Change values of all results, "part__key" each, all digests and hashes re-made."""

    def change(data: dict[str, Any]) -> None:
        for place, value in changes.items():
            part, _, key = place.partition("__")
            if key:
                data[part][key] = value
            else:
                data[part] = value

    return lambda members: change_result(members, change, fold=None)


def mask(change: Callable[[np.ndarray, np.ndarray, Any], Any]) -> Callable[[Members], None]:
    return lambda members: change_mask(members, change)


def huge(labels: np.ndarray, affine: np.ndarray, header: Any) -> bytes:
    raw = bytearray(image(labels, affine).to_bytes())
    raw[40:56] = struct.pack("<8h", 3, 32767, 32767, 32767, 1, 1, 1, 1)
    return gzip.compress(bytes(raw))


def displaced(labels: np.ndarray, affine: np.ndarray, header: Any) -> nibabel.Nifti1Image:
    affine[0, 3] += 0.5
    return image(labels, affine)


def not_finite(labels: np.ndarray, affine: np.ndarray, header: Any) -> bytes:
    raw = bytearray(image(labels, affine).to_bytes())
    raw[280:284] = struct.pack("<f", float("nan"))
    return gzip.compress(bytes(raw))


def spaced(labels: np.ndarray, affine: np.ndarray, header: Any) -> nibabel.Nifti1Image:
    made = image(labels, affine)
    made.header["pixdim"][1:4] *= 1.01
    return made


def one_voxel(value: int) -> Callable[..., nibabel.Nifti1Image]:
    def change(labels: np.ndarray, affine: np.ndarray, header: Any) -> nibabel.Nifti1Image:
        labels[0, 0, 0] = value
        return image(labels, affine)

    return change


def added(name: str, content: bytes) -> Callable[[Members], None]:
    return lambda members: members.update({name: content})


def card(find: bytes, put: bytes) -> Callable[[Members], None]:
    def change(members: Members) -> None:
        assert find in members["card.yaml"]
        members["card.yaml"] = members["card.yaml"].replace(find, put)

    return change


def broken_mask(members: Members) -> None:
    """A mask is exchanged, and the digest of the result is left as it was."""
    folder = folder_of_fold(members)
    name = next(n for n in members if n.startswith(f"{folder}/predictions/"))
    members[name] = gzip.compress(b"another")


def edited_result(members: Members) -> None:
    name = f"{folder_of_fold(members)}/result.json"
    members[name] = members[name].replace(b'"seed": 0', b'"seed": 1')


def other_classes(members: Members) -> None:
    for fold in range(5):
        change_cases(members, lambda rows: [row.update({"class": "tumour"}) for row in rows] and None, fold)
    change_result(members, lambda data: data["task"].update(classes=["tumour"]), fold=None)


def trained_on_test(data: dict[str, Any]) -> None:
    data["split"]["train"] += data["split"]["test"]


def to_chaos(data: dict[str, Any]) -> None:
    data["cell"]["task"] = data["task"]["name"] = "chaos"
    data["task"]["modalities"] = ["t1-in", "t1-out", "t2-spir"]


def history(text: bytes) -> Callable[[Members], None]:
    def change(members: Members) -> None:
        folder = folder_of_fold(members)
        members[f"{folder}/history.csv"] = text
        seal(members, folder, json.loads(members[f"{folder}/result.json"]))

    return change


def text_of_result(find: bytes, put: bytes) -> Callable[[Members], None]:
    def change(members: Members) -> None:
        name = f"{folder_of_fold(members)}/result.json"
        assert find in members[name]
        members[name] = members[name].replace(find, put)

    return change


CARD = {
    "schema": 1,
    "entry": "tiny, by hand",
    "authors": ["A. Author", "B. Böhm"],
    "contact": "a@example.org",
    "paper": "unpublished",
    "code": "not public",
    "commit": "none",
    "code_licence": "MIT",
    "weights": "none",
    "weights_data": "none",
    "weights_licence": "none",
    "hardware": "CPU",
    "hours": 0.5,
}


def lay_out(members: Members, folder: Path) -> Path:
    """The runs of a submission as run folders."""
    for name, content in members.items():
        if name.startswith("runs/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    return folder / "runs"
