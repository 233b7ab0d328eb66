"""Zeus with the weights that pip can fetch, as a user runs it. They are named by USBENCH_WEIGHTS."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import usbench
from usbench.results.io import load_result


@pytest.fixture
def bundled() -> None:
    folder = Path(os.environ.get("USBENCH_WEIGHTS", "/nowhere"))
    if not (folder / "SmolLM2-135M-Instruct.Q4_1.gguf").is_file() or not (folder / "minilm").is_dir():
        pytest.skip("USBENCH_WEIGHTS names no folder of `usbench weights fetch --set bundled`")


@pytest.mark.slow
@pytest.mark.usefixtures("bundled")
def test_bundled_run_learns_and_shares_its_features(
    command: Any, small_prostate: Path, tmp_path: Path
) -> None:
    words = [
        "run", "--method", "zeus", "--task", "msd-prostate", "--data-dir", small_prostate,
        "--preset", "smoke", "--set", "method.size=64", "--set", "data.size=64", "--set", "train.epochs=6",
        "--runs-dir", tmp_path / "runs",
    ]  # fmt: skip
    # What another test told of the same phantom must not lie in the cache.
    own = {"USBENCH_CACHE": str(tmp_path / "cache")}
    late = command(*words, "--fusion", "late", timeout=600, **own)
    assert late.returncode == 0, late.stderr
    assert "image embeddings (litemedsam)" in late.stderr
    assert "loading the language model smollm2" in late.stderr
    hybrid = command(*words, "--fusion", "hybrid", timeout=600, **own)
    assert hybrid.returncode == 0, hybrid.stderr
    assert "image embeddings" not in hybrid.stderr
    assert "loading the language model" not in hybrid.stderr
    for fusion in ("late", "hybrid"):
        file = next((tmp_path / "runs").glob(f"*/zeus-{fusion}/*/result.json"))
        result = load_result(file)
        assert result.scores["dsc"] > 0.6, fusion
        assert result.data["method"]["weights"] == "bundled"
        notes = json.loads((file.parent / "notes.json").read_text())
        texts = {row["text"] for note in notes.values() for row in note["instruction"]}
        assert len(texts) == 2  # One a modality.
        assert all("prostate" in text.lower() for text in texts)
    table = usbench.leaderboard(tmp_path / "runs").tables[0]
    assert {row.label for row in table.rows} == {"zeus [bundled]"}


@pytest.mark.slow
@pytest.mark.usefixtures("bundled")
def test_bundled_embeddings_train_the_projection(small_prostate: Path, tmp_path: Path) -> None:
    result = usbench.run(
        "zeus", "hybrid", "msd-prostate", data_dir=small_prostate, preset="smoke", device="cpu", limit=2,
        runs_dir=tmp_path,
        settings={
            "method.instruction": "embedding", "method.per": "case", "train.epochs": 1, "train.min_batches": 1
        },
    )[0]  # fmt: skip
    assert result.data["cost"]["trainable"] == 4_146_880
    assert 0 <= result.scores["dsc"] <= 1
