"""AnnData .h5ad files, one or a folder of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stzoo.core.errors import DataError
from stzoo.core.interfaces import Reader
from stzoo.core.readers.adapt import to_section
from stzoo.core.readers.tables import is_file
from stzoo.core.section import Section


class H5adReader(Reader):
    """Reads .h5ad in the squidpy convention; a folder may hold them itself or in ``h5ad/``."""

    format = "h5ad"

    def recognises(self, path: Path) -> bool:
        """Look for a .h5ad file, or a folder with some."""
        return is_file(path, ".h5ad") or (path.is_dir() and bool(_files(path)))

    def sections(self, path: Path) -> Sequence[str]:
        """Return the names of the files."""
        return [path.stem] if path.is_file() else sorted(_files(path))

    def read(self, path: Path, section: str) -> Section:
        """Read one file."""
        import anndata

        file = path if path.is_file() else _files(path)[section]
        try:
            adata = anndata.read_h5ad(file)
        except (OSError, KeyError, ValueError, TypeError, RuntimeError, anndata.io.AnnDataReadError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(
                f"not a readable .h5ad file: {reason}", where=file, todo="copy or write the file again"
            ) from error
        return to_section(adata, section, file)


def _files(folder: Path) -> dict[str, Path]:
    found = sorted(folder.glob("*.h5ad")) or sorted((folder / "h5ad").glob("*.h5ad"))
    return {file.stem: file for file in found}
