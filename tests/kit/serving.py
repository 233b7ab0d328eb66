"""A server on this machine, and archives for it to serve."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import io
import re
import tarfile
import threading
import zipfile

from usbench.contracts.data import Download, Task
from usbench.datasets.tasks import get_task

TASK = get_task("msd-prostate")


CONTENT = {
    "Task05_Prostate/dataset.json": b"{}",
    "Task05_Prostate/imagesTr/a.nii.gz": bytes(range(256)) * 800,
    "Task05_Prostate/labelsTr/a.nii.gz": b"mask",
}


class Server:
    """Serves one file; the attributes from `ranges` to `length` make it misbehave.

    `cut`: stop after so many bytes. `reason`: of an error. `length`: whether the size is stated.
    """

    def __init__(self) -> None:
        self.content = b""
        self.ranges = True
        self.cut: int | None = None
        self.status = 200
        self.reason: str | None = None
        self.length = True
        self.asked: list[str | None] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                outer.asked.append(asked)
                if outer.status != 200:
                    self.send_error(outer.status, outer.reason)
                    return
                start = 0
                if asked and outer.ranges:
                    start = int(re.fullmatch(r"bytes=([0-9]+)-", asked)[1])
                    if start >= len(outer.content):
                        self.send_response(416)
                        self.send_header("Content-Range", f"bytes */{len(outer.content)}")
                        self.end_headers()
                        return
                    self.send_response(206)
                    end = len(outer.content) - 1
                    self.send_header("Content-Range", f"bytes {start}-{end}/{len(outer.content)}")
                else:
                    self.send_response(200)
                body = outer.content[start:]
                if outer.length:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: outer.cut])

            def log_message(self, *args: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def task(self, content: bytes, name: str = "set.tar", **wrong: object) -> Task:
        """The task whose archive this server now serves."""
        self.content = content
        facts = {
            "url": f"http://127.0.0.1:{self.http.server_port}/files/{name}",
            "bytes": len(content),
            "md5": hashlib.md5(content).hexdigest(),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        return dataclasses.replace(TASK, download=Download(**{**facts, **wrong}))


def tar(content: dict[str, bytes], *more: tarfile.TarInfo) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in more:
            archive.addfile(info)
    return stream.getvalue()


def zipped(content: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return stream.getvalue()


def damaged(content: bytes) -> bytes:
    middle = len(content) // 3
    return content[:middle] + bytes(b ^ 255 for b in content[middle : middle + 20]) + content[middle + 20 :]
