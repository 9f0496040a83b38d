"""Protocols of kind ``finetune``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stzoo.core.evaluation.load_protocol import load_protocol
from stzoo.core.evaluation.protocol import Row
from stzoo.core.evaluation.run import run_protocol
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.io.write import write
from stzoo.plugins.benchmarks.kinds.finetune import FinetuneProtocol, draw_spots


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for seed in range(3):
        write(synthetic_section(side_um=1000, pitch_um=100, seed=seed, name=f"s{seed}"), folder / f"s{seed}.zarr")
    return folder


def test_every_row_is_scored_for_every_number_of_spots(folder: Path) -> None:
    protocol = FinetuneProtocol(
        name="small",
        question="?",
        kind="finetune",
        base=["s0.zarr"],
        train=["s1.zarr"],
        test=["s2.zarr"],
        sizes=[20, 0],
        network_from=100,
        genes=10,
        seeds=[0, 1],
        rows=[
            Row(name="mean"),
            Row(name="ridge", model="colour-texture", head="ridge"),
            Row(name="as", weights="comtip-tiny", control="as-it-comes"),
            Row(name="head", weights="comtip-tiny", control="head"),
            Row(name="full", weights="comtip-tiny", control="full"),
        ],
    )
    import stzoo

    found = run_protocol(protocol, folder, load=stzoo.load)
    parts = {(score.row, score.part) for score in found.scores}
    assert {("mean", "20 spots"), ("head", "20 spots"), ("head", "81 spots"), ("as", "81 spots")} <= parts
    assert not any(row == "full" for row, _ in parts)  # 81 spots are too few
    by = {(s.row, s.part): s.metrics["pcc_mean"] for s in found.scores}
    assert by["mean", "81 spots"] == 0
    assert by["head", "81 spots"] > by["as", "81 spots"]
    assert "test s2.zarr" in found.conditions


def test_spots_are_drawn_by_the_seed() -> None:
    section = synthetic_section(side_um=600, pitch_um=100)
    one, again, other = (draw_spots(section, 7, seed) for seed in (0, 0, 1))
    assert one.sum() == other.sum() == 7
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert draw_spots(section, 0, 3).all()


def test_the_shipped_protocol_is_honest_about_its_data() -> None:
    protocol = load_protocol("her2st-c5-finetune")
    assert isinstance(protocol, FinetuneProtocol)
    assert not set(protocol.base + protocol.train) & set(protocol.test)
    assert "same patient" in protocol.warning
