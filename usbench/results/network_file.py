"""Which file of a run holds its trained network, and whether it is still there."""

from __future__ import annotations

from typing import Literal

from usbench.results.result import Result

NETWORK = "network.safetensors"
"""The weights of a trained network, in the folder of its run."""

OLD_NETWORK = "weights.pt"
"""What older versions of usbench wrote."""

NETWORKS = (NETWORK, OLD_NETWORK)


def is_outside(result: Result) -> bool:
    """Whether another program made the masks of a run: an outside pipeline, or somebody elsewhere."""
    return "outside" in result.data


NO_NETWORK = "has masks of another program and no network of usbench, so there is nothing to predict with"
"""The end of a sentence about such a run."""


def network_state(result: Result) -> Literal["kept", "removed", "never"]:
    """Whether a run still has its trained network.

    Args:
        result: of the run.

    Returns:
        "kept" where the file is there, "removed" where the run wrote it and it is gone (`usbench prune`
        removes such files), "never" where the run kept none.
    """
    named = [name for name in NETWORKS if name in result.data["files"]]
    if not named:
        return "never"
    return "kept" if (result.path / named[0]).is_file() else "removed"
