"""S2S-ST's processes on real tissue, before any network (all methods and phases: benchmarks)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stzoo.core.data.sampling_rules import measured_mask
from stzoo.core.io.read import read
from stzoo.core.metrics.correlation import per_gene_pcc
from stzoo.core.registry import model

pytestmark = pytest.mark.real


def test_untaught_it_is_no_worse_than_kriging(shared_data: Path):
    bins = read(f"{shared_data}/xenium_breast::xenium_q1", bin_um=50.0)
    bins = bins.take(bins.depth >= 10)
    measured = measured_mask(bins, "grid:2")
    target = float(np.median(bins.depth[measured]))
    varying = np.argsort(-bins.expression(target=target)[measured].var(axis=0))[:60:2]
    bins = bins.take_genes([bins.genes[i] for i in varying])
    truth = bins.expression(target=target)[~measured]
    pcc = {}
    for name, options in (("kriging", {}), ("s2s-st", {"start": "none", "refined": {"steps": 0}})):
        done = model(name, options).impute(bins.hide(measured), target=target)
        pcc[name] = float(np.median(per_gene_pcc(truth, done.adata.layers["imputed"][~measured])))
    assert pcc["kriging"] > 0.4
    assert pcc["s2s-st"] >= pcc["kriging"] - 0.01, pcc
