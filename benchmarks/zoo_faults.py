"""What can go wrong with weights, and what stzoo makes of it: ``python benchmarks/zoo_faults.py``.

A loopback server speaks the Hub's routes to the real client (tests/helpers/hub_store.py). Every fault is tried in a
process of its own with ``stzoo.load``. Detected: nothing loaded, a message, no traceback. Lost: whole weights can not
be pulled once the fault is gone. Half-written: files that a load would take for weights although they are not those
that were published. Writes benchmarks/results/zoo_faults.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from stzoo.core.errors import StzooError
from stzoo.core.weights.manifest import write_manifest
from stzoo.core.weights.repository import verify

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "zoo_faults.json"
WEIGHTS = ROOT / "plugins" / "comtip" / "weights" / "comtip-tiny"
LOAD = """
import resource, sys, time
time.sleep = lambda s: None  # the client waits between its tries
if sys.argv[2] != "0":
    import stzoo.core.weights.repository, torch, huggingface_hub
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
import stzoo
try:
    stzoo.load(sys.argv[1])
except stzoo.StzooError as error:
    sys.exit(f"refused: {error}")
print("loaded")
"""
REPO = "owner/toy"

_spec = importlib.util.spec_from_file_location("hub_store", ROOT / "tests" / "helpers" / "hub_store.py")
assert _spec is not None
assert _spec.loader is not None
hub_store: Any = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = hub_store
_spec.loader.exec_module(hub_store)


def flipped(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-100] ^= 1
    (folder / "model.safetensors").write_bytes(data)


def truncated(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-1000])


def swapped(folder: Path) -> None:
    """Another file of the same names, shapes and size."""
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {key: np.zeros_like(value) for key, value in tensors.items()}, folder / "model.safetensors", {"format": "pt"}
    )


def resealed(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """Return a fault that its author published with a manifest that fits."""

    def fault(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        (folder / "MANIFEST.json").unlink()
        write_manifest(folder)

    return fault


def config(**changes: Any) -> Callable[[Path], None]:
    def fault(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(content | changes))
        (folder / "MANIFEST.json").unlink()
        write_manifest(folder)

    return fault


def bytes_instead(data: bytes, *, reseal: bool) -> Callable[[Path], None]:
    def fault(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(data)
        if reseal:
            (folder / "MANIFEST.json").unlink()
            write_manifest(folder)

    return fault


def added(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(b"import os\n") and None


def climbing(folder: Path) -> None:
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    manifest["files"]["../outside.txt"] = manifest["files"].pop("tokenizer.json")
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))


KEY = "network.image.projection.weight"
FILE_FAULTS: dict[str, Callable[[Path], None]] = {
    "truncated file": truncated,
    "one flipped byte": flipped,
    "swapped file": swapped,
    "missing file": lambda folder: (folder / "tokenizer.json").unlink(),
    "missing manifest": lambda folder: (folder / "MANIFEST.json").unlink(),
    "manifest that is no JSON": lambda folder: (folder / "MANIFEST.json").write_text("{") and None,
    "../ in a name": climbing,
    "foreign file: code": added("modeling.py"),
    "foreign file: pickle": added("pytorch_model.bin"),
    "pickle in place of safetensors": bytes_instead(b"\x80\x04" + b"x" * 1000, reseal=True),
    "archive in place of safetensors": bytes_instead(b"PK\x03\x04" + b"x" * 1000, reseal=True),
    "huge header": bytes_instead((1 << 40).to_bytes(8, "little") + b"{" + b" " * 1000, reseal=True),
    "header of 30 MB": bytes_instead((30_000_000).to_bytes(8, "little") + b"{" + b" " * 30_000_000, reseal=True),
    "wrong shape": resealed(lambda t: t.update({KEY: t[KEY][:-1].copy()})),
    "missing key": resealed(lambda t: t.pop(KEY)),
    "extra key": resealed(lambda t: t.update({"network.extra": t[KEY].copy()})),
    "integers for floats": resealed(lambda t: t.update({KEY: t[KEY].astype(np.int16)})),
    "unknown config key": config(surprise=1),
    "unknown option of the model": config(config={"surprise": 1}),
    "another method": config(method="kriging"),
    "a later format": config(format_version=99),
}
SERVER_FAULTS = ("flip", "cut", "401", "403", "gated", "404", "429", "500", "timeout")


class Trial:
    """A fresh Hub, cache and working directory."""

    def __init__(self, hub: Any, folder: Path) -> None:
        self.hub, self.folder = hub, folder
        self.published = folder / "published"
        shutil.copytree(WEIGHTS, self.published)
        self.oid = hub.publish(REPO, self.published)

    def start(self, oid: str = "", *, limit: int = 0, **variables: str) -> subprocess.Popen[str]:
        """Load a commit in a process of its own; ``limit`` is the largest file, in bytes, that the disk takes."""
        quick = {"HF_HUB_ETAG_TIMEOUT": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "1"}
        environment = hub_store.environment(self.hub, self.folder / "home") | quick | variables
        return subprocess.Popen(
            [sys.executable, "-c", LOAD, f"hf://{REPO}@{oid or self.oid}", str(limit)],
            env=dict(os.environ) | environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str]) -> tuple[bool, str]:
        """Return whether weights were loaded, and the first line of the message."""
        out, error = process.communicate(timeout=300)
        lines = [line for line in error.splitlines() if line.strip()]
        message = next((line for line in lines if line.startswith("refused: ")), lines[-1] if lines else "")
        return out.strip() == "loaded", "TRACEBACK " + message if "Traceback" in error else message

    def half_written(self) -> bool:
        """Say whether a load would take something for weights that is not what was published."""
        for folder in self.folder.glob("home/hub/*/snapshots/*"):
            try:
                verify(folder)
            except StzooError:
                continue
            published = self.hub.repos[REPO].commits[folder.name]
            if any((folder / name).read_bytes() != data for name, data in published.items()):
                return True
        return (self.folder / "outside.txt").exists()

    def recovers(self) -> bool:
        """Say whether whole weights load once the fault is gone, and without the network after that."""
        self.hub.fault, self.hub.slow = "", 0.0
        oid = self.hub.publish(REPO, WEIGHTS)
        return self.finish(self.start(oid))[0] and self.finish(self.start(oid, HF_HUB_OFFLINE="1"))[0]


def tried(name: str, prepare: Callable[[Trial], subprocess.Popen[str]]) -> dict[str, Any]:
    with hub_store.serving() as hub, tempfile.TemporaryDirectory() as folder:
        trial = Trial(hub, Path(folder))
        loaded, message = trial.finish(prepare(trial))
        detected = not loaded and message.startswith("refused: ")
        half = trial.half_written()
        row = {"fault": name, "detected": detected, "half_written": half, "lost": not trial.recovers()}
        row["message"] = message.removeprefix("refused: ")
        print(
            f"{'ok ' if detected and not half and not row['lost'] else 'BAD'} {name:34s} {row['message'][:100]}",
            flush=True,
        )
        return row


def file_fault(fault: Callable[[Path], None]) -> Callable[[Trial], subprocess.Popen[str]]:
    def prepare(trial: Trial) -> subprocess.Popen[str]:
        fault(trial.published)
        return trial.start(trial.hub.publish(REPO, trial.published))

    return prepare


def server_fault(fault: str) -> Callable[[Trial], subprocess.Popen[str]]:
    def prepare(trial: Trial) -> subprocess.Popen[str]:
        trial.hub.fault = fault
        return trial.start()

    return prepare


def kills(times: int, seed: int) -> dict[str, Any]:
    """Kill -9 pulls at random moments; each time, what is there is whole or absent, and the next pull works."""
    moments, half, lost = random.Random(seed), 0, 0
    killed = 0
    with hub_store.serving() as hub, tempfile.TemporaryDirectory() as folder:
        trial = Trial(hub, Path(folder))
        for number in range(times):
            shutil.rmtree(trial.folder / "home", ignore_errors=True)
            hub.slow, asked = 0.03, len(hub.requests)
            process = trial.start()
            while len(hub.requests) == asked and process.poll() is None:
                time.sleep(0.005)  # from its first request on
            time.sleep(moments.uniform(0, 1.6))
            killed += process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.communicate()
            half += trial.half_written()
            hub.slow = 0.0
            lost += not trial.finish(trial.start())[0]
            if number % 10 == 9:
                print(f"    {number + 1} kills: {killed} in the middle, {half} half-written, {lost} lost", flush=True)
    return {"kills": times, "in_the_middle": killed, "half_written": half, "lost": lost}


def together() -> dict[str, Any]:
    """Two processes pull the same weights at once."""
    with hub_store.serving() as hub, tempfile.TemporaryDirectory() as folder:
        trial = Trial(hub, Path(folder))
        hub.slow = 0.01
        both = [trial.finish(process) for process in [trial.start(), trial.start()]]
        return {"loaded": sum(loaded for loaded, _ in both), "of": 2, "half_written": trial.half_written()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows = [tried(name, file_fault(fault)) for name, fault in FILE_FAULTS.items()]
    rows += [tried(f"server: {fault}", server_fault(fault)) for fault in SERVER_FAULTS]
    rows.append(tried("no server", lambda trial: trial.start(HF_ENDPOINT="http://127.0.0.1:9")))
    rows.append(tried("offline, nothing pulled", lambda trial: trial.start(HF_HUB_OFFLINE="1")))
    rows.append(tried("disk full", lambda trial: trial.start(limit=1_000_000)))
    found = {
        "faults": len(rows),
        "detected": sum(row["detected"] for row in rows),
        "half_written": sum(row["half_written"] for row in rows),
        "lost": sum(row["lost"] for row in rows),
        "two_at_once": together(),
        "kill_9": kills(options.kills, options.seed),
        "rows": rows,
    }
    print(json.dumps({key: value for key, value in found.items() if key != "rows"}, indent=1))
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
