"""Which packages a Python interpreter has, this one or another."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Mapping

from usbench.errors import UsbenchError

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


def require_packages(method: str, python: str, versions: Mapping[str, str], install: str = "") -> None:
    """Hold the packages of an interpreter against those that a method was written for.

    Args:
        method: Its name.
        python: The interpreter; it is run once.
        versions: By package the one version that will do.
        install: What `pip install` is told; by default each package with its version.

    Raises:
        UsbenchError: One line with the command that installs them, or where it is no interpreter.
    """
    found = _versions(python, list(versions))
    wrong = [
        f"{name} {found[name]}" if found[name] else f"{name} is not installed"
        for name, version in versions.items()
        if found[name] != version
    ]
    if wrong:
        pins = " ".join(shlex.quote(f"{name}=={version}") for name, version in versions.items())
        raise UsbenchError(
            f"method {method}: in {python} {' and '.join(wrong)}, and it needs "
            f"{' and '.join(f'{name} {version}' for name, version in versions.items())}; "
            f"install {'them' if len(versions) > 1 else 'it'}: {shlex.quote(python)} -m pip install "
            f"{install or pins}"
        )


def _versions(python: str, names: list[str]) -> dict[str, str | None]:
    try:
        done = subprocess.run(
            [python, "-c", _ASK, *names],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=_SECONDS,
            errors="replace",
        )
        found = json.loads(done.stdout.strip().splitlines()[-1])
        return {name: found[name] for name in names}
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError, KeyError, TypeError):
        raise UsbenchError(
            f"method.python={python}: does not answer as a Python interpreter; give the path of one"
        ) from None
