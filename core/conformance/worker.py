"""What checks do in a process of its own: it reads what to do from standard input and writes what it found.

``stzoo plugins doctor`` looks at entry modules through it as well.

>>> in_process("light", "stzoo.plugins.readers")["heavy"]
[]
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

HEAVY = (
    "anndata", "cv2", "h5py", "jax", "matplotlib", "numpy", "ot", "pandas", "PIL", "scanpy", "scipy", "skimage",
    "sklearn", "spatialdata", "squidpy", "tensorflow", "tifffile", "timm", "torch", "torchvision", "transformers",
    "zarr",
)  # fmt: skip
"""Packages that take long to import: the one list of them."""
TIMEOUT_S = 300.0


def in_process(task: str, *arguments: object) -> Any:
    """Run one of :data:`TASKS` in a new interpreter with the same search path, and return what it found.

    Raises
    ------
    RuntimeError
        It failed, and the message is the last line of its traceback; or it took too long.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "stzoo.core.conformance.worker"],
            input=pickle.dumps((task, arguments)),
            capture_output=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PYTHONHASHSEED": "7"},
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"it was not done after {TIMEOUT_S:.0f} s") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise RuntimeError(lines[-1] if lines else f"it ended with {done.returncode}")
    return pickle.loads(done.stdout)  # noqa: S301 - written by this very module


def light(module: str) -> dict[str, Any]:
    """Import what an entry point names, or a one-file plugin, and ask its hooks, without a network."""
    tried = _cut_network()
    from importlib.metadata import EntryPoint

    from stzoo.core.discovery.manager import PluginManager  # what every command imports anyway
    from stzoo.core.discovery.one_file import import_file

    before = set(sys.modules)
    file = Path(module)
    found = import_file(file) if file.is_file() else EntryPoint("plugin", module, "stzoo").load()
    for name in ("stzoo_models", "stzoo_weights", "stzoo_readers", "stzoo_protocols"):
        if hasattr(found, name):
            list(getattr(found, name)())
    new = {name.split(".")[0] for name in set(sys.modules) - before}
    return {"heavy": sorted(new & set(HEAVY)), "network": tried, "manager": PluginManager.__name__}


def construct(targets: Sequence[str], made: str, is_model: bool) -> list[str]:
    """Import classes and make a model or reader without a network; return the addresses that were asked for."""
    tried = _cut_network()
    from stzoo.core.discovery.manager import resolve

    for target in targets:
        resolve(target)
    resolve(made)(*([{}] if is_model else []))
    return tried


def ask(model: bytes, sections: bytes) -> dict[str, Any]:
    """Ask a pickled model about pickled sections."""
    from stzoo.core.conformance.answers import answer

    return dict(answer(pickle.loads(model), pickle.loads(sections)))  # noqa: S301 - from our parent


def peaks(model: bytes, sections: bytes, factors: Sequence[int]) -> list[dict[str, int]]:
    """Measure the memory of asking about sections whose spots lie so many times as dense; encoders go 8 at a time.

    They are asked about as they are first, which is not counted: it imports and loads.
    """
    from stzoo.core.conformance.answers import answer
    from stzoo.core.conformance.data import denser
    from stzoo.core.encoder import Encoder

    asked: Any = pickle.loads(model)  # noqa: S301 - from our parent
    given: Any = pickle.loads(sections)  # noqa: S301 - from our parent
    encodes = isinstance(asked, Encoder)

    def ask(some: Any) -> None:
        if encodes:
            asked.embed(some[0], batch_size=8)
        else:
            answer(asked, some)

    ask(given)
    found = []
    for factor in factors:
        dense = [denser(section, factor) for section in (given[:1] if encodes else given)]
        _forget_peak()
        start = _memory("VmRSS")
        ask(dense)
        spots, measured = sum(map(len, dense)), sum(int(one.measured.sum()) for one in dense)
        found.append({"spots": spots, "measured": measured, "bytes": _memory("VmHWM") - start})
    return found


TASKS: dict[str, Callable[..., Any]] = {"light": light, "construct": construct, "ask": ask, "peaks": peaks}


def _cut_network() -> list[str]:
    """Refuse every connection from now on; return the list in which the addresses will be kept."""
    tried: list[str] = []

    def refuse(*arguments: object, **options: object) -> Any:
        asked = [part for part in arguments if isinstance(part, str | bytes | tuple)]
        tried.append(str(asked[0] if asked else options)[:100])
        raise OSError("the network is cut while a plugin is checked")

    class Socket(socket.socket):
        connect = connect_ex = sendto = refuse

    socket.socket = Socket  # type: ignore[misc]
    socket.create_connection = socket.getaddrinfo = socket.gethostbyname = refuse
    return tried


def _forget_peak() -> None:
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def _memory(key: str) -> int:
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        return 1024 * next(int(line.split()[1]) for line in file if line.startswith(key))


def main() -> None:
    """Do what standard input says; whatever a plugin prints goes to standard error."""
    task, arguments = pickle.load(sys.stdin.buffer)  # noqa: S301 - written by this very module
    with redirect_stdout(sys.stderr):
        found = TASKS[task](*arguments)
    sys.stdout.buffer.write(pickle.dumps(found))


if __name__ == "__main__":
    main()
