"""Write docs/result.schema.json, the JSON schema of a result.json, from the model that results are read with.

Usage: python docs/make_schema.py
"""

from __future__ import annotations

import json
from pathlib import Path

from usbench.results.schema import json_schema

FILE = Path(__file__).with_name("result.schema.json")


def text() -> str:
    """The content of the file."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
    print(FILE)
