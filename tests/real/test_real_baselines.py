"""Scores of the baselines on real tissue, one phase each (all of them: benchmarks/kriging.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from stzoo.core.data.sampling_rules import measured_mask
from stzoo.core.data.section import Section
from stzoo.core.metrics.correlation import per_gene_pcc
from stzoo.core.registry import model

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def breast(shared_data: Path) -> Section:
    cells = pd.read_csv(shared_data / "xenium_breast" / "xenium_q2.csv.gz", index_col=0)
    where = cells[["y_centroid", "x_centroid"]]
    place = ((where - where.min()) // 50).astype(int)
    bins = cells.iloc[:, 3:].groupby([place["y_centroid"], place["x_centroid"]]).sum()
    bins = bins[bins.sum(axis=1) >= 10]
    at = np.array(bins.index.tolist())
    obs = pd.DataFrame({"array_row": at[:, 0], "array_col": at[:, 1]}, index=[f"{r}x{c}" for r, c in at])
    adata = AnnData(bins.to_numpy(np.float32), obs=obs, var=pd.DataFrame(index=bins.columns))
    adata.obsm["spatial_um"] = at[:, ::-1] * 50.0
    return Section(adata, "q2")


@pytest.mark.parametrize(
    ("name", "options", "every", "varying"),
    [
        ("knn", {}, 0.20, 0.55),
        ("smooth", {}, 0.22, 0.54),
        ("kriging", {"components": 0}, 0.23, 0.55),
        ("kriging", {}, 0.26, 0.57),
    ],
)
def test_correlation_on_hidden_bins(breast, name, options, every, varying):
    measured = measured_mask(breast, "grid:2")
    truth = breast.expression(target=float(np.median(breast.depth[measured])))
    top = np.argsort(-truth[measured].var(axis=0))[:50]
    guessed = model(name, options).impute(breast.hide(measured)).adata.layers["imputed"]
    pcc = np.nan_to_num(per_gene_pcc(truth[~measured], guessed[~measured]))
    assert np.median(pcc) > every
    assert np.median(pcc[top]) > varying
