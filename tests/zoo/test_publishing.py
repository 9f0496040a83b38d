"""Push, pull, lock, export and import against a loopback Hub, with the real client in programs of their own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hub_store
import numpy as np
import pytest
from safetensors.numpy import save_file
from stzoo.core.weights.manifest import write_manifest

GOLDEN = Path(__file__).parent / "golden" / "v1"
CODE = "import sys, time; time.sleep = lambda s: None; from stzoo.cli.main import main; main()"


class Desk:
    """A user's machine: a working directory, a cache, and the Hub it talks to."""

    def __init__(self, hub: Any, folder: Path) -> None:
        self.hub, self.folder = hub, folder
        self.weights = folder / "weights"
        shutil.copytree(GOLDEN, self.weights)

    def zoo(self, *arguments: str, code: int = 0, home: str = "home", **variables: str) -> str:
        own = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
        done = subprocess.run(
            [sys.executable, "-c", CODE, "zoo", *arguments],
            env=own | hub_store.environment(self.hub, self.folder / home) | {"HF_TOKEN": hub_store.TOKEN} | variables,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def change(self) -> None:
        """Make other weights of the same kind: another card."""
        (self.weights / "README.md").write_text("# changed\n")
        (self.weights / "MANIFEST.json").unlink()
        write_manifest(self.weights)

    def locked(self) -> str:
        return (self.folder / "stzoo.lock").read_text()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with hub_store.serving() as hub:
        yield Desk(hub, tmp_path)


def test_what_is_pushed_is_what_is_pulled(desk):
    said = desk.zoo("push", "weights", "owner/toy")
    oid = desk.hub.repos["owner/toy"].branches["main"]
    assert f'stzoo.load("hf://owner/toy@{oid}")' in said
    assert "PUT /lfs" in desk.hub.requests
    desk.zoo("pull", f"hf://owner/toy@{oid}")
    snapshot = desk.folder / "home" / "hub" / "models--owner--toy" / "snapshots" / oid
    for path in desk.weights.iterdir():
        assert (snapshot / path.name).read_bytes() == path.read_bytes()
    assert "ok  hf://owner/toy" in desk.zoo("pull", f"hf://owner/toy@{oid}", HF_HUB_OFFLINE="1")


def test_a_push_replaces_what_was_there(desk):
    desk.hub.repos["owner/toy"] = hub_store.Repo()
    desk.hub.repos["owner/toy"].commit({"pytorch_model.bin": b"\x80\x04.", ".gitattributes": b""})
    desk.zoo("push", "weights", "owner/toy")
    oid, files = desk.hub.repos["owner/toy"].at("main")
    assert set(files) == {path.name for path in desk.weights.iterdir()} | {".gitattributes"}
    desk.zoo("pull", f"hf://owner/toy@{oid}")


def test_a_dry_run_asks_the_hub_nothing(desk):
    assert "would push" in desk.zoo("push", "weights", "owner/toy", "--dry-run")
    assert desk.hub.requests == []


def test_a_damaged_folder_is_not_published(desk):
    (desk.weights / "README.md").write_text("# another card\n")
    assert "README.md" in desk.zoo("push", "weights", "owner/toy", code=1)
    assert desk.hub.requests == []


def test_a_push_that_landed_wrong_is_noticed(desk):
    desk.hub.fault = "upload"
    assert "'model.safetensors' did not land as it was sent" in desk.zoo("push", "weights", "owner/toy", code=1)


@pytest.mark.parametrize("variables", [{"HF_TOKEN": "hf_other"}, {"HF_TOKEN": ""}])
def test_a_token_that_may_not_write(desk, variables):
    said = desk.zoo("push", "weights", "owner/toy", code=1, **variables)
    assert "hf auth login" in said


def test_a_branch_is_resolved_once(desk):
    first = desk.hub.publish("owner/toy", desk.weights)
    assert f"hf://owner/toy@{first}" in desk.zoo("pull", "hf://owner/toy")
    assert first in desk.locked()
    desk.change()
    second = desk.hub.publish("owner/toy", desk.weights)
    assert f"hf://owner/toy@{first}" in desk.zoo("pull", "hf://owner/toy")
    assert f"hf://owner/toy@{first}" in desk.zoo("pull")  # all that the lock file names
    desk.zoo("lock", "hf://owner/toy")
    assert second in desk.locked()
    assert first not in desk.locked()
    assert f"hf://owner/toy@{second}" in desk.zoo("pull", "hf://owner/toy")


def test_locked_allows_what_is_locked_and_nothing_else(desk):
    oid = desk.hub.publish("owner/toy", desk.weights)
    assert "is not in stzoo.lock" in desk.zoo("pull", "hf://owner/toy", "--locked", code=1)
    assert desk.hub.requests == []
    desk.zoo("lock", "hf://owner/toy", "comtip-tiny")
    desk.zoo("pull", "--locked")
    desk.zoo("pull", "hf://owner/toy", "--locked", HF_HUB_OFFLINE="1")
    assert "is not in stzoo.lock" in desk.zoo("pull", f"hf://owner/toy@{oid}", "--locked", code=1)


def test_a_lock_that_names_other_bytes_wins(desk):
    desk.zoo("lock", "file://weights")
    desk.zoo("pull", "file://weights")
    desk.change()
    assert "'README.md' differs" in desk.zoo("pull", "file://weights", code=1)


@pytest.mark.parametrize(
    ("text", "what", "code"),
    [("version: 2\n", "version 2", 1), ("wights: {}\n", "unknown key 'wights'", 2), ("[", "not readable as YAML", 2)],
)
def test_a_broken_lock_file_says_where(desk, text, what, code):
    (desk.folder / "stzoo.lock").write_text(text)
    said = desk.zoo("pull", "comtip-tiny", code=code)
    assert what in said
    assert "stzoo.lock" in said


def test_a_bundle_travels_without_a_network(desk):
    oid = desk.hub.publish("owner/toy", desk.weights)
    desk.zoo("export", f"hf://owner/toy@{oid}", "--out", "toy.tar")
    desk.zoo("export", f"hf://owner/toy@{oid}", "--out", "again.tar")
    assert (desk.folder / "toy.tar").read_bytes() == (desk.folder / "again.tar").read_bytes()
    asked = len(desk.hub.requests)
    said = desk.zoo("import", "toy.tar", home="other", HF_HUB_OFFLINE="1")
    assert f'stzoo.load("hf://owner/toy@{oid}")' in said
    desk.zoo("verify", f"hf://owner/toy@{oid}", home="other", HF_HUB_OFFLINE="1")
    snapshot = desk.folder / "other" / "hub" / "models--owner--toy" / "snapshots" / oid
    for path in desk.weights.iterdir():
        assert (snapshot / path.name).read_bytes() == path.read_bytes()
    assert len(desk.hub.requests) == asked


def test_packaged_weights_travel_as_a_folder(desk):
    desk.zoo("export", "comtip-tiny", "--out", "tiny.tar")
    assert "--out FOLDER" in desk.zoo("import", "tiny.tar", code=2)
    desk.zoo("import", "tiny.tar", "--out", "tiny")
    desk.zoo("verify", "tiny")


def _tampered(path: Path, out: Path, how: str) -> None:
    """Copy a bundle with one thing wrong."""
    with tarfile.open(path) as old, tarfile.open(out, "w") as new:
        for member in old.getmembers():
            data = old.extractfile(member).read()
            if member.name == "bundle.json" and how == "climbs":
                data = data.replace(b'"README.md"', b'"../README.md"')
            if member.name == "README.md":
                if how == "missing":
                    continue
                if how == "changed":
                    data = b"X" + data[1:]
                if how == "link":
                    member.type, member.linkname, data = tarfile.SYMTYPE, "/etc/passwd", b""
                if how == "climbs":
                    member.name = "../README.md"
            member.size = len(data)
            new.addfile(member, __import__("io").BytesIO(data))
        if how == "extra":
            new.addfile(tarfile.TarInfo("modeling.py"))


@pytest.mark.parametrize("how", ["missing", "changed", "link", "climbs", "extra", "cut", "text"])
def test_a_bundle_is_not_believed(desk, how):
    desk.zoo("export", "file://weights", "--out", "toy.tar")
    bad = desk.folder / "bad.tar"
    if how in ("cut", "text"):
        data = (desk.folder / "toy.tar").read_bytes()
        bad.write_bytes(data[: len(data) // 2] if how == "cut" else b"not a tar\n")
    else:
        _tampered(desk.folder / "toy.tar", bad, how)
    before = {path.name for path in desk.folder.iterdir()}
    assert "bad.tar" in desk.zoo("import", "bad.tar", "--out", "there/inside", code=1)
    assert not list(desk.folder.glob("there/*"))
    assert {path.name for path in desk.folder.iterdir()} - before <= {"there"}


def test_remove_forgets_a_download_and_nothing_else(desk):
    first = desk.hub.publish("owner/toy", desk.weights)
    desk.change()
    second = desk.hub.publish("owner/toy", desk.weights)
    for oid in (first, second):
        desk.zoo("pull", f"hf://owner/toy@{oid}")
    assert "removed" in desk.zoo("remove", f"hf://owner/toy@{first}")
    assert "not on this machine" in desk.zoo("remove", f"hf://owner/toy@{first}", code=1)
    desk.zoo("verify", f"hf://owner/toy@{second}", HF_HUB_OFFLINE="1")
    assert "pip uninstall" in desk.zoo("remove", "comtip-tiny", code=2)


def test_a_cut_connection_is_resumed(desk):
    save_file({"w": np.arange(6_000_000, dtype=np.float32)}, desk.weights / "model.safetensors")
    (desk.weights / "MANIFEST.json").unlink()
    write_manifest(desk.weights)
    desk.hub.publish("owner/toy", desk.weights)
    desk.hub.fault = "cut once"
    desk.zoo("pull", "hf://owner/toy")
    assert any(re.search(r"GET .*model.safetensors bytes=[1-9]", request) for request in desk.hub.requests)
