"""Heads: against scikit-learn, on training data alone, and saved with the model that carries them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from sklearn.linear_model import Ridge
from stzoo.core.data.section import Section
from stzoo.core.encoder import Encoder, training_data
from stzoo.core.errors import DataError, GeneError, UsageError, WeightsError
from stzoo.core.heads.base import head_descriptions, head_tensors, take_heads
from stzoo.core.heads.retrieval import RetrievalHead
from stzoo.core.heads.ridge import ALPHAS, RidgeHead, folds
from stzoo.core.metrics.correlation import per_gene_pcc


@dataclass
class _Config:
    pass


class Lookup(Encoder):
    """An encoder whose embedding was written into the section by the test."""

    name = "lookup"
    config_class = _Config

    @property
    def embedding_dim(self) -> int:
        return 6

    def embed(self, section, *, batch_size=64, progress=None):
        return np.asarray(section.adata.obsm["embedding"], dtype=np.float32)

    def state(self):
        return {"own": torch.ones(2)} | head_tensors(self.fitted_heads)

    def description(self):
        return {"heads": head_descriptions(self.fitted_heads)}

    def restore(self, state, description, assets):
        assert set(take_heads(self, state, description)) == {"own"}


def section(name: str, seed: int, n: int = 80, genes: int = 5) -> Section:
    rng = np.random.default_rng(seed)
    hidden = np.random.default_rng(99).normal(size=(6, genes))
    embedding = rng.normal(size=(n, 6)) * [1, 10, 0.1, 1, 1, 0] + [5, 0, 0, 0, 0, 3]
    standard = (embedding - [5, 0, 0, 0, 0, 3]) / [1, 10, 0.1, 1, 1, 1]
    rate = np.exp(0.5 * standard @ hidden)
    counts = rng.poisson(300 * rate / rate.sum(axis=1, keepdims=True)).astype(np.float32)
    adata = AnnData(counts, obs=pd.DataFrame(index=[f"{name}{i}" for i in range(n)]))
    adata.var_names = [f"G{i}" for i in range(genes)]
    adata.obsm["embedding"], adata.obsm["spatial_um"] = embedding, np.zeros((n, 2))
    return Section(adata, name)


TRAIN = [section("a", 0), section("b", 1), section("c", 2)]
TEST = section("t", 3)


@pytest.mark.parametrize("head", ["ridge", "mlp", "retrieval"])
def test_heads_predict_unseen_sections(head):
    model = Lookup().fit(TRAIN, head=head)
    prediction = model.predict(TEST, head=head)
    assert prediction.head == head
    assert prediction.genes == tuple(TEST.genes)
    assert prediction.values.dtype == np.float32
    assert prediction.uncertainty.shape == prediction.values.shape
    assert (prediction.uncertainty >= 0).all()
    assert np.median(per_gene_pcc(TEST.expression(target=1e4), prediction.values)) > (
        0.5 if head == "retrieval" else 0.9
    )


@pytest.mark.parametrize("head", ["ridge", "mlp", "retrieval"])
def test_saved_heads_predict_the_same_bits(head):
    model = Lookup().fit(TRAIN, head=head)
    again = Lookup()
    again.restore(model.state(), model.description(), {})
    for a, b in zip(
        (model.predict(TEST, head=head).values, model.predict(TEST, head=head).uncertainty),
        (again.predict(TEST, head=head).values, again.predict(TEST, head=head).uncertainty),
        strict=True,
    ):
        assert np.array_equal(a, b)


def test_some_genes_in_any_order():
    model = Lookup().fit(TRAIN, ["G1", "G3", "G4"])
    assert model.genes() == ["G1", "G3", "G4"]
    every = model.predict(TEST)
    some = model.predict(TEST, ["G4", "G1"])
    np.testing.assert_allclose(some.values, every.values[:, [2, 0]], rtol=1e-5)
    with pytest.raises(GeneError, match="not fitted for 'G44'"):
        model.predict(TEST, ["G44"])


def test_unmeasured_and_empty_spots_are_not_trained_on():
    spoiled = section("a", 0)
    spoiled.adata.obs["measured"] = np.arange(80) >= 20
    spoiled.adata.X[:20] = 1e6
    spoiled.adata.X[20:25] = 0
    embedding, expression, group, genes = training_data(Lookup(), [spoiled, TRAIN[1]], None)
    assert embedding.shape == (55 + 80, 6)
    assert np.isfinite(expression).all()
    assert (np.bincount(group) == [55, 80]).all()
    assert len(genes) == 5


def test_ridge_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    for n, d in ((60, 8), (20, 50)):
        x, y = rng.normal(size=(n, d)) * 4 + 2, rng.normal(size=(n, 3)) + 5
        head = RidgeHead.fit(x.astype(np.float32), y.astype(np.float32), np.arange(n) % 2, ("a", "b", "c"))
        assert head.alpha in ALPHAS
        standard = (x - x.mean(axis=0)) / x.std(axis=0)
        expected = Ridge(head.alpha).fit(standard, y).predict(standard)
        np.testing.assert_allclose(head.predict(x.astype(np.float32)).values, expected, atol=5e-3)  # fp16 weights


def test_the_penalty_grows_with_the_noise():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 20)).astype(np.float32)
    signal = x @ rng.normal(size=(20, 4))
    alphas = [
        RidgeHead.fit(
            x, (signal + noise * rng.normal(size=(200, 4))).astype(np.float32), np.arange(200) % 4, tuple("abcd")
        ).alpha
        for noise in (0.01, 20.0)
    ]
    assert alphas[0] < alphas[1]


def test_folds_leave_whole_sections_out():
    group = np.array([0, 0, 1, 1, 2])
    for train, test in folds(group):
        assert not set(group[train]) & set(group[test])
    parts = list(folds(np.zeros(7, dtype=int)))
    assert len(parts) == 5
    assert np.array_equal(np.sort(np.concatenate([test for _, test in parts])), np.arange(7))


def test_retrieval_by_hand():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)).astype(np.float32), rng.normal(size=(40, 2)).astype(np.float32)
    head = RetrievalHead.fit(x, y, np.arange(40) % 2, ("a", "b"))
    query = rng.normal(size=3)
    keys = x - x.mean(axis=0)
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    centred = query - x.mean(axis=0)
    cosine = keys @ (centred / np.linalg.norm(centred))
    near = np.argsort(-cosine)[: head.neighbours]
    weight = np.exp(cosine[near] / head.temperature)
    weight /= weight.sum()
    found = head.predict(query[None].astype(np.float32))
    mean = weight @ y[near]
    np.testing.assert_allclose(found.values[0], mean, atol=5e-3)
    np.testing.assert_allclose(found.uncertainty[0], np.sqrt(weight @ (y[near] - mean) ** 2), atol=5e-3)


@pytest.mark.parametrize("head", ["ridge", "mlp", "retrieval"])
def test_constant_embeddings_and_two_spots(head):
    tiny = section("a", 0, n=2)
    assert np.isfinite(Lookup().fit([tiny], head=head).predict(TEST, head=head).values).all()
    flat = section("a", 0)
    flat.adata.obsm["embedding"][:] = 1.0
    values = Lookup().fit([flat], head=head).predict(flat, head=head).values
    assert np.ptp(values, axis=0).max() < 1e-4


def test_what_can_not_be_fitted_is_refused():
    with pytest.raises(UsageError, match="no section"):
        Lookup().fit([])
    with pytest.raises(UsageError, match="no head 'rigde'"):
        Lookup().fit(TRAIN, head="rigde")
    with pytest.raises(GeneError, match="G9"):
        Lookup().fit(TRAIN, ["G9"])
    with pytest.raises(DataError, match="at least 2"):
        Lookup().fit([section("a", 0, n=1)])
    with pytest.raises(UsageError, match="shape"):
        Lookup().fit(TRAIN).fitted_heads["ridge"].predict(np.zeros((3, 4), dtype=np.float32))


@pytest.mark.parametrize("head", ["ridge", "mlp", "retrieval"])
@pytest.mark.parametrize("fault", ["missing", "extra", "shape", "nan", "stray", "unknown"])
def test_damaged_heads_are_refused(head, fault):
    model = Lookup().fit(TRAIN, head=head)
    state, description = model.state(), model.description()
    key = f"heads.{head}.mean"
    if fault == "missing":
        del state[key]
    elif fault == "extra":
        state[f"heads.{head}.other"] = torch.ones(1)
    elif fault == "shape":
        state[key] = torch.ones(2, 2)
    elif fault == "nan":
        state[key] = torch.full_like(state[key], float("nan"))
    elif fault == "stray":
        state["heads.linear.weights"] = torch.ones(1)
    else:
        description["heads"]["forest"] = {}
    with pytest.raises(WeightsError):
        Lookup().restore(state, description, {})
