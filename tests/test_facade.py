"""What `import usbench` gives."""

from __future__ import annotations

import subprocess
import sys


def test_public_names_come_lazily() -> None:
    code = (
        "import sys, usbench; names = ('Task', 'Modality', 'Structure', 'Case', 'Reader'); "
        "[getattr(usbench, name) for name in names]; assert 'torch' not in sys.modules; usbench.Fusion"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
