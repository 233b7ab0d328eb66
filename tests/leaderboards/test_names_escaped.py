"""Names that Markdown or LaTeX would take for their own are printed as they are."""

from __future__ import annotations

import re

import pytest

from usbench.leaderboards.formats import _markdown_section
from usbench.leaderboards.latex import _table, escape
from usbench.leaderboards.words import TextTable

NAMES = (
    "<img src=x onerror=alert(1)>",
    "[here](http://evil.example)",
    "![](http://evil.example/a.png)",
    "[a]: http://evil.example",
    "a|b",
    "`code`",
    "a\\|b",
    "one\n# two",
    "a\x1b[31m",
)


def table(name: str) -> TextTable:
    return TextTable(
        title=name,
        facts=name,
        columns=("method", "DSC"),
        words=("method",),
        rows=[{"method": name, "DSC": "0.5"}],
        notes=[name],
        unranked=[name],
    )


@pytest.mark.parametrize("name", NAMES)
def test_markdown_has_neither_html_nor_links_of_names(name):
    text = _markdown_section(table(name))
    assert "<img" not in text
    assert "\x1b" not in text
    assert not re.search(r"(?<!\\)\[[^\]]*\](\(|:)", text)
    assert not re.search(r"(?<!\\)`", text.replace("\\\\", ""))
    assert not [line for line in text.splitlines() if line.startswith("# ")]
    row = next(line for line in text.splitlines() if line.endswith(" 0.5 |"))
    assert len(re.findall(r"(?<!\\)\|", row.replace("\\\\", ""))) == 3


@pytest.mark.parametrize("name", [*NAMES, "50% of $a_b^c & {d} #~"])
def test_latex_has_no_command_of_a_name(name):
    text = escape(name)
    known = r"\\(text[a-z]+\{\}|[{}&%$#_])"
    assert not set(re.sub(known, "", text)) & set("\\{}&%$#_~^\n\x1b")
    comment = _table(TextTable("", f"{name}\n\\input{{evil}}", (), (), [], []))
    assert comment.startswith("% ")
    assert "\n" not in comment
