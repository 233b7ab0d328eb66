"""A DICOM file as its elements, whose size is known before anything is unpacked."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

from usbench.storage.regular import read_bounded

MOST_BYTES = 256 << 20
"""Of a file, and of what a file with a deflated transfer syntax unpacks to: one slice of the largest kind."""

_PREAMBLE = 128 + 4


def read_dicom(path: Path) -> Any:
    """Read a DICOM file.

    pydicom unpacks a deflated transfer syntax whole, however much it is; here it is bounded, and the data set
    that is returned says that it is not deflated.

    Args:
        path: Of the file.

    Returns:
        A `pydicom.FileDataset`.

    Raises:
        OSError: Where it is not there, is no regular file, or is too large.
        pydicom.errors.InvalidDicomError: Where it is no DICOM file.
        Exception: Of any kind that pydicom raises for a broken file; `ValueError` where it does not unpack.
    """
    import pydicom
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    content = read_bounded(path, MOST_BYTES)
    meta = pydicom.filereader.read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        content = _inflated(content, meta)
    return pydicom.dcmread(io.BytesIO(content))


def _inflated(content: bytes, meta: Any) -> bytes:
    """The same file in the transfer syntax that only lacks the compression (DICOM PS3.5 A.5)."""
    from pydicom.filewriter import write_file_meta_info
    from pydicom.uid import ExplicitVRLittleEndian

    # The group's length counts what follows its own element of 12 bytes.
    start = _PREAMBLE + 12 + int(meta.get("FileMetaInformationGroupLength") or 0)
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = unpacker.decompress(content[start:], MOST_BYTES + 1)
    except zlib.error as error:
        raise ValueError(f"its deflated elements cannot be unpacked ({error})") from error
    if len(data) > MOST_BYTES:
        raise ValueError(f"its elements unpack to more than the {MOST_BYTES:,} bytes that are read")
    if not unpacker.eof:
        raise ValueError("its deflated elements are cut short")
    out = io.BytesIO()
    out.write(content[:_PREAMBLE])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    write_file_meta_info(out, meta, enforce_standard=False)  # type: ignore[arg-type]
    return out.getvalue() + data
