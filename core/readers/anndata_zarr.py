"""AnnData zarr stores, stzoo's own among them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stzoo.core.errors import DataError
from stzoo.core.interfaces import Reader
from stzoo.core.readers.adapt import to_section
from stzoo.core.section import Section
from stzoo.core.store import FORMAT_VERSION


class AnndataZarrReader(Reader):
    """Reads what ``AnnData.write_zarr`` and :func:`stzoo.core.store.write` wrote (zarr v2 and v3)."""

    format = "anndata-zarr"

    def recognises(self, path: Path) -> bool:
        """Look for a zarr group whose attributes say that it is an AnnData."""
        return zarr_attributes(path).get("encoding-type") == "anndata"

    def sections(self, path: Path) -> Sequence[str]:
        """Return the name of the store."""
        return [path.resolve().name.removesuffix(".zarr")]

    def read(self, path: Path, section: str) -> Section:
        """Read the store; a newer format version than ours is refused."""
        import anndata

        version = zarr_attributes(path).get("stzoo_format_version", FORMAT_VERSION)
        if version > FORMAT_VERSION:
            raise DataError(
                f"the store has format version {version}, this stzoo reads up to {FORMAT_VERSION}",
                where=path,
                todo="pip install --upgrade stzoo",
            )
        try:
            adata = anndata.read_zarr(path)
        except (OSError, KeyError, ValueError, TypeError, RuntimeError, anndata.io.AnnDataReadError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(f"not a readable AnnData zarr: {reason}", where=path, todo="write it again") from error
        return to_section(adata, section, path)


def zarr_attributes(path: Path) -> dict[str, Any]:
    """Return the attributes of a zarr group (v2 or v3), empty where the path is none."""
    import json

    for name, key in (("zarr.json", "attributes"), (".zattrs", None)):
        file = path / name
        if path.is_dir() and file.is_file():
            try:
                content = json.loads(file.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                return {}
            found = content.get(key, {}) if key else content
            return found if isinstance(found, dict) else {}
    return {}
