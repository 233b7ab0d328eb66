"""A hundred and more ways to tamper with a submission, each consistent but for one thing."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from kit.tampered_tracks import change_track
from kit.tampering import (
    Members,
    added,
    card,
    change_cases,
    change_mask,
    change_result,
    folder_of_fold,
    history,
    image,
    manifest,
    mask,
    put_together,
    renamed,
    result,
    seal,
)

REFUSED, NOTHING, SAID, APART = "refused", "no effect", "said", "apart"
"""What may come of a tampering: one line that refuses it; the same ranks, tests and averages; a table of its
own with a sentence on what little it differs in; a table of its own whose title says the claimed setting."""


@dataclass(frozen=True)
class Tampering:
    """A tampering, and what must come of it.

    members: changes the files of the archive. raw: changes the bytes of the zip. record: changes the record.
    write: writes the archive. tracks: whether the archive has tracks.
    """

    wanted: str
    members: Callable[[Members], object] | None = None
    raw: Callable[[bytes], bytes] | None = None
    record: Callable[[Path], object] | None = None
    write: Callable[[Path, Members], object] | None = None
    tracks: bool = False


def claims(wanted: str, change: Callable[[dict[str, Any]], object], folds: int = 5) -> Tampering:
    """Every row of the cases.csv of some folds, the summary and all digests made to fit."""

    def members(of: Members) -> None:
        for fold in range(folds):
            change_cases(of, lambda rows: [change(row) for row in rows] and None, fold)

    return Tampering(wanted, members)


def more(**by: float) -> Callable[[dict[str, Any]], object]:
    return lambda row: row.update({name: row[name] + value for name, value in by.items()})


def says(wanted: str, **changes: Any) -> Tampering:
    return Tampering(wanted, result(**changes))


def of_text(change: Callable[[str], str], file: str = "cases.csv") -> Tampering:
    """The text of a file of the first fold, with digests that fit; refused."""

    def members(of: Members) -> None:
        folder = folder_of_fold(of)
        of[f"{folder}/{file}"] = change(of[f"{folder}/{file}"].decode()).encode()
        seal(of, folder, json.loads(of[f"{folder}/result.json"]))

    return Tampering(REFUSED, members)


def cell(change: Callable[[str], str], column: int = 2) -> Tampering:
    """One cell of the first row of cases.csv."""

    def text(whole: str) -> str:
        lines = whole.splitlines()
        cells = lines[1].split(",")
        cells[column] = change(cells[column])
        return "\n".join([lines[0], ",".join(cells), *lines[2:], ""])

    return of_text(text)


def text_only(change: Callable[[str], str]) -> Tampering:
    made = of_text(change)
    return Tampering(NOTHING, made.members)


def header(wanted: str, change: Callable[[Any], object]) -> Tampering:
    """The NIfTI header of the first mask."""

    def made(labels: np.ndarray, affine: np.ndarray, old: Any) -> nibabel.Nifti1Image:
        found = image(labels, affine)
        change(found.header)
        return found

    return Tampering(wanted, mask(made))


def raw_header(wanted: str, change: Callable[[bytearray], object]) -> Tampering:
    def made(labels: np.ndarray, affine: np.ndarray, old: Any) -> bytes:
        content = bytearray(image(labels, affine).to_bytes())
        change(content)
        return gzip.compress(bytes(content))

    return Tampering(wanted, mask(made))


def packed(wanted: str, pack: Callable[[bytes], bytes]) -> Tampering:
    return Tampering(wanted, mask(lambda v, a, h: pack(image(v, a).to_bytes())))


def put(content: bytearray, place: int, value: bytes) -> None:
    content[place : place + len(value)] = value


def record(
    change: Callable[[dict[str, Any]], object], wanted: str = REFUSED, resign: bool = True
) -> Tampering:
    """The record is changed, its digest made to fit."""
    from kit.tampering import change_record

    from usbench.submissions.verify import record_path

    def made(path: Path) -> None:
        if resign:
            change_record(path, change)
            return
        data = json.loads(record_path(path).read_text())
        change(data)
        record_path(path).write_text(json.dumps(data))

    return Tampering(wanted, record=made)


def record_text(text: str) -> Tampering:
    from usbench.submissions.verify import record_path

    return Tampering(REFUSED, record=lambda path: record_path(path).write_text(text))


def record_cases(change: Callable[[str], str]) -> Callable[[dict[str, Any]], object]:
    def made(data: dict[str, Any]) -> None:
        for one in data["found"].values():
            lines = one["cases"].splitlines()
            cells = [line.split(",") for line in lines[1:]]
            for row in cells:
                row[2] = change(row[2])
            one["cases"] = "\n".join([lines[0], *map(",".join, cells), ""])

    return made


def folder_record(path: Path) -> None:
    from usbench.submissions.verify import record_path

    record_path(path).unlink()
    record_path(path).mkdir()


def zipped(path: Path, members: Mapping[str, bytes], said: bytes | None = None, **info: Any) -> None:
    put_together(path, members, said, kind=lambda name: dict(info))


def reordered(path: Path, members: Members) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in reversed([("manifest.json", manifest(members)), *members.items()]):
            archive.writestr(zipfile.ZipInfo(name, (2099, 12, 31, 0, 0, 0)), content)
    path.write_bytes(buffer.getvalue())


def edited_manifest(change: Callable[[dict[str, Any]], object]) -> Tampering:
    def write(path: Path, members: Members) -> None:
        said = json.loads(manifest(members))
        change(said)
        zipped(path, members, json.dumps(said).encode())

    return Tampering(REFUSED, write=write)


def written(write: Callable[[Path, Members], object], wanted: str = REFUSED) -> Tampering:
    return Tampering(wanted, write=write)


def config(wanted: str, **values: Any) -> Tampering:
    def change(data: dict[str, Any]) -> None:
        for place, value in values.items():
            part, _, key = place.partition("__")
            data["config"][part][key] = value

    return Tampering(wanted, lambda members: change_result(members, change, fold=None))


def each(wanted: str, change: Callable[[dict[str, Any]], object], rehash: bool = True) -> Tampering:
    return Tampering(wanted, lambda members: change_result(members, change, None, rehash))


def first_file(members: Members, end: str) -> str:
    return next(name for name in sorted(members) if name.endswith(end))


def twice_in_json(members: Members) -> None:
    name = f"{folder_of_fold(members)}/result.json"
    members[name] = members[name].replace(b'"schema": 1,', b'"schema": 1, "schema": 1,', 1)


def flipped(members: Members) -> None:
    """A voxel of a mask is moved; counts of the claims follow, the DSC stays."""

    def change(labels: np.ndarray, affine: np.ndarray, old: Any) -> nibabel.Nifti1Image:
        place = tuple(np.argwhere(labels == 1)[0])
        labels[place] = 0
        return image(labels, affine)

    change_mask(members, change)
    change_cases(members, lambda rows: rows[0].update(tp=rows[0]["tp"] - 1, fn=rows[0]["fn"] + 1))


def copied_fold(members: Members) -> None:
    """The masks and the rows of fold 1 stand once more under fold 0."""
    one, other = folder_of_fold(members, 0), folder_of_fold(members, 1)
    for name in [name for name in members if name.startswith(f"{other}/")]:
        members[name.replace(other, one)] = members[name]


def with_nul(whole: str) -> str:
    return whole.replace("0.", "0.\x00", 1)


def homoglyph(word: str) -> str:
    return word.replace("e", "\u0435")


def arabic(word: str) -> str:
    return word.translate({ord("0") + n: chr(0x0660 + n) for n in range(10)})


def wide(word: str) -> str:
    return word.translate({ord("0") + n: chr(0xFF10 + n) for n in range(10)})


TAMPERINGS: dict[str, Tampering] = {
    "every DSC up by 9e-7": claims(NOTHING, more(dsc=9e-7)),
    "every DSC up by 9e-7 in one fold": claims(NOTHING, more(dsc=9e-7), 1),
    "every score better by 9e-7": claims(NOTHING, more(dsc=9e-7, iou=9e-7, hd95=-9e-7, nsd=9e-7)),
    "every HD95 down by 9e-7": claims(NOTHING, more(hd95=-9e-7)),
    "every DSC up by 1.1e-6": claims(REFUSED, more(dsc=1.1e-6)),
    "a voxel more is right": claims(REFUSED, more(tp=1, fn=-1), 1),
    "false positives are misses": claims(REFUSED, lambda r: r.update(fp=r["fn"], fn=r["fp"]), 1),
    "counts below zero": claims(REFUSED, lambda r: r.update(fp=-1), 1),
    "an edge case of no mask": claims(REFUSED, lambda r: r.update(edge="both-empty"), 1),
    "the specificity is undefined": claims(REFUSED, lambda r: r.update(specificity=float("nan")), 1),
    "an infinite score": claims(REFUSED, lambda r: r.update(dsc=float("inf")), 1),
    "the mean up by 9e-7": each(NOTHING, lambda d: d["scores"].update(dsc=d["scores"]["dsc"] + 9e-7)),
    "the mean up by 2e-6": each(REFUSED, lambda d: d["scores"].update(dsc=d["scores"]["dsc"] + 2e-6)),
    "more cases behind the mean": each(REFUSED, lambda d: d["scores"].update(cases=99)),
    "lines end as on Windows": text_only(lambda t: t.replace("\n", "\r\n")),
    "rows in another order": text_only(lambda t: "\n".join([t.split("\n")[0], *t.split("\n")[2:0:-1], ""])),
    "Arabic digits in a count": cell(arabic, -2),
    "Arabic digits in a score": cell(arabic),
    "wide digits in a score": cell(wide),
    "an underscore in a count": cell(lambda c: f"{c[0]}_{c[1:]}", -2),
    "a blank before a score": cell(lambda c: f" {c}"),
    "a plus before a score": cell(lambda c: f"+{c}"),
    "a score in words": cell(lambda c: "nan"),
    "a score in hexadecimals": cell(lambda c: "0x1p-1"),
    "a formula for a score": cell(lambda c: "=1+1"),
    "a case with a Cyrillic letter": cell(homoglyph, 0),
    "a class with a blank": cell(lambda c: f"{c} ", 1),
    "a zero byte": of_text(with_nul),
    "a byte order mark": of_text(lambda t: "\ufeff" + t),
    "a column of a Cyrillic name": of_text(lambda t: t.replace("dsc", "d\u0455c", 1)),
    "two columns swapped": of_text(lambda t: t.replace("dsc,iou", "iou,dsc", 1)),
    "a column more": of_text(lambda t: t.replace("edge\n", "edge,bonus\n").replace(",\n", ",,9\n")),
    "a cell over two lines": of_text(lambda t: t.replace("prostate_", '"pro\nstate_"', 1)),
    "one parameter": says(NOTHING, cost__parameters=1, cost__trainable=1),
    "parameters below zero": says(REFUSED, cost__parameters=-1),
    "yes for a number": says(REFUSED, cost__parameters=True),
    "no GFLOPs": says(NOTHING, cost__gflops_per_slice=0.0),
    "no milliseconds": says(NOTHING, cost__ms_per_slice=0.0),
    "milliseconds below zero": says(REFUSED, cost__ms_per_slice=-1.0),
    "memory not known": says(REFUSED, cost__peak_memory_mb=None),
    "no memory": says(NOTHING, cost__peak_memory_mb=0.0),
    "trained in no time": says(NOTHING, cost__train_seconds=0.0),
    "seconds below zero": says(REFUSED, cost__seconds=-5.0),
    "no devices": says(REFUSED, cost__devices=0),
    "a device that is a link": says(REFUSED, cost__device="[GPU](http://x)"),
    "finished in the year 9999": each(NOTHING, lambda d: d["provenance"].update(finished="9999-01-01")),
    "finished as a number": each(REFUSED, lambda d: d["provenance"].update(finished=-1)),
    "a later usbench": says(NOTHING, usbench="99.9"),
    "a later protocol": each(REFUSED, lambda d: d.update(protocol_version=99), rehash=False),
    "yes for the schema": says(REFUSED, schema=True),
    "a seed too large": says(REFUSED, cell__seed=2**31),
    "a seed below zero": says(REFUSED, cell__seed=-1),
    "another seed": says(NOTHING, cell__seed=7),
    "a fold as text": each(REFUSED, lambda d: d["cell"].update(fold=str(d["cell"]["fold"]))),
    "one fold of one": says(REFUSED, split__folds=1),
    "weights that the card denies": says(REFUSED, method__weights="imagenet"),
    "a method with a Cyrillic letter": Tampering(REFUSED, renamed(homoglyph("unext-small"))),
    "a method in capitals": Tampering(REFUSED, renamed("UNEXT-small")),
    "built in with a blank": says(REFUSED, method__origin="built in "),
    "a paper off by a letter": each(REFUSED, lambda d: d["method"].update(paper=d["method"]["paper"][:-1])),
    "another version of the method": says(NOTHING, method__version="9"),
    "other code of the method": says(NOTHING, method__source_hash="1" * 64),
    "another licence": says(NOTHING, method__licence="public domain"),
    "another fingerprint": says(NOTHING, data__fingerprint="0123456789abcdef" * 4),
    "a fingerprint in capitals": says(REFUSED, data__fingerprint="0123456789ABCDEF" * 4),
    "a short fingerprint": says(REFUSED, data__fingerprint="0123456789abcdef"),
    "a fingerprint of zeros": says(REFUSED, data__fingerprint="0" * 64),
    "called a sample": says(REFUSED, data__kind="sample"),
    "a learning rate within rounding": config(SAID, train__lr=0.0010000000001),
    "a decay within rounding": config(SAID, train__weight_decay=1.0000001e-5),
    "a learning rate of its own": config(APART, train__lr=0.002),
    "epochs with a point": config(REFUSED, train__epochs=4.0),
    "a size with a point": config(REFUSED, data__size=64.0),
    "a setting that there is not": config(REFUSED, train__luck=1),
    "another title of the task": says(NOTHING, task__title="Another"),
    "slice-wise numbers of 1": says(NOTHING, paper_style={"paper_dsc": 1.0, "paper_miou": 1.0}),
    "a history without loss": Tampering(NOTHING, history(b"epoch,loss\n1,0\n")),
    "a history of nothing": Tampering(REFUSED, history(b"epoch,loss\n1,nan\n")),
    "a history in Arabic": Tampering(REFUSED, history("epoch,loss\n\u0661,0\n".encode())),
    "a qform beside": header(REFUSED, lambda h: h.set_qform(np.diag([9.0, 9, 9, 1]), 1)),
    "a qform that is the sform": header(NOTHING, lambda h: h.set_qform(h.get_sform(), 1)),
    "micrometres": header(REFUSED, lambda h: h.set_xyzt_units("micron")),
    "a text in the header": header(NOTHING, lambda h: h.__setitem__("descrip", b"best")),
    "a fifth dimension": raw_header(REFUSED, lambda c: put(c, 48, b"\x02\x00")),
    "signed bytes": raw_header(REFUSED, lambda c: put(c, 70, (256).to_bytes(2, "little"))),
    "another magic": raw_header(REFUSED, lambda c: put(c, 344, b"ni1\x00")),
    "an offset of voxels": raw_header(REFUSED, lambda c: put(c, 108, np.float32(368).tobytes())),
    "not packed": packed(NOTHING, lambda raw: gzip.compress(raw, 0)),
    "two gzip files in one": packed(REFUSED, lambda raw: gzip.compress(raw[:400]) + gzip.compress(raw[400:])),
    "no gzip": packed(REFUSED, lambda raw: raw),
    "a NIfTI of version 2": Tampering(
        REFUSED, mask(lambda v, a, h: gzip.compress(nibabel.Nifti2Image(v, a).to_bytes()))
    ),
    "a voxel moved, the DSC left": Tampering(REFUSED, flipped),
    "a fold for another": Tampering(REFUSED, copied_fold),
    "a comment of the zip": Tampering(REFUSED, raw=lambda b: b[:-2] + b"\x02\x00hi"),
    "a member named in wide letters": Tampering(REFUSED, added("\uff43ard.yaml", b"x")),
    "a member named in capitals": Tampering(REFUSED, lambda m: m.update({"CARD.yaml": m["card.yaml"]})),
    "a zip within": Tampering(REFUSED, added("runs/a/b/c/predictions/x.zip", b"PK")),
    "points written as signs": Tampering(REFUSED, added("runs/%2e%2e/b/c/cases.csv", b"x")),
    "dates of the future, order reversed": written(reordered, NOTHING),
    "a setuid file": written(lambda p, m: zipped(p, m, external_attr=0o104644 << 16), NOTHING),
    "a manifest with a key more": edited_manifest(lambda d: d.update(note="x")),
    "a manifest with sizes as text": edited_manifest(
        lambda d: [one.update(bytes=str(one["bytes"])) for one in d["files"].values()]
    ),
    "a manifest of capitals": edited_manifest(
        lambda d: [one.update(sha256=one["sha256"].upper()) for one in d["files"].values()]
    ),
    "a key twice in a result": Tampering(REFUSED, twice_in_json),
    "a card of two documents": Tampering(REFUSED, lambda m: m.update({"card.yaml": m["card.yaml"] * 2})),
    "an entry written backwards": Tampering(REFUSED, card(b"entry: ", b'entry: "\\u202Ex"  # ')),
    "an entry that is another's": Tampering(NOTHING, card(b"unext-small, worked example", b"rival")),
    "few hours": Tampering(NOTHING, card(b"hours: ", b"hours: 0.0001 # ")),
    "hours below zero": Tampering(REFUSED, card(b"hours: ", b"hours: -1 # ")),
    "endless hours": Tampering(REFUSED, card(b"hours: ", b"hours: .inf # ")),
    "hours in Arabic": Tampering(REFUSED, card(b"hours: ", "hours: \u0663 # ".encode())),
    "parameters of the card": Tampering(NOTHING, card(b"hours: ", b"parameters: 5\nhours: ")),
    "a card that says yes": Tampering(REFUSED, card(b"hours: ", b"parameters: yes\nhours: ")),
    "a script among the authors": Tampering(NOTHING, card(b"- The usbench", b"- <script>x</script>")),
    "a record of a higher DSC": record(record_cases(lambda dsc: "0.99")),
    "a record of a DSC up by 9e-7": record(record_cases(lambda dsc: repr(float(dsc) + 9e-7))),
    "a record that was edited": record(lambda d: d.update(notes=["fine"]), resign=False),
    "a record of another archive": record(lambda d: d.update(sha256="0" * 64)),
    "a record of version 1": record(lambda d: d.update(schema=1)),
    "a record of version true": record(lambda d: d.update(schema=True)),
    "a record without a run": record(lambda d: d["found"].popitem()),
    "a record with tracks of its own": record(lambda d: d["tracks"].update(x="y"), NOTHING),
    "a record of other masks": record(lambda d: [o["masks"].clear() for o in d["found"].values()], NOTHING),
    "a record of few parameters": record(
        lambda d: [one["costs"].update(parameters=-5) for one in d["found"].values()]
    ),
    "a record without a day": record(lambda d: d.update(date="soon")),
    "a record that is nested": record_text("[" * 100_000),
    "a record that is a number": record_text("1"),
    "a record that is a folder": Tampering(REFUSED, record=folder_record),
    "a track with a DSC up by 9e-7": Tampering(
        NOTHING,
        lambda m: change_track(m, lambda d, rows: [r.update(dsc=r["dsc"] + 9e-7) for r in rows]),
        tracks=True,
    ),
    "a track with a DSC up by 2e-6": Tampering(
        REFUSED,
        lambda m: change_track(m, lambda d, rows: [r.update(dsc=r["dsc"] + 2e-6) for r in rows]),
        tracks=True,
    ),
    "a track at other levels": Tampering(
        REFUSED, lambda m: change_track(m, lambda d, r: d["conditions"][-1].update(level=0.01)), tracks=True
    ),
    "a track of another protocol": Tampering(
        REFUSED, lambda m: change_track(m, lambda d, rows: d.update(protocol="0" * 12)), tracks=True
    ),
    "a track that cost less than nothing": Tampering(
        REFUSED, lambda m: change_track(m, lambda d, rows: d["cost"].update(seconds=-1.0)), tracks=True
    ),
    "a track with a better mean": Tampering(
        REFUSED,
        lambda m: change_track(m, lambda d, rows: d["scores"].update(emm_avg=1.0), fit=False),
        tracks=True,
    ),
}  # fmt: skip
