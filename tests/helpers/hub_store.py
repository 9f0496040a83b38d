"""A loopback Hub that keeps repositories: commits, branches, large files, tokens; and what can go wrong with it.

It speaks the routes that ``huggingface_hub`` uses to list, download, create and upload (HF_HUB_DISABLE_XET=1).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

TOKEN = "hf_good"
Files = dict[str, bytes]


@dataclass
class Repo:
    """Commits in order, and where branches stand."""

    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Files, branch: str = "main") -> str:
        number = f"{len(self.commits)}{sorted((n, hashlib.sha1(d).hexdigest()) for n, d in files.items())}"
        oid = hashlib.sha1(number.encode()).hexdigest()
        self.commits[oid], self.branches[branch] = dict(files), oid
        return oid

    def at(self, revision: str) -> tuple[str, Files] | None:
        oid = self.branches.get(revision, revision)
        return (oid, self.commits[oid]) if oid in self.commits else None


@dataclass
class Hub:
    """The state of a Hub; ``fault`` says what goes wrong from now on."""

    url: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    large: Files = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    fault: str = ""
    slow: float = 0.0
    """Seconds to wait between pieces of a large file."""

    def publish(self, repo: str, folder: Path, branch: str = "main") -> str:
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        return self.repos.setdefault(repo, Repo()).commit(files, branch)


REFUSALS = {
    "401": (401, ""),
    "403": (403, ""),
    "gated": (403, "GatedRepo"),
    "404": (404, "RepoNotFound"),
    "429": (429, ""),
    "500": (500, ""),
}
PIECE = 1 << 16


class Handler(BaseHTTPRequestHandler):
    """Answers for :attr:`hub`."""

    protocol_version = "HTTP/1.1"
    hub: ClassVar[Hub]

    def do_HEAD(self) -> None:
        self.read(body=False)

    def do_GET(self) -> None:
        self.read(body=True)

    def read(self, *, body: bool) -> None:
        path = self.path.split("?")[0]
        self.hub.requests.append(f"{self.command} {path} {self.headers.get('Range', '')}".strip())
        if self.refused():
            return
        if path == "/api/whoami-v2":
            return self.json({"type": "user", "name": "owner", "orgs": []})
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+?)(?:/(revision|tree)/([^/]+))?", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        name, revision = (api[1], api[3] or "main") if api else (file[1], file[2]) if file else ("", "")
        repo = self.hub.repos.get(name)
        if repo is None:
            return self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body=body)
        found = repo.at(revision)
        if found is None:
            return self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, body=body)
        oid, files = found
        if file:
            return self.file(oid, file[3], files, body=body)
        if api and api[2] == "tree":
            return self.json([_entry(n, d) for n, d in sorted(files.items())])
        siblings = [{"rfilename": n} for n in sorted(files)]
        return self.json({"id": name, "modelId": name, "sha": oid, "siblings": siblings, "tags": []})

    def file(self, oid: str, name: str, files: Files, *, body: bool) -> None:
        if name not in files:
            return self.send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": oid}, body=body)
        data = files[name]
        headers = {"ETag": f'"{_etag(name, data)}"', "X-Repo-Commit": oid, "Accept-Ranges": "bytes"}
        large = name.endswith(".safetensors")
        if large:
            headers |= {"X-Linked-Etag": f'"{_etag(name, data)}"', "X-Linked-Size": str(len(data))}
        if large and self.hub.fault == "flip":
            data = data[:-1] + bytes([data[-1] ^ 1])
        start = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        cut = len(data) // 2 if large and body and self.hub.fault in ("cut", "cut once") else None
        if self.hub.fault == "cut once" and cut is not None:
            self.hub.fault = ""
        self.send(206 if start else 200, data[start:], headers, body=body, cut=cut)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.split("?")[0]
        self.hub.requests.append(f"POST {path}")
        if self.refused():
            return
        if path == "/api/validate-yaml":
            return self.json({"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.send(401, b"{}", {})
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'owner'}/{asked['name']}"
            if name in self.hub.repos:
                return self.json({"url": f"{self.hub.url}/{name}", "name": name}, 409)
            self.hub.repos[name] = Repo({}, {})
            self.hub.repos[name].commit({".gitattributes": b"*.safetensors filter=lfs\n"})
            return self.json({"url": f"{self.hub.url}/{name}", "name": name})
        if path.endswith("/info/lfs/objects/batch"):
            return self.json({"transfer": "basic", "objects": [self.upload(o) for o in json.loads(body)["objects"]]})
        if path == "/lfs-verify":
            return self.json({}, 200 if json.loads(body)["oid"] in self.hub.large else 404)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/([^/]+)", path):
            if match[2] == "preupload":
                asked = json.loads(body)["files"]
                return self.json({"files": [_mode(item["path"]) for item in asked]})
            return self.committed(match[1], match[3], body.decode().splitlines())
        return self.send(404, b"{}", {})

    def upload(self, wanted: dict[str, object]) -> dict[str, object]:
        oid = str(wanted["oid"])
        if oid in self.hub.large:
            return {**wanted}
        actions = {"upload": {"href": f"{self.hub.url}/lfs/{oid}"}, "verify": {"href": f"{self.hub.url}/lfs-verify"}}
        return {**wanted, "authenticated": True, "actions": actions}

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        oid = self.path.rsplit("/", 1)[-1]
        self.hub.requests.append("PUT /lfs")
        self.hub.large[oid] = data[:-1] + b"\0" if self.hub.fault == "upload" else data
        self.send(200, b"", {})

    def committed(self, name: str, branch: str, lines: list[str]) -> None:
        repo = self.hub.repos[name]
        files = dict((repo.at(branch) or ("", {}))[1])
        for line in lines:
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif item["key"] == "deletedFile":
                files.pop(value["path"], None)
        oid = repo.commit(files, branch)
        self.json(
            {"commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "commitOid": oid, "hookOutput": "", "success": True}
        )

    def refused(self) -> bool:
        if self.hub.fault == "timeout":
            time.sleep(30)
            self.close_connection = True
            return True
        if self.hub.fault in REFUSALS:
            status, code = REFUSALS[self.hub.fault]
            self.send(status, b"{}", {"X-Error-Code": code} if code else {}, body=self.command != "HEAD")
            return True
        return False

    def json(self, value: object, status: int = 200) -> None:
        self.send(status, json.dumps(value).encode(), {"Content-Type": "application/json"}, body=self.command != "HEAD")

    def send(
        self, status: int, data: bytes, headers: dict[str, str], *, body: bool = True, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if not body:
            return
        shown = data if cut is None else data[:cut]
        for start in range(0, len(shown), PIECE):
            self.wfile.write(shown[start : start + PIECE])
            time.sleep(self.hub.slow)
        if cut is not None:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """A server that a client may leave at any moment."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients are killed on purpose."""


@contextmanager
def serving() -> Iterator[Hub]:
    """Run a Hub of its own on a free port."""
    hub = Hub()
    server = Server(("127.0.0.1", 0), type("Own", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def environment(hub: Hub, home: Path) -> dict[str, str]:
    """Return the variables under which the real client talks to this Hub."""
    return {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
    }


def _etag(name: str, data: bytes) -> str:
    if name.endswith(".safetensors"):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _entry(name: str, data: bytes) -> dict[str, object]:
    oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    entry: dict[str, object] = {"type": "file", "path": name, "size": len(data), "oid": oid}
    if name.endswith(".safetensors"):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return entry


def _mode(path: str) -> dict[str, object]:
    return {"path": path, "uploadMode": "lfs" if path.endswith(".safetensors") else "regular", "shouldIgnore": False}
