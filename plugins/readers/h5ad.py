"""AnnData .h5ad files, one or a folder of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stzoo import DataError, Reader, Section
from stzoo.core.data.lazy import lazy_anndata
from stzoo.plugins.readers.anndata_checks import pick_section, reading_anndata, section_names
from stzoo.plugins.readers.anndata_section import to_section
from stzoo.plugins.readers.tables import is_file


class H5adReader(Reader):
    """Reads .h5ad in the squidpy convention; a folder may hold them itself or in ``h5ad/``.

    A file whose ``obs`` names several sections (``library_id``, ``section``, ...) is read one section at a time.
    """

    format = "h5ad"

    def recognises(self, path: Path) -> bool:
        """Look for a .h5ad file, or a folder with some."""
        return is_file(path, ".h5ad") or (path.is_dir() and bool(_files(path)))

    def sections(self, path: Path) -> Sequence[str]:
        """Return the section of each file, or its sections; in a folder ``FILE`` or ``FILE/SECTION``."""
        return list(_sections(path))

    def read(self, path: Path, section: str) -> Section:
        """Read one section."""
        import anndata

        file, name = _sections(path)[section]
        with reading_anndata("the .h5ad file", file):
            adata = anndata.read_h5ad(file)
        return to_section(pick_section(adata, name), name, file)

    def read_lazily(self, path: Path, section: str) -> Section:
        """Read one section, its counts left in the file; all is read where that is not possible."""
        import h5py

        file, name = _sections(path)[section]
        if len(_names(file)) == 1:
            with reading_anndata("the .h5ad file", file):
                adata = lazy_anndata(h5py.File(file))
            if adata is not None:
                return to_section(adata, name, file)
        return self.read(path, section)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.h5ad")) or sorted((folder / "h5ad").glob("*.h5ad"))


def _sections(path: Path) -> dict[str, tuple[Path, str]]:
    """Return, by the name used after ``::``, file and name of each section."""
    if path.is_file():
        return {name: (path, name) for name in _names(path)}
    found: dict[str, tuple[Path, str]] = {}
    for file in _files(path):
        names = _names(file)
        found |= {file.stem: (file, names[0])} if len(names) == 1 else {f"{file.stem}/{n}": (file, n) for n in names}
    return found


def _names(file: Path) -> list[str]:
    import h5py

    try:
        with reading_anndata("the .h5ad file", file), h5py.File(file) as group:
            return section_names(group, file.stem)
    except DataError:
        return [file.stem]  # reading it says what is wrong
