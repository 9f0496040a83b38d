"""What the zoo knows of: the weights that plugins offer, and whether they are local."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from stzoo.core.errors import StzooError
from stzoo.core.plugins import PluginHost, default_host
from stzoo.core.records import WeightsSpec
from stzoo.zoo.loading import package_folder


def catalogue(host: PluginHost | None = None) -> list[dict[str, Any]]:
    """Return one row a set of weights: the fields of its record, its plugin, and ``local``."""
    rows = []
    for plugin, spec in (host or default_host()).of(WeightsSpec):
        rows.append({**asdict(spec), "plugin": plugin.qualified, "local": is_local(spec)})
    return rows


def is_local(spec: WeightsSpec) -> bool:
    """Say whether weights can be loaded without a download."""
    if spec.source.startswith("package://"):
        try:
            return package_folder(spec.source).is_dir()
        except StzooError:
            return False
    return spec.source.startswith("file://") and Path(spec.source.removeprefix("file://")).is_dir()
