"""Whether an interpreter has the nnU-Net that usbench drives."""

from __future__ import annotations

import json
import shlex
import subprocess

from usbench import UsbenchError

VERSIONS = {"nnunetv2": "2.7.0", "dynamic-network-architectures": "0.4.2"}
_ASK = """
import importlib.metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found[name] = None
print("\\n" + json.dumps(found))
"""
_SECONDS = 120


def check_installed(python: str, own: bool) -> None:
    """That the packages are there in the versions that the program was written for.

    Args:
        python: The interpreter.
        own: Whether it is the one that runs usbench, whose extra then has them.

    Raises:
        UsbenchError: One line with the command that installs them.
    """
    found = _versions(python)
    wrong = [
        f"{name} {found[name]}" if found[name] else f"{name} is not installed"
        for name, version in VERSIONS.items()
        if found[name] != version
    ]
    if not wrong:
        return
    pins = " ".join(shlex.quote(f"{name}=={version}") for name, version in VERSIONS.items())
    what = "'usbench[nnunet]'" if own else pins
    raise UsbenchError(
        f"method nnunet: in {python} {' and '.join(wrong)}, and it needs "
        f"{' and '.join(f'{name} {version}' for name, version in VERSIONS.items())}; "
        f"install them: {shlex.quote(python)} -m pip install {what}"
    )


def _versions(python: str) -> dict[str, str | None]:
    command = [python, "-c", _ASK, *VERSIONS]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=_SECONDS,
            errors="replace",
        )
        found = json.loads(done.stdout.strip().splitlines()[-1])
        return {name: found[name] for name in VERSIONS}
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError, KeyError, TypeError):
        raise UsbenchError(
            f"method.python={python}: does not answer as a Python interpreter; give the path of one"
        ) from None
