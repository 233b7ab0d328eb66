"""Subgroups of patients and classes: worked by hand, and what is refused."""

from __future__ import annotations

import csv
import gzip
import io
import json
import statistics

import nibabel
import numpy as np
import pytest
from kit.handmade import add_row, make_run, write_run
from PIL import Image

from usbench.errors import UsbenchError
from usbench.leaderboards import build
from usbench.leaderboards.formats import render_subgroups, write_subgroups
from usbench.leaderboards.subgroups import subgroup_tables

# DSC of liver and spleen.
DSC = {"p1": (0.9, 0.5), "p2": (0.8, 0.4), "p3": (0.7, 0.3), "p4": (0.6, float("nan"))}


@pytest.fixture
def runs(tmp_path):
    """Two seeds of one row; the second scores every patient 0.02 better."""
    for seed, more in ((0, 0.0), (1, 0.02)):
        for fold in (0, 1):
            names = list(DSC)[2 * fold : 2 * fold + 2]
            values = {name: tuple(value + more for value in DSC[name]) for name in names}
            make_run(tmp_path / "runs", "unet", fold=fold, seed=seed, dsc=values)
    return tmp_path / "runs"


def found(runs, kind, groups=None):
    (table,) = subgroup_tables(build(runs).tables, kind, groups)
    return {one.subgroup: one for one in table.scores}, table


def test_classes_are_means_over_seeds_then_patients(runs):
    classes, _ = found(runs, "class")
    assert list(classes) == ["liver", "spleen"]
    assert classes["liver"].dsc == pytest.approx(statistics.mean([0.91, 0.81, 0.71, 0.61]))
    assert (classes["liver"].n, classes["liver"].values) == (4, ())
    assert classes["liver"].low < classes["liver"].dsc < classes["liver"].high
    # p4 has no spleen: three patients are left, too few for an interval.
    assert classes["spleen"].n == 3
    assert classes["spleen"].low is None
    assert classes["spleen"].values == pytest.approx((0.31, 0.41, 0.51))


def test_groups_are_those_of_a_table_of_patients(runs, tmp_path):
    file = tmp_path / "groups.csv"
    file.write_text("case,site,sex\np1,Bern,f\np2,Bern,m\np3,Basel,f\np9,Genf,f\n")
    groups, table = found(runs, "group", file)
    assert {name: one.n for name, one in groups.items()} == {
        "site=Basel": 1, "site=Bern": 2, "sex=f": 2, "sex=m": 1
    }  # fmt: skip
    # A patient is the mean over its classes first: p1 0.71, p2 0.61.
    assert groups["site=Bern"].dsc == pytest.approx(0.66)
    assert table.notes == ("Without a value of site: p4.", "Without a value of sex: p4.")


def test_groups_are_those_of_a_task_file(runs, tmp_path):
    file = tmp_path / "task.yaml"
    file.write_text(
        "name: mine\nmodalities: {t1: '{case}_t1.nii.gz'}\nmask: '{case}_mask.nii.gz'\nclasses: {liver: 1}\n"
        "groups: {site: {p1: Bern, p4: Basel}}\n"
    )
    groups, _ = found(runs, "group", file)
    assert {name: one.n for name, one in groups.items()} == {"site=Basel": 1, "site=Bern": 1}


def test_sizes_are_thirds_of_the_true_volume(tmp_path):
    # Every class has 9 + 2 true voxels; voxels of 1 to 6 x 1000 mm3 make 11 to 66 ml.
    cases = {f"p{i}": {"liver": 0.1 * i} for i in range(1, 7)}
    files = {}
    for i, name in enumerate(cases, 1):
        image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.diag([10.0, -10.0, 10.0 * i, 1.0]))
        files[f"predictions/{name}.nii.gz"] = gzip.compress(image.to_bytes())
    write_run(tmp_path / "runs" / "one", cases, files=files)
    sizes, _ = found(tmp_path / "runs", "size")
    volumes = [11.0 * i for i in range(1, 7)]
    low, high = np.quantile(volumes, (1 / 3, 2 / 3))
    assert list(sizes) == [
        f"liver, small (up to {low:.3g} ml)", f"liver, medium (to {high:.3g} ml)",
        f"liver, large (over {high:.3g} ml)"
    ]  # fmt: skip
    assert [one.values for one in sizes.values()] == [
        pytest.approx(pair) for pair in ((0.1, 0.2), (0.3, 0.4), (0.5, 0.6))
    ]


def test_every_format_has_each_row_and_subgroup(runs, tmp_path):
    add_row(runs, "[odd] | $x$", [0.5, 0.6, 0.7, 0.8])
    board = build(runs)
    tables = subgroup_tables(board.tables, "class")
    lines = list(csv.DictReader(io.StringIO(render_subgroups(tables, board, "csv"))))
    assert len(lines) == 2 * sum(len(table.rows) for table in board.tables)
    spleen = next(line for line in lines if line["label"] == "unet" and line["subgroup"] == "spleen")
    assert (spleen["n"], spleen["low"], spleen["kind"]) == ("3", "", "class")
    assert [float(value) for value in spleen["values"].split(";")] == pytest.approx([0.31, 0.41, 0.51])
    plain = json.loads(render_subgroups(tables, board, "json"))
    assert [len(table["scores"]) for table in plain] == [2 * len(table.rows) for table in board.tables]
    text = render_subgroups(tables, board, "md")
    assert "0.310, 0.410, 0.510" in text
    assert "Below 4 there is no interval" in text
    assert "By class: chaos" in render_subgroups(tables, board, "table")
    with pytest.raises(UsbenchError, match="not as latex"):
        render_subgroups(tables, board, "latex")
    (path,) = write_subgroups(tables, board, tmp_path / "out")
    picture = np.asarray(Image.open(path).convert("RGB"))
    assert picture.shape[1] > 1000
    assert (picture.std(axis=2) > 20).sum() > 100


def test_what_is_not_known_is_refused(runs, tmp_path):
    tables = build(runs).tables
    with pytest.raises(
        UsbenchError, match="unknown kind of subgroup 'sex'; choose one of: class, group, size"
    ):
        subgroup_tables(tables, "sex")
    with pytest.raises(UsbenchError, match="--subgroups group: which patient is in which group"):
        subgroup_tables(tables, "group")
    with pytest.raises(UsbenchError, match="how large a voxel of case p1 is stands in its mask"):
        subgroup_tables(tables, "size")
    file = tmp_path / "groups.csv"
    file.write_text("case,site\nq1,Bern\n")
    with pytest.raises(UsbenchError, match="none of its groups names a patient of the table"):
        subgroup_tables(tables, "group", file)
    with pytest.raises(UsbenchError, match="goes with --subgroups group, not with class"):
        subgroup_tables(tables, "class", file)


def test_command_prints_and_draws_subgroups(runs, command, tmp_path):
    words = ("leaderboard", "--runs-dir", runs, "--subgroups", "class")
    done = command(*words, "--format", "csv", "--out", tmp_path / "out", "--no-pictures")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("table,kind,label,fusion,status,subgroup,n,dsc,low,high,values")
    assert (tmp_path / "out" / "leaderboard-subgroups.png").is_file()
    failed = command(*words, "--columns", "dsc")
    assert failed.returncode == 1
    assert "--subgroups prints tables of its own" in failed.stderr
