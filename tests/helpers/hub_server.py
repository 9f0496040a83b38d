"""A loopback server that speaks the routes of the Hub that downloads use, and their faults."""

from __future__ import annotations

import hashlib
import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import ClassVar

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Serve :attr:`folder` as ``owner/toy``; :attr:`fault` says what goes wrong."""

    protocol_version = "HTTP/1.1"
    folder: ClassVar[Path]
    fault: ClassVar[str] = ""
    requests: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = self.path.split("?")[0]
        type(self).requests.append(f"{self.command} {path}")
        if self.fault in _REFUSALS:
            status, code = _REFUSALS[self.fault]
            return self.send(status, b"{}", body, {"X-Error-Code": code} if code else {})
        if not path.startswith(("/api/models/owner/toy", "/owner/toy")):
            return self.send(404, b"{}", body, {"X-Error-Code": "RepoNotFound"})
        if path.startswith("/api/"):
            if path.rsplit("/", 1)[-1] not in (COMMIT, "main"):
                return self.send(404, b"{}", body, {"X-Error-Code": "RevisionNotFound"})
            if "/tree/" in path:
                return self.send(200, json.dumps([self.entry(p) for p in self.files()]).encode(), body, {})
            siblings = [{"rfilename": p.name} for p in self.files()]
            info = {"id": "owner/toy", "modelId": "owner/toy", "sha": COMMIT, "siblings": siblings, "tags": []}
            return self.send(200, json.dumps(info).encode(), body, {})
        return self.send_file(self.folder / path.rsplit("/", 1)[-1], body)

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if path.is_file())

    def entry(self, path: Path) -> dict[str, object]:
        return {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": _oid(path)}

    def send_file(self, path: Path, body: bool) -> None:
        if not path.is_file():
            return self.send(404, b"", body, {"X-Error-Code": "EntryNotFound"})
        data = path.read_bytes()
        headers = {"ETag": f'"{_oid(path)}"', "X-Repo-Commit": COMMIT, "Content-Type": "application/octet-stream"}
        if path.name == "model.safetensors":
            if self.fault == "flip":
                data = data[:-1] + bytes([data[-1] ^ 1])
            if self.fault == "cut" and body:
                self.send_response(200)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data[: len(data) // 2])
                self.close_connection = True
                return None
        return self.send(200, data, body, headers)

    def send(self, status: int, data: bytes, body: bool, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), "Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


_REFUSALS = {
    "gated": (403, "GatedRepo"),
    "missing": (404, "RepoNotFound"),
    "private": (401, ""),
    "error": (500, ""),
    "busy": (429, ""),
}


def _oid(path: Path) -> str:
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
