"""Scores of the packaged weights on real tissue."""

from __future__ import annotations

from pathlib import Path

import stzoo
from stzoo.core.evaluation.load import load_protocol
from stzoo.core.evaluation.run import run_protocol


def test_comtip_tiny_beats_the_gene_mean_on_an_unseen_section(shared_data: Path) -> None:
    protocol = load_protocol("her2st-c5-quick")
    protocol.rows = [row for row in protocol.rows if row.head in ("", "ridge") and row.model == ""]
    found = run_protocol(protocol, shared_data, load=stzoo.load)
    scores = {(score.row, score.part): score.metrics for score in found.scores}
    assert scores["gene mean", "top-250-mean"]["pcc_mean"] == 0
    assert scores["comtip-tiny, ridge", "top-250-mean"]["pcc_mean"] > 0.27
    assert scores["comtip-tiny, ridge", "top-50-variance"]["pcc_mean"] > 0.43
    assert scores["comtip-tiny, ridge", "top-250-mean"]["mse"] < scores["gene mean", "top-250-mean"]["mse"]
