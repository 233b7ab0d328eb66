"""The layout of the Decathlon as a task file: a file of four axes a case, its channels the modalities."""

from __future__ import annotations

from pathlib import Path

from usbench.contracts.files import MASK, ScanFiles
from usbench.datasets.imports.proposal import Part, Proposal, safe_part, words_for
from usbench.datasets.readers.description import load_description


def propose(folder: Path) -> Proposal:
    """What dataset.json says. Raises `UsbenchError` naming the key that is wrong."""
    said = load_description(folder)
    proposal = Proposal("msd", folder, title=said.title, licence=said.licence, citation=said.reference)
    several = len(said.channels) > 1
    for number, channel in enumerate(said.channels):
        name = safe_part(channel, "channel")
        proposal.scans.append(ScanFiles(name, "", number if several else None))
        proposal.words[name] = words_for(channel)
    proposal.classes = {safe_part(name, "class"): Part(labels, name) for name, labels in said.labels.items()}
    names = [scan.name for scan in proposal.scans]
    for entry in said.entries:
        image, mask = (file.relative_to(folder).as_posix() for file in (entry.image, entry.label))
        proposal.cases[entry.case_id] = {**dict.fromkeys(names, image), MASK: mask}
    return proposal
