"""What verified loading costs beside ``safetensors.torch.load_file`` alone: ``python benchmarks/load_time.py``.

`comtip-tiny`, and a ViT-B of 343 MB (random weights; time does not depend on them) in a repository folder; a process
for each way, best of five with the file in the page cache, best of three without (cold). ``load_file`` maps the file
and reads nothing until it is used, so each way is timed until every byte of every tensor was read once. Memory is the
growth of the resident set at its peak, mapped pages included. Writes benchmarks/results/load_time.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "load_time.json"
TINY = Path(__file__).resolve().parents[1] / "plugins" / "comtip" / "weights" / "comtip-tiny"
WAYS = ("load_file", "load_file into a module", "digest alone", "stzoo.load")


def make_large(folder: Path) -> Path:
    """Write a ViT-B/16 as a checkpoint of transformers would be, through the adapter."""
    import stzoo
    import torch
    from safetensors.torch import save_file
    from stzoo.core.nn.vit import ViT, ViTConfig

    torch.manual_seed(0)
    vit = ViT(ViTConfig(image_px=224, patch_px=16, width=768, depth=12, heads=12))
    save_file(as_timm(vit.state_dict()), folder / "model.safetensors")
    encoder: Any = stzoo.load(folder)
    saved: Path = encoder.save(folder.parent / "large")
    return saved


def as_timm(state: dict[str, Any]) -> dict[str, Any]:
    names = {
        "class_embedding": "cls_token", "position_embedding": "pos_embed", "patch_embedding.": "patch_embed.proj.",
        ".attention.": ".attn.", "layernorm.": "norm.",
    }  # fmt: skip
    found = {}
    for key, tensor in state.items():
        name = key
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        shape = (1, 1, -1) if "cls_token" in name else (1, *tensor.shape) if "pos_embed" in name else tensor.shape
        found[name] = tensor.reshape(shape).contiguous()
    return found


def measure(way: str, folder: Path) -> dict[str, float]:
    import hashlib
    import os
    import time

    import stzoo
    import torch
    from safetensors.torch import load_file

    def read(tensors: Any) -> float:
        return float(sum(t.sum() for t in tensors))

    def once() -> None:
        path = folder / "model.safetensors"
        if way == "load_file":
            read(load_file(path).values())
        elif way == "load_file into a module":
            module = torch.nn.ParameterDict(
                {k.replace(".", "_"): torch.empty_like(v) for k, v in load_file(path).items()}
            )
            module.load_state_dict({k.replace(".", "_"): v for k, v in load_file(path).items()})
            read(module.values())
        elif way == "digest alone":
            with path.open("rb") as file:
                hashlib.file_digest(file, "sha256").hexdigest()
        else:
            model = stzoo.load(folder)
            network = model.network if hasattr(model, "network") else model.tower
            read(network.parameters())

    def timed(*, cold: bool) -> float:
        if cold:
            with (folder / "model.safetensors").open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        start = time.perf_counter()
        with torch.inference_mode():
            once()
        return time.perf_counter() - start

    small = stzoo.load(TINY)  # imports what loading imports
    del small
    before = status("VmRSS")
    first = timed(cold=False)
    found = {"peak_mb": round(status("VmHWM") - before, 1), "seconds": min(timed(cold=False) for _ in range(5))}
    found["cold_seconds"] = min(timed(cold=True) for _ in range(3))
    assert first > 0
    return {key: round(value, 4) for key, value in found.items()}


def status(key: str) -> float:
    """Return a size of this process in MB (getrusage would count what the parent had before the exec)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=2, metavar=("WAY", "FOLDER"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], Path(options.one[1]))))
        return
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "checkpoint").mkdir()
        for name, weights in (("comtip-tiny", TINY), ("ViT-B", make_large(Path(folder) / "checkpoint"))):
            rows = {way: child(way, weights) for way in WAYS}
            size = (weights / "model.safetensors").stat().st_size / 1e6
            floor, ours = rows["load_file into a module"], rows["stzoo.load"]
            found[name] = {
                "tensors_mb": round(size, 1),
                "rows": rows,
                "times_load_file": ratio(ours, rows["load_file"]),
                "times_load_file_into_a_module": ratio(ours, floor),
                "peak_over_tensors": round(ours["peak_mb"] / size, 2),
            }
            print(name, json.dumps(found[name], indent=1), flush=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def ratio(ours: dict[str, float], floor: dict[str, float]) -> dict[str, float]:
    return {key: round(ours[key] / floor[key], 2) for key in ("seconds", "cold_seconds")}


def child(way: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", way, str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main()
