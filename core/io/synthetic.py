"""A synthetic tissue, drawn by code: for demos and tests where there is no data. Nothing about it is a finding.

Tumour nests, stroma and immune aggregates are smooth random regions; each has its own density and size of nuclei and
its own expression programme. The slide is drawn as optical densities of haematoxylin and eosin.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter
from stzoo.core.data.section import Section
from stzoo.core.slides.slide import Slide

STROMA, TUMOUR, IMMUNE = 0, 1, 2

PROGRAMMES = {
    STROMA: ("COL1A1", "COL1A2", "COL3A1", "SPARC", "FN1", "VIM", "LUM", "DCN", "POSTN", "BGN"),
    TUMOUR: ("ERBB2", "KRT18", "KRT8", "KRT19", "GRB7", "STARD3", "MUC1", "CD24", "EPCAM", "S100A9"),
    IMMUNE: ("CD74", "IGKC", "IGHG3", "HLA-DRA", "B2M", "HLA-B", "CXCR4", "PTPRC", "CD3D", "TRAC"),
}
"""Genes of each region."""

_HOUSEKEEPING = ("ACTB", "GAPDH", "TMSB10", "RPLP0", "RPS18", "EEF1A1", "TPT1", "FTL", "UBA52", "MYL6")
_HAEMATOXYLIN, _EOSIN = np.array([0.65, 0.70, 0.29]), np.array([0.07, 0.99, 0.11])
_NUCLEI = {STROMA: (0.0006, 2.2), TUMOUR: (0.0042, 4.2), IMMUNE: (0.016, 3.0)}
"""Nuclei per square micrometre, and their radius in micrometres."""

_EOSIN_DENSITY = {STROMA: 0.42, TUMOUR: 0.24, IMMUNE: 0.22}


def synthetic_section(
    *, side_um: int = 3000, pitch_um: float = 200.0, seed: int = 0, name: str = "synthetic"
) -> Section:
    """Draw a tissue and measure it.

    Parameters
    ----------
    side_um
        Side of the square slide in micrometres (1 µm/px).
    pitch_um
        Distance of the spots of the square array, micrometres; a spot is half as wide.
    seed
        Same seed, same tissue, to the last bit.

    Returns
    -------
    A section with raw counts (int-valued float32 CSR), positions, array coordinates and ``obs["region"]``.
    """
    rng = np.random.default_rng(seed)
    region = _regions(rng, side_um)
    slide = Slide.from_array(_stain(rng, region), mpp=1.0)
    return _measure(rng, region, slide, pitch_um, name)


def _regions(rng: np.random.Generator, side: int) -> npt.NDArray[np.int8]:
    coarse = max(8, side // 10)

    def field(width_um: float) -> npt.NDArray[np.float64]:
        noise = gaussian_filter(rng.standard_normal((coarse, coarse)), width_um / 10, mode="reflect")
        return np.asarray(noise / noise.std())

    region = np.zeros((coarse, coarse), dtype=np.int8)
    region[field(180) > 0.2] = TUMOUR
    region[field(120) > 1.15] = IMMUNE
    rows = np.minimum(np.arange(side) // 10, coarse - 1)
    fine: npt.NDArray[np.int8] = region[np.ix_(rows, rows)]
    return fine


def _stain(rng: np.random.Generator, region: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    side = region.shape[0]
    fibres = gaussian_filter(rng.standard_normal((side, side)), (1.0, 7.0))
    fibres = (1 + 0.25 * fibres / fibres.std()).astype(np.float32)
    eosin = np.zeros((side, side), dtype=np.float32)
    haematoxylin = np.full((side, side), 0.04, dtype=np.float32)
    for kind, density in _EOSIN_DENSITY.items():
        eosin[region == kind] = density
    eosin = gaussian_filter(eosin, 6) * np.where(region == STROMA, fibres, 1 + 0.4 * (fibres - 1))
    for kind, (density, radius) in _NUCLEI.items():
        points = (rng.random((side, side)) < density) & (region == kind)
        disc = gaussian_filter(points.astype(np.float32), radius / 1.5) * (2 * np.pi * (radius / 1.5) ** 2)
        haematoxylin += 1.1 * np.clip(disc, 0, 1.2) * (0.85 + 0.3 * rng.random())
    shade = haematoxylin[..., None] * _HAEMATOXYLIN + np.clip(eosin, 0, None)[..., None] * _EOSIN
    shade += 0.02 * rng.standard_normal((side, side, 1)) + 0.08
    return np.asarray(np.clip(255 * np.exp(-shade), 0, 255), dtype=np.uint8)


def _measure(rng: np.random.Generator, region: npt.NDArray[np.int8], slide: Slide, pitch: float, name: str) -> Section:
    from anndata import AnnData
    from scipy.sparse import csr_matrix

    places = np.arange(pitch, region.shape[0] - pitch / 2, pitch)
    x, y = (axis.ravel() for axis in np.meshgrid(places, places))
    half = int(pitch // 4)
    shares = np.array(
        [
            np.bincount(region[int(b) - half : int(b) + half, int(a) - half : int(a) + half].ravel(), minlength=3)
            for a, b in zip(x, y, strict=True)
        ],
        dtype=np.float64,
    )
    shares /= shares.sum(axis=1, keepdims=True)
    genes = [gene for kind in sorted(PROGRAMMES) for gene in PROGRAMMES[kind]] + list(_HOUSEKEEPING)
    level = rng.gamma(2.0, 1.0, len(genes))
    rate = np.full((3, len(genes)), 0.15) * level
    for kind in PROGRAMMES:
        columns = [genes.index(gene) for gene in PROGRAMMES[kind]]
        rate[kind, columns] = 1.5 * level[columns]
    rate[:, -len(_HOUSEKEEPING) :] = level[-len(_HOUSEKEEPING) :]
    mean = (shares @ rate) * rng.gamma(8.0, 1 / 8.0, (len(x), 1)) * 30
    counts = rng.poisson(mean * rng.gamma(10.0, 1 / 10.0, mean.shape)).astype(np.float32)
    adata = AnnData(csr_matrix(counts))
    adata.var_names = genes
    adata.obs_names = [f"{round(a / pitch)}x{round(b / pitch)}" for a, b in zip(x, y, strict=True)]
    adata.obs["array_row"], adata.obs["array_col"] = (np.rint(v / pitch).astype(int) for v in (y, x))
    adata.obs["region"] = np.array(["stroma", "tumour", "immune"])[shares.argmax(axis=1)]
    adata.obsm["spatial"] = np.column_stack([x, y])
    return Section(adata, name, slide, 1.0, pitch / 2, pitch, source="drawn by stzoo.core.io.synthetic")
