"""Downloads from a loopback Hub with the real client; each in a program of its own, as the client reads its
environment once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import hub_server
import pytest
from stzoo.core.weights.manifest import write_manifest

ADDRESS = f"hf://owner/toy@{hub_server.COMMIT}"
GOLDEN = Path(__file__).parent / "golden" / "v1"


class Loopback:
    """A server of a copy of the golden repository, and the command line that pulls from it."""

    def __init__(self, handler: type, server: ThreadingHTTPServer, home: Path) -> None:
        self.handler, self.server, self.home = handler, server, home

    def verify(self, address: str = ADDRESS, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))} | {
            "HF_ENDPOINT": f"http://127.0.0.1:{self.server.server_port}",
            "HF_HOME": str(self.home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
            **variables,
        }
        # the client waits between its tries; the tests do not
        code = "import sys, time; time.sleep = lambda s: None; from stzoo.cli.main import main; main()"
        command = [sys.executable, "-c", code, "zoo", "verify", address]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    @property
    def snapshot(self) -> Path:
        return self.home / "hub" / "models--owner--toy" / "snapshots" / hub_server.COMMIT


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Loopback]:
    folder = tmp_path / "published"
    folder.mkdir()
    for path in GOLDEN.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    handler = type("Handler", (hub_server.Hub,), {"folder": folder, "requests": [], "fault": ""})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Loopback(handler, server, tmp_path / "home")
    server.shutdown()
    server.server_close()


def test_a_commit_is_pulled_once_and_verified(hub):
    first = hub.verify()
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("ok  ") == 4
    asked = len(hub.handler.requests)
    assert asked > 0
    again = hub.verify()
    assert again.stdout == first.stdout
    assert len(hub.handler.requests) == asked
    assert hub.verify(HF_HUB_OFFLINE="1").stdout == first.stdout
    straight = hub.verify(str(hub.snapshot))
    assert straight.stdout == first.stdout


def test_a_same_length_corruption_is_detected_and_not_kept(hub):
    hub.handler.fault = "flip"
    bad = hub.verify()
    assert bad.returncode == 1
    assert "model.safetensors is not the file that was published" in bad.stderr
    assert "the download is removed: run again" in bad.stderr
    assert not hub.snapshot.exists()
    hub.handler.fault = ""
    assert hub.verify().returncode == 0


def test_a_file_that_rots_in_the_cache_is_downloaded_again(hub):
    assert hub.verify().returncode == 0
    blob = (hub.snapshot / "model.safetensors").resolve()
    data = blob.read_bytes()
    blob.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert "the download is removed" in hub.verify(HF_HUB_OFFLINE="1").stderr
    assert hub.verify().returncode == 0


def test_a_pickle_on_the_hub_is_refused(hub):
    (hub.handler.folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    bad = hub.verify()
    assert bad.returncode == 1
    assert "'pytorch_model.bin' looks like a pickle" in bad.stderr


def test_a_repository_that_is_not_ours_says_so(hub):
    (hub.handler.folder / "MANIFEST.json").unlink()
    bad = hub.verify()
    assert bad.returncode == 1
    assert "no MANIFEST.json, so this is no repository of weights" in bad.stderr


def test_what_was_published_by_hand_verifies_when_sealed(hub):
    (hub.handler.folder / "words.txt").write_text("three")
    (hub.handler.folder / "MANIFEST.json").unlink()
    (hub.handler.folder / ".gitattributes").unlink()
    write_manifest(hub.handler.folder)
    assert hub.verify().returncode == 0


@pytest.mark.parametrize(
    ("fault", "what", "todo"),
    [
        ("gated", "the repository is gated", "hf auth login"),
        ("missing", "no such repository, or it is private", "check the name"),
        ("private", "no such repository, or it is private", "hf auth login"),
        ("error", "the Hub answered 500", "run again"),
        ("busy", "the Hub answered 429", "run again"),
    ],
)
def test_a_refusal_says_what_to_do(hub, fault, what, todo):
    hub.handler.fault = fault
    bad = hub.verify()
    assert bad.returncode == 1
    assert what in bad.stderr
    assert todo in bad.stderr
    assert "Traceback" not in bad.stderr


def test_a_commit_that_is_not_there(hub):
    bad = hub.verify(f"hf://owner/toy@{'f' * 40}")
    assert (bad.returncode, "no commit ffff" in bad.stderr) == (1, True), bad.stderr


def test_no_network_and_nothing_cached(hub):
    for variables in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        bad = hub.verify(**variables)
        assert bad.returncode == 1
        assert "not on this machine, and the Hub can not be reached" in bad.stderr
        assert "Traceback" not in bad.stderr


def test_a_connection_that_is_cut_leaves_nothing_half_written(hub):
    hub.handler.fault = "cut"
    bad = hub.verify()
    assert bad.returncode == 1
    assert "run again" in bad.stderr
    assert not (hub.snapshot / "model.safetensors").exists()
    hub.handler.fault = ""
    assert hub.verify().returncode == 0
