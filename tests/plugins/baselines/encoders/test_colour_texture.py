"""The hand-made encoder: what its features answer to, and that it saves with its head."""

from __future__ import annotations

import numpy as np
import pytest
from stzoo.core.data.neighbourhood import Neighbourhood
from stzoo.core.data.section import Section
from stzoo.core.errors import DataError, WeightsError
from stzoo.core.metrics.correlation import per_gene_pcc
from stzoo.core.registry import model
from stzoo.core.slides.slide import Slide
from stzoo.plugins.baselines.encoders.colour_texture import ColourTexture
from stzoo.plugins.baselines.encoders.texture import N_FEATURES, patch_features

SMALL = {"tile_px": 64, "context_um": [200.0]}


@pytest.fixture(scope="module")
def stained(tissue) -> Section:
    """A section on a slide whose purple deepens to the right, as one gene does."""
    section = tissue(rows=6, cols=10, genes=4)
    rng = np.random.default_rng(0)
    shade = np.linspace(0, 1, 1100)[None, :, None] * np.ones((700, 1, 1))
    pixels = 235 - shade * [110, 140, 60] + rng.normal(0, 12, (700, 1100, 1))
    rate = 1 + section.um[:, :1] / 300 * [1, 0, 0, 0]
    section.adata.X = rng.poisson(rate * 80).astype(np.float32)
    section.adata.obs["measured"] = True
    section.adata.obsm["spatial"] = section.um + 50
    slide = Slide.from_array(np.clip(pixels, 0, 255).astype(np.uint8), mpp=1.0)
    return Section(section.adata, "stained", slide=slide, mpp=1.0)


def test_features_are_finite_and_named_by_their_number():
    rng = np.random.default_rng(0)
    for patch in (rng.integers(0, 256, (64, 64, 3)), np.full((32, 32, 3), 255), np.zeros((50, 41, 3))):
        found = patch_features(patch.astype(np.uint8))
        assert found.shape == (N_FEATURES,)
        assert np.isfinite(found).all()


def test_texture_does_not_care_which_way_up():
    patch = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    turned = patch_features(np.ascontiguousarray(patch[::-1]))
    np.testing.assert_allclose(turned, patch_features(patch), rtol=0.1, atol=0.05)


def test_embedding_is_standardised_and_independent_of_batches(stained):
    encoder = model("colour-texture", SMALL)
    embedding = encoder.embed(stained)
    assert embedding.shape == (len(stained), encoder.embedding_dim)
    assert embedding.dtype == np.float32
    np.testing.assert_allclose(embedding.mean(axis=0), 0, atol=1e-4)
    assert np.array_equal(embedding, encoder.embed(stained, batch_size=7))


def test_expression_is_not_read(stained):
    spoiled = Section(stained.adata.copy(), "s", slide=stained.slide, mpp=1.0)
    spoiled.adata.X[:] = np.nan
    encoder = model("colour-texture", SMALL)
    assert np.array_equal(encoder.embed(stained), encoder.embed(spoiled))


def test_it_predicts_what_the_stain_shows_and_saves(stained, tmp_path):
    encoder = model("colour-texture", SMALL).fit([stained])
    prediction = encoder.predict(stained)
    assert per_gene_pcc(stained.expression(target=1e4), prediction.values)[0] > 0.8
    encoder.save(tmp_path / "weights")
    again = ColourTexture.load(tmp_path / "weights")
    assert np.array_equal(again.predict(stained).values, prediction.values)
    with pytest.raises(WeightsError, match="no weights"):
        encoder.restore({"body": next(iter(encoder.state().values()))}, {}, {})


def test_neighbourhood_mean_is_a_gaussian_mean():
    rng = np.random.default_rng(0)
    um, values = rng.uniform(0, 300, (40, 2)), rng.normal(size=(40, 3))
    distance = np.linalg.norm(um[:, None] - um, axis=2)
    weight = np.exp(-(distance**2) / (2 * 60**2)) * (distance <= 180)
    expected = weight @ values / weight.sum(axis=1, keepdims=True)
    found = Neighbourhood(um).means(values, slice(0, 40), [60.0])[0]
    np.testing.assert_allclose(found, expected, atol=1e-9)
    np.testing.assert_array_equal(Neighbourhood(um).means(values, slice(7, 19), [60.0])[0], found[7:19])
    np.testing.assert_allclose(Neighbourhood(um[:1]).means(values[:1], slice(0, 1), [60.0])[0], values[:1])


def test_a_section_without_a_slide_is_refused(tissue):
    with pytest.raises(DataError, match="no slide image"):
        model("colour-texture").embed(tissue())


def test_kriging_with_image_features(stained):
    sparse = stained.hide(np.arange(len(stained)) % 3 == 0)
    found = [model("kriging", {"encoder": e}).impute(sparse).adata.layers["imputed"] for e in ("", "colour-texture")]
    assert np.isfinite(found[1]).all()
    assert not np.array_equal(*found)


def test_kriging_takes_an_encoder_from_a_folder(stained, tmp_path):
    model("colour-texture", SMALL).save(tmp_path / "weights")
    values = (
        model("kriging", {"encoder": str(tmp_path / "weights")})
        .impute(stained.hide(np.arange(len(stained)) % 3 == 0))
        .adata.layers["imputed"]
    )
    assert np.isfinite(values).all()
