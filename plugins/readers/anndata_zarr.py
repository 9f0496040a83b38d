"""AnnData zarr stores, stzoo's own among them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stzoo import DataError, Reader, Section
from stzoo.core.data.lazy import lazy_anndata
from stzoo.plugins.readers.anndata_checks import pick_section, reading_anndata, section_names
from stzoo.plugins.readers.anndata_section import to_section

_FILES = {"zarr.json": "attributes", ".zattrs": None}


class AnndataZarrReader(Reader):
    """Reads what ``AnnData.write_zarr`` and :func:`stzoo.core.io.write.write` wrote (zarr v2 and v3)."""

    format = "anndata-zarr"

    def recognises(self, path: Path) -> bool:
        """Look for a folder NAME.zarr, or a zarr group whose attributes say that it is an AnnData."""
        about = zarr_attributes(path)
        is_store = path.is_dir() and path.suffix == ".zarr"
        return about.get("encoding-type") == "anndata" or (is_store and "spatialdata_attrs" not in about)

    def sections(self, path: Path) -> Sequence[str]:
        """Return the name of the section, or the names of several."""
        import zarr

        fallback = path.resolve().name.removesuffix(".zarr")
        try:
            with reading_anndata("the AnnData zarr", path):
                return section_names(zarr.open_group(path, mode="r"), fallback)
        except DataError:
            return [fallback]  # reading it says what is wrong

    def read(self, path: Path, section: str) -> Section:
        """Read one section; a newer format version than ours is refused."""
        import anndata

        if not zarr_attributes(path):
            raise DataError("not a zarr store: no zarr.json or .zattrs", where=path, todo="copy or write it again")
        with reading_anndata("the AnnData zarr", path):
            adata = anndata.read_zarr(path)
        _require_chunks(path, adata.n_vars)
        return to_section(pick_section(adata, section), section, path)

    def read_lazily(self, path: Path, section: str) -> Section:
        """Read one section, its counts left in the store; all is read where that is not possible."""
        import zarr

        if zarr_attributes(path) and len(self.sections(path)) == 1:
            with reading_anndata("the AnnData zarr", path):
                adata = lazy_anndata(zarr.open_group(path, mode="r"))
            if adata is not None:
                _require_chunks(path, adata.n_vars)
                return to_section(adata, section, path)
        return self.read(path, section)


def _require_chunks(path: Path, n_genes: int) -> None:
    # zarr reads a chunk that is not there as zeros, so a store copied in part would lose counts without a word.
    # Chunks of a sparse matrix are never all zero (but its columns, where there is one gene), so each has to be there.
    import zarr

    x = zarr.open_group(path, mode="r").get("X")
    for name in ("data", "indptr", *(["indices"] if n_genes > 1 else [])):
        part = x.get(name) if isinstance(x, zarr.Group) else None
        if isinstance(part, zarr.Array) and part.shards is None and part.nchunks_initialized < part.nchunks:
            raise DataError(
                f"the AnnData zarr is incomplete: {part.nchunks - part.nchunks_initialized} of {part.nchunks} chunks"
                f" of X/{name} are missing",
                where=path / "X" / name,
                todo="copy or write it again",
            )


def zarr_attributes(path: Path) -> dict[str, Any]:
    """Return the attributes of a zarr group (v2 or v3), empty where the path is none."""
    for name, key in _FILES.items():
        file = path / name
        if not file.is_file():
            continue
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        found = content if key is None or not isinstance(content, dict) else content.get(key, {})
        return found if isinstance(found, dict) else {}
    return {}
