"""Checkpoints of others from a loopback Hub with the real client, in programs of their own (see test_hub.py)."""

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
from stzoo.core.nn.pretrained import clip_towers, read_checkpoint, read_hints

transformers = pytest.importorskip("transformers", minversion="5")

ADDRESS = f"hf://owner/toy@{hub_server.COMMIT}"
CODE = """
import sys, time
time.sleep = lambda s: None
from stzoo.core.errors import StzooError
from stzoo.zoo.hub import fetch_checkpoint
try:
    print(fetch_checkpoint(sys.argv[1]))
except StzooError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


class Loopback:
    """A server of a checkpoint, and a program that fetches it."""

    def __init__(self, handler: type, server: ThreadingHTTPServer, home: Path) -> None:
        self.handler, self.server, self.home = handler, server, home

    def fetch(self, address: str = ADDRESS, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))} | {
            "HF_ENDPOINT": f"http://127.0.0.1:{self.server.server_port}",
            "HF_HOME": str(self.home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
            **variables,
        }
        command = [sys.executable, "-c", CODE, address]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    shape = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 128}
    config = transformers.CLIPConfig(
        vision_config={**shape, "image_size": 32, "patch_size": 16}, text_config={**shape, "vocab_size": 50}
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    for name in ("vocab.json", "tokenizer.json", "preprocessor_config.json"):
        (folder / name).write_text("{}")
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return folder


@pytest.fixture
def hub(tmp_path: Path, written: Path) -> Iterator[Loopback]:
    folder = tmp_path / "published"
    folder.mkdir()
    for path in written.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "README.md").write_text("# CLIP\n")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (folder / "modeling.py").write_text("raise SystemExit\n")
    handler = type("Handler", (hub_server.Hub,), {"folder": folder, "requests": [], "fault": ""})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Loopback(handler, server, tmp_path / "home")
    server.shutdown()
    server.server_close()


def test_tensors_configs_and_tokenizer_come_and_nothing_else(hub, written):
    done = hub.fetch()
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    assert {path.name for path in folder.iterdir()} == {path.name for path in written.iterdir()}
    assert not any("pytorch_model" in request or "modeling" in request for request in hub.handler.requests)
    parts = clip_towers(read_checkpoint(folder), read_hints(folder))
    assert parts.vision_config.image_px == 32
    assert hub.fetch(HF_HUB_OFFLINE="1").stdout == done.stdout


def test_a_same_length_corruption_is_detected_and_not_kept(hub):
    hub.handler.fault = "flip"
    bad = hub.fetch()
    assert bad.returncode == 1
    assert "model.safetensors is not the file that was published" in bad.stderr
    hub.handler.fault = ""
    good = hub.fetch()
    assert good.returncode == 0
    blob = (Path(good.stdout.strip()) / "model.safetensors").resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"\xff")
    assert "the download is removed" in hub.fetch(HF_HUB_OFFLINE="1").stderr
    assert hub.fetch().returncode == 0


def test_a_repository_of_pickles_says_so(hub):
    (hub.handler.folder / "model.safetensors").unlink()
    bad = hub.fetch()
    assert bad.returncode == 1
    assert "no safetensors file; pickled weights are never opened" in bad.stderr


@pytest.mark.parametrize(
    ("fault", "address", "what"),
    [
        ("gated", ADDRESS, "the repository is gated"),
        ("missing", ADDRESS, "no such repository, or it is private"),
        ("error", ADDRESS, "the Hub answered 500"),
        ("cut", ADDRESS, "run again"),
        ("", f"hf://owner/toy@{'f' * 40}", "no commit ffff"),
        ("", "hf://owner/toy@main", "is a branch or tag"),
    ],
)
def test_a_refusal_says_what_to_do(hub, fault, address, what):
    hub.handler.fault = fault
    bad = hub.fetch(address)
    assert bad.returncode == 1
    assert what in bad.stderr
    assert "Traceback" not in bad.stderr


def test_no_network_and_nothing_cached(hub):
    bad = hub.fetch(HF_HUB_OFFLINE="1")
    assert bad.returncode == 1
    assert "not on this machine, and the Hub can not be reached" in bad.stderr
