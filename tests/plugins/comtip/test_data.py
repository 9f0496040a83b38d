"""What CoMTIP trains on: read by the batch, and the same scores as from tensors that hold everything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stzoo.core import config as configs
from stzoo.core.data.section import Section
from stzoo.core.io.synthetic import synthetic_section
from stzoo.plugins.comtip import data as expression
from stzoo.plugins.comtip.config import CoMTIPConfig
from stzoo.plugins.comtip.data import SparseValues, TrainingData, choose_training_genes, compute_components, gather
from stzoo.plugins.comtip.inputs import measure_moments, read_inputs, standardise
from stzoo.plugins.comtip.model import CoMTIP
from stzoo.plugins.comtip.network import CoMTIPNetwork
from stzoo.plugins.comtip.training import CoMTIPTask
from stzoo.plugins.comtip.vocabulary import Vocabulary

SMALL: dict[str, Any] = {
    "embedding_dim": 16,
    "vision": {"tile_px": 64, "width": 24, "depth": 1, "heads": 2},
    "text": {"width": 16, "depth": 1, "heads": 2, "pieces": 60},
    "train": {"steps": 3, "batch": 12, "genes": 8, "ranked_genes": 8, "views": 3, "warmup": 1},
}


def config_of(stem: str) -> CoMTIPConfig:
    vision = {**SMALL["vision"], "stem": stem, "skip": stem == "texture"}
    return configs.build(CoMTIPConfig, {**SMALL, "vision": vision}, where="test")


@pytest.fixture(scope="module")
def sections() -> list[Section]:
    """Two tissues of different size; of the second every third spot was not measured."""
    one, two = synthetic_section(side_um=1200, seed=1), synthetic_section(side_um=1600, seed=2, name="two")
    return [one, two.hide(np.arange(two.n_spots) % 3 > 0)]


def everything_in_tensors(sections: list[Section], genes: list[str], config: CoMTIPConfig, seed: int) -> TrainingData:
    """Return the training data as dense tensors, read in the order of the spots."""
    draw = np.random.default_rng(seed)
    views: list[list[torch.Tensor]] = [[] for _ in range(config.train.views)]
    values, um = [], []
    for section in sections:
        seen = section.measured
        values.append(torch.from_numpy(section.expression(genes, target=1e4)[seen]))
        um.append(torch.from_numpy(section.um[seen]).float())
        reach = config.train.shift_um / section.slide.mpp
        moments = measure_moments(section, config.vision, 32)
        for number, view in enumerate(views):
            places = section.pixels[seen]
            places = places + (draw.uniform(-reach, reach, places.shape) if number else 0.0)
            view.append(standardise(read_inputs(section, places, config.vision), moments))
    y = torch.cat(values)
    u, s, _ = torch.linalg.svd((y - y.mean(0)) / (y.std(0) + 1e-3), full_matrices=False)
    number_of = torch.repeat_interleave(torch.tensor([len(part) for part in values]))
    inputs = torch.stack([torch.cat(view) for view in views])
    return TrainingData(inputs, y, (u * s)[:, :20], torch.cat(um), number_of)


@pytest.mark.parametrize("stem", ["texture", "linear"])
def test_batches_are_those_of_dense_tensors_bit_for_bit(sections: list[Section], tmp_path: Path, stem: str) -> None:
    config = config_of(stem)
    genes = choose_training_genes(sections, 0.1, 1000)
    kept = gather(sections, genes, config, 5, cache=tmp_path)
    whole = everything_in_tensors(sections, genes, config, 5)
    assert len(kept.inputs) == 3
    for view in range(3):
        chosen = torch.randperm(len(whole.values), generator=torch.Generator().manual_seed(view))[:17]
        assert torch.equal(kept.inputs[view, chosen], whole.inputs[view, chosen])
        assert torch.equal(kept.values[chosen], whole.values[chosen])
    for name in ("profiles", "um", "section"):
        assert torch.equal(getattr(kept, name), getattr(whole, name)), name


@pytest.mark.parametrize("stem", ["texture", "linear"])
@pytest.mark.parametrize("neighbours", [False, True])
def test_losses_are_those_of_dense_tensors_bit_for_bit(
    sections: list[Section], tmp_path: Path, stem: str, neighbours: bool
) -> None:
    config = config_of(stem)
    config = replace(config, train=replace(config.train, neighbours=neighbours))
    genes = choose_training_genes(sections, 0.1, 1000)
    vocabulary = Vocabulary(genes, config.text)
    found = []
    for data in (
        gather(sections, genes, config, 5, cache=tmp_path),
        everything_in_tensors(sections, genes, config, 5),
    ):
        torch.manual_seed(0)
        network = CoMTIPNetwork(config, len(genes), vocabulary.n_tokens, vocabulary.n_described, vocabulary.suffix)
        task = CoMTIPTask(network, data, vocabulary.inputs(genes), config)
        found.append([task.losses(k, torch.Generator().manual_seed(k)) for k in range(3)])
    for one, other in zip(*found, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_genes_are_chosen_as_from_a_dense_matrix(sections: list[Section]) -> None:
    """By detection, then by the mean over all measured spots; in the order of the first section."""
    y = np.concatenate([section.expression(target=1e4)[section.measured] for section in sections])
    detected = (y > 0).mean(axis=0) >= 0.3
    best = np.flatnonzero(detected)[np.argsort(-y[:, detected].mean(axis=0), kind="stable")[:12]]
    assert choose_training_genes(sections, 0.3, 12) == [sections[0].genes[i] for i in sorted(best)]


def test_components_of_a_sparse_matrix_are_those_of_the_dense_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.sparse import random_array

    counts = random_array((400, 90), density=0.3, rng=np.random.default_rng(0), format="csr", dtype=np.float32)
    values = SparseValues(counts * np.arange(1, 91, dtype=np.float32))
    exact = compute_components(values)
    monkeypatch.setattr(expression, "EXACT_VALUES", 0)
    lanczos = compute_components(values)
    assert exact.shape == lanczos.shape == (400, 20)
    # signs are arbitrary; what the targets of the contrast are made of is not
    torch.testing.assert_close(lanczos @ lanczos.T, exact @ exact.T, rtol=1e-3, atol=1e-2)


def test_expression_stays_sparse(sections: list[Section], tmp_path: Path) -> None:
    data = gather(sections, choose_training_genes(sections, 0.0, 1000), config_of("texture"), 0, cache=tmp_path)
    assert isinstance(data.values, SparseValues)
    assert data.values.matrix.nnz == sum(int((s.counts()[s.measured] > 0).sum()) for s in sections)


def test_a_finished_run_leaves_no_cache_and_a_shared_one_serves_the_next(
    sections: list[Section], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STZOO_CACHE", raising=False)
    alone = CoMTIP(SMALL)
    alone.train(sections[:1], out=tmp_path / "alone", progress=False)
    assert not (tmp_path / "alone" / "cache").exists()
    monkeypatch.setenv("STZOO_CACHE", str(tmp_path / "shared"))
    states, stamps = [], set()
    for name in ("first", "second"):
        model = CoMTIP(SMALL)
        model.train(sections[:1], out=tmp_path / name, progress=False)
        states.append(model.state())
        caches = [folder for folder in (tmp_path / "shared").iterdir() if folder.is_dir()]
        assert len(caches) == 1
        assert not (tmp_path / name / "cache").exists()
        stamps.add((caches[0] / "rows.npy").stat().st_mtime_ns)
    assert len(stamps) == 1  # the second run wrote nothing
    for state in states:
        assert all(torch.equal(tensor, state[key]) for key, tensor in alone.state().items())
