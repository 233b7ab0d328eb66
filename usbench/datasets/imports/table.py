"""A table with a row a case: a column "case", one a modality with its files, one "mask", others as groups."""

from __future__ import annotations

from pathlib import Path

from usbench.contracts.files import MASK, ScanFiles
from usbench.datasets.case_table import read_case_table
from usbench.datasets.imports.proposal import Proposal, safe_part, words_for
from usbench.datasets.readers.patterns import SUFFIXES
from usbench.errors import UsbenchError, unknown


def propose(table_file: Path, chosen: dict[str, str], mask: str = "") -> Proposal:
    """The modalities, masks and groups of a table; names of files are relative to its folder.

    Args:
        table_file: CSV or TSV.
        chosen: by name of a modality, its column; empty for all columns with NIfTI files.
        mask: the column of the masks; "" for the one called so.

    Raises:
        UsbenchError: where a column is not there, or none holds files.
    """
    table = read_case_table(table_file)
    mask = mask or next((name for name in table.columns if name.lower() == MASK), "")
    if not mask:
        raise UsbenchError(f"{table_file}: has no column 'mask'; add it, or name another with --mask COLUMN")
    for column in (*chosen.values(), mask):
        if column not in table.columns:
            raise UsbenchError(f"{table_file}: {unknown('column', column, table.columns)}")
    files = {
        column
        for column in table.columns
        if any(row[column].endswith(SUFFIXES) for row in table.rows.values())
    }
    if not chosen:
        chosen = {safe_part(name, "column"): name for name in table.columns if name in files - {mask}}
    if not chosen:
        raise UsbenchError(f"{table_file}: no column besides the mask names .nii.gz or .nii files; add one")
    proposal = Proposal("csv", table_file.parent, scans=[ScanFiles(name) for name in chosen])
    proposal.words = {name: words_for(name) for name in chosen}
    for case, row in table.rows.items():
        named = {**{name: row[column] for name, column in chosen.items()}, MASK: row[mask]}
        proposal.cases[case] = {name: file for name, file in named.items() if file}
    for column in table.columns:
        if column not in files | {mask, *chosen.values()}:
            proposal.groups[column] = {case: row[column] for case, row in table.rows.items() if row[column]}
    return proposal
