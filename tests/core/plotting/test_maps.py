"""Pictures of maps: what is drawn, in which formats, and that nothing is replaced unasked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from stzoo.core.errors import OutputError, UsageError
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.plotting.maps import check_plot, places_of, plot_chosen, plot_genes, plot_reliability

SECTION = synthetic_section(side_um=1000, pitch_um=100)


def test_every_map_of_every_gene_is_drawn_and_gaps_are_left_open(tmp_path):
    values = np.random.default_rng(0).random((SECTION.n_spots, 2)).astype(np.float32)
    gaps = np.full_like(values, np.nan)
    gaps[::3] = 1.0
    maps = [("measured", values), ("hidden", gaps)]
    path = plot_genes(SECTION, ["A", "B"], maps, tmp_path / "a.png", notes=["r 1", "r 2"], title="both")
    with Image.open(path) as two:
        plot_genes(SECTION, ["A"], [("measured", values)], tmp_path / "one.png")
        with Image.open(tmp_path / "one.png") as one:
            assert two.width > one.width
            assert two.height > one.height
    plot_genes(SECTION, ["A"], [("empty", np.full_like(values, np.nan))], tmp_path / "empty.png")


def test_a_picture_is_replaced_only_when_asked_and_others_are_refused(tmp_path):
    chosen = np.arange(SECTION.n_spots) % 4 == 0
    path = plot_chosen(SECTION, chosen, tmp_path / "spots.svg", title="every fourth")
    before = path.read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        plot_chosen(SECTION, chosen, path)
    assert path.read_bytes() == before
    plot_chosen(SECTION, ~chosen, path, overwrite=True)
    assert path.read_bytes() != before
    with pytest.raises(UsageError, match=r"'spots\.txt' is no picture format"):
        plot_chosen(SECTION, chosen, tmp_path / "spots.txt")
    assert [file.name for file in tmp_path.iterdir()] == ["spots.svg"]
    assert check_plot("MAP.PDF").name == "MAP.PDF"


def test_a_curve_of_reliability_is_drawn_beyond_nought_and_one(tmp_path):
    curve = np.array([[0.1, -3.0, 10], [0.9, 1.0, 10]])
    assert plot_reliability(curve, tmp_path / "curve.pdf").read_bytes().startswith(b"%PDF")


def test_spots_stand_on_the_slide_or_in_micrometres():
    place, size = places_of(SECTION)
    np.testing.assert_array_equal(place, SECTION.pixels)
    alone, same = places_of(replace(SECTION, slide=None))
    np.testing.assert_array_equal(alone, SECTION.um)
    assert size == pytest.approx(same)
