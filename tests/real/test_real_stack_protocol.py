"""A stack protocol on real sections, small: what C4 carries over to C5 is worth more than C5's own sparse spots."""

from __future__ import annotations

from pathlib import Path

from stzoo.core.evaluation.protocol import GeneSet
from stzoo.core.evaluation.run import run_protocol
from stzoo.plugins.benchmarks.kinds.stack import StackProtocol, StackRow, Uses


def test_transfer_from_c4_to_c5(shared_data: Path) -> None:
    rows = [
        StackRow("transfer", model="transfer"),
        StackRow("not aligned", model="transfer", aligner="none"),
        StackRow("own spots", model="knn", uses=Uses.sparse),
        StackRow("both", model="transfer", overrides=["own=0.5"]),
    ]
    protocol = StackProtocol(
        name="quick",
        kind="stack",
        sections=["her2st::C4", "her2st::C5"],
        central=["C4"],
        measured=["grid:2"],
        genes=GeneSet(count=20),
        rows=rows,
    )
    result = run_protocol(protocol, shared_data, load=lambda name: None)
    found = {score.row: score.metrics["pcc_median"] for score in result.scores if score.part == "C5"}
    assert 0.2 < found["own spots"] < found["transfer"] < found["both"] < 0.6
    assert found["transfer"] > 1.3 * found["not aligned"]
