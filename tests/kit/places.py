"""Where things of the project lie."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "kit" / "tiny_methods.py"
"""A plugin file with methods that train in a moment."""
