"""A volume: every section of a stack filled, placed in one frame, at its depth; on disk one zarr store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from stzoo.core.data.section import Section, Stack
from stzoo.core.errors import DataError, StzooError
from stzoo.core.geometry.transform import Transform
from stzoo.core.io.read import read
from stzoo.core.io.write import write_shared
from stzoo.core.runtime.outputs import writing
from stzoo.core.runtime.ranks import ALONE, Ranks

FORMAT_VERSION = 1
NAME = "volume.zarr"
"""Name of the store in the folder that ``stzoo impute STACK --out FOLDER`` writes."""
COMMON = "spatial_common_um"
"""Key of ``obsm``: positions of a section's spots in the common frame, micrometres, float64 (n, 2)."""
INTERPOLATED = "interpolated"
"""Key of ``uns["stzoo"]`` of a plane between sections: nothing of it was measured."""


@dataclass(frozen=True)
class Volume:
    """Filled sections of one sample.

    Parameters
    ----------
    sample
        Name of the sample.
    stack
        Sections with ``layers["imputed"]`` and ``layers["confidence"]``, ``obs["measured"]`` and
        ``obsm["spatial_common_um"]``; their depths, and the transform of each into the common frame.
    central
        Index of the section whose micrometres are the common frame.
    """

    sample: str
    stack: Stack
    central: int

    @property
    def names(self) -> list[str]:
        """Names of the sections, in order of depth."""
        return [section.name for section in self.stack.sections]

    def take_genes(self, genes: Sequence[str]) -> Volume:
        """Return the volume with some of its genes.

        Raises
        ------
        GeneError
            The volume does not have a gene.
        """
        sections = tuple(section.take_genes(genes) for section in self.stack.sections)
        return replace(self, stack=replace(self.stack, sections=sections))

    def most_variable(self, count: int) -> list[str]:
        """Return the genes that vary most over the measured spots of all sections."""
        seen = np.concatenate([s.adata.layers["imputed"][s.measured] for s in self.stack.sections])
        order = np.argsort(-seen.var(axis=0), kind="stable")[:count]
        return [self.stack.sections[0].genes[i] for i in order]

    def write(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write a zarr v3 store, whole or not at all.

        ``sections/NAME`` is an AnnData (``anndata.read_zarr``, :func:`stzoo.read`), ``transforms/NAME`` what
        :meth:`Transform.load` reads (absent where a section lies in the common frame); attributes hold sample, names,
        depths and the central section.

        Raises
        ------
        OutputError
            The output exists or can not be written.
        """
        with writing(Path(path), overwrite=overwrite) as scratch:
            self.put(scratch)
        return Path(path)

    def put(self, path: Path, ranks: Ranks = ALONE) -> None:
        """Write the store (see :meth:`write`) where the caller makes it whole, each rank its own blocks of spots."""
        import zarr

        if ranks.is_main:
            root = zarr.open_group(path, mode="w", zarr_format=3)
            about: dict[str, Any] = {"stzoo": "volume", "format_version": FORMAT_VERSION, "sample": self.sample}
            about |= {"sections": self.names, "z_um": list(self.stack.z_um), "central": self.names[self.central]}
            root.attrs.update(about)
            root.create_group("sections")
            root.create_group("transforms")
        for section, transform in zip(self.stack.sections, self.stack.transforms, strict=True):
            write_shared(section, path / "sections" / section.name, ranks, embed_slide=False)
            if transform is not None and ranks.is_main:
                transform.save(path / "transforms" / section.name)

    @classmethod
    def read(cls, path: str | Path) -> Volume:
        """Read what :meth:`write` wrote: the store, or the folder of ``stzoo impute STACK``.

        Raises
        ------
        DataError
            Missing, damaged, or no volume.
        """
        path = Path(path)
        path = path / NAME if (path / NAME).is_dir() else path
        about = _attributes(path)
        try:
            names, depths = [str(name) for name in about["sections"]], [float(z) for z in about["z_um"]]
            sample, central = str(about["sample"]), names.index(about["central"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"the volume is damaged: {error}", where=path, todo="write it again") from error
        sections = tuple(_section(path / "sections" / name, name) for name in names)
        folders = [path / "transforms" / name for name in names]
        transforms = tuple(Transform.load(folder) if folder.is_dir() else None for folder in folders)
        return cls(sample, Stack(sections, tuple(depths), transforms), central)


def place_sections(stack: Stack) -> Stack:
    """Return the stack with the positions in the common frame in ``obsm`` of each section; arrays are not copied."""
    from anndata import AnnData

    sections = []
    for index, section in enumerate(stack.sections):
        whole = section.adata
        obsm = {**whole.obsm, COMMON: stack.um(index)}
        adata = AnnData(
            whole.X, obs=whole.obs, var=whole.var, obsm=obsm, layers=dict(whole.layers), uns=dict(whole.uns)
        )
        sections.append(replace(section, adata=adata))
    return replace(stack, sections=tuple(sections))


def _attributes(path: Path) -> dict[str, Any]:
    import zarr

    if not path.is_dir():
        raise DataError(f"no volume at {path}", todo="give the folder of 'stzoo impute STACK --out FOLDER'")
    try:
        about: dict[str, Any] = dict(zarr.open_group(path, mode="r").attrs)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"not a volume: {error}", where=path, todo="give the folder of 'stzoo impute STACK'") from error
    if about.get("stzoo") != "volume" or about.get("format_version") != FORMAT_VERSION:
        raise DataError(
            f"not a volume of format {FORMAT_VERSION}", where=path, todo="give the folder of 'stzoo impute STACK'"
        )
    return about


def _section(path: Path, name: str) -> Section:
    try:
        _require_chunks(path)
        section = replace(read(path), name=name)
    except StzooError as error:
        raise DataError(
            f"section '{name}' of the volume can not be read: {error.what}", where=error.where, todo="write it again"
        ) from error
    adata = section.adata
    missing = [key for key in ("imputed", "confidence") if key not in adata.layers]
    missing += [COMMON] if COMMON not in adata.obsm else []
    if missing:
        raise DataError(f"section '{name}' of the volume has no '{missing[0]}'", where=path, todo="write it again")
    return section


def _require_chunks(path: Path) -> None:
    """Refuse a section of which chunks are missing: zarr would read them as zeros, without a word."""
    import zarr

    layers = zarr.open_group(path, mode="r").get("layers") if path.is_dir() else None
    for key, part in layers.members() if isinstance(layers, zarr.Group) else ():
        if isinstance(part, zarr.Array) and part.nchunks_initialized < part.nchunks:
            raise DataError(
                f"{part.nchunks - part.nchunks_initialized} chunks are missing", where=path / "layers" / key
            )


def is_interpolated(section: Section) -> bool:
    """Say whether a plane lies between sections."""
    return INTERPOLATED in section.adata.uns.get("stzoo", {})
