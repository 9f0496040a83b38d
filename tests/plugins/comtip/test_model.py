"""CoMTIP at its interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stzoo.core.data.section import Section
from stzoo.core.errors import ConfigError, GeneError, UsageError, WeightsError
from stzoo.core.io.synthetic import synthetic_section
from stzoo.plugins.comtip.config import CoMTIPConfig, Stem
from stzoo.plugins.comtip.image_tower import N_STATISTICS, compute_statistics
from stzoo.plugins.comtip.inputs import turn
from stzoo.plugins.comtip.model import CoMTIP
from stzoo.plugins.comtip.vocabulary import encode_symbols, learn_symbol_tokenizer, load_symbol_tokenizer

TINY: dict[str, Any] = {
    "embedding_dim": 16,
    "vision": {"tile_px": 64, "width": 24, "depth": 1, "heads": 2},
    "text": {"width": 16, "depth": 1, "heads": 2, "pieces": 60},
    "train": {"steps": 4, "batch": 12, "genes": 8, "ranked_genes": 8, "views": 1, "warmup": 1},
}


@pytest.fixture(scope="module")
def section() -> Section:
    return synthetic_section(side_um=1200, seed=1)


@pytest.fixture(scope="module")
def trained(section: Section, tmp_path_factory: pytest.TempPathFactory) -> CoMTIP:
    model = CoMTIP(TINY)
    model.train([section], out=tmp_path_factory.mktemp("run"), progress=False)
    return model


@pytest.mark.parametrize("paat", ["critic", "paper"])
def test_a_seed_gives_the_same_weights_bit_for_bit(section: Section, tmp_path: Path, paat: str) -> None:
    """Also what only training uses (the discriminator, the generator of spots) starts from the seed."""
    states = []
    for number in range(2):
        torch.manual_seed(number)  # what the caller drew before does not matter
        objective = {"paat": paat, "pair": 1.0, "mfm_spots": 1.0}
        train = {**TINY["train"], "neighbours": True}
        model = CoMTIP({**TINY, "objective": objective, "train": train}, seed=3)
        model.train([section], out=tmp_path / str(number), progress=False)
        states.append(model.state())
    assert states[0].keys() == states[1].keys()
    for key, tensor in states[0].items():
        assert torch.equal(tensor, states[1][key]), key


def test_statistics_of_a_patch_are_plain_moments() -> None:
    rng = np.random.default_rng(0)
    tile = rng.integers(40, 255, (1, 64, 64, 3), dtype=np.uint8)
    found = compute_statistics(torch.from_numpy(tile), 32)[0].numpy()
    density = -np.log(tile[0].astype(np.float64) / 255).mean(axis=-1)
    corner = density[:32, 32:]  # the second patch of the first row
    assert found.shape == (4, N_STATISTICS)
    assert found[1, 3] == pytest.approx(corner.mean(), rel=1e-4)
    assert found[1, 7] == pytest.approx(corner.std(), rel=1e-3)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_statistics_turn_with_the_tile(turns: int) -> None:
    rng = np.random.default_rng(1)
    tile = rng.integers(40, 255, (1, 64, 64, 3), dtype=np.uint8)
    rotated = torch.from_numpy(np.rot90(tile, turns, (1, 2)).copy())
    expected = turn(compute_statistics(torch.from_numpy(tile), 32), turns, flip=False)
    picked = [*range(8), *range(18, N_STATISTICS)]  # quantiles look at every second pixel, which a turn moves
    torch.testing.assert_close(
        compute_statistics(rotated, 32)[..., picked], expected[..., picked], atol=1e-4, rtol=1e-3
    )


def test_tokenizer_round_trip_and_odd_symbols() -> None:
    tokenizer = learn_symbol_tokenizer(["KRT5", "KRT8", "HLA-DRA", "COL1A1"], 60)
    again = load_symbol_tokenizer(tokenizer.to_str().encode())
    odd = ["KRT18", "krt18", "βGENE", "H2-Aa", "MT-CO1.2"]
    pieces = encode_symbols(again, odd)
    assert torch.equal(pieces, encode_symbols(tokenizer, odd))
    assert torch.equal(pieces[0], pieces[1])
    assert (pieces[:, 0] != 0).all()


def test_without_weights_nothing_is_predicted(section: Section) -> None:
    with pytest.raises(WeightsError, match="no weights"):
        CoMTIP().embed(section)


def test_embedding_does_not_depend_on_the_batch_and_never_reads_counts(trained: CoMTIP, section: Section) -> None:
    whole = trained.embed(section, batch_size=64)
    assert whole.shape == (section.n_spots, trained.embedding_dim)
    blind = section.without_counts()
    np.testing.assert_allclose(trained.embed(blind, batch_size=5), whole, atol=2e-4)


def test_save_and_load_predict_the_same_bits(trained: CoMTIP, section: Section, tmp_path: Path) -> None:
    again = CoMTIP.load(trained.save(tmp_path / "weights"))
    for head in ("ridge", "zero-shot"):
        expected = trained.predict(section, ["ERBB2", "CD74"], head=head).values
        assert np.array_equal(again.predict(section, ["ERBB2", "CD74"], head=head).values, expected)


def test_zero_shot_takes_genes_never_seen(trained: CoMTIP, section: Section) -> None:
    prediction = trained.predict(section, ["KRT17", "ERBB2"], head="zero-shot")
    assert prediction.genes == ("KRT17", "ERBB2")
    assert np.isfinite(prediction.values).all()
    assert prediction.uncertainty is not None
    assert (prediction.uncertainty >= 0).all()
    swapped = trained.predict(section, ["ERBB2", "KRT17"], head="zero-shot").values[:, ::-1]
    np.testing.assert_allclose(swapped, prediction.values, atol=1e-5)
    with pytest.raises(GeneError):
        trained.predict(section, [" "], head="zero-shot")


def test_resume_ends_with_the_same_bits(section: Section, tmp_path: Path) -> None:
    def run(folder: str, steps: int, **options: Any) -> CoMTIP:
        config = CoMTIP(TINY).config
        config.train.steps = 4
        model = CoMTIP(config)
        model.train([section], out=tmp_path / folder, progress=False, **options)
        return model

    once = run("a", 4)
    again = run("a", 4, resume=True)
    for name, tensor in once.state().items():
        assert torch.equal(tensor, again.state()[name]), name


def test_hidden_spots_are_never_read_in_training(section: Section, tmp_path: Path) -> None:
    measured = np.arange(section.n_spots) % 2 == 0
    poisoned = section.take(np.arange(section.n_spots))
    x = poisoned.adata.X.toarray()
    x[~measured] = 1e6
    poisoned.adata.X = x
    states = []
    for number, one in enumerate((section, poisoned)):
        model = CoMTIP(TINY)
        model.train([one.hide(measured)], out=tmp_path / str(number), progress=False)
        states.append(model.state())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_restore_is_strict(trained: CoMTIP) -> None:
    state, description, assets = trained.state(), trained.description(), trained.assets()
    missing = {k: v for k, v in state.items() if k != "network.logit_scale"}
    extra = {**state, "network.more": torch.zeros(1)}
    shaped = {**state, "network.text.value.knots": torch.zeros(3, 3)}
    for broken in (missing, extra, shaped):
        with pytest.raises(WeightsError):
            CoMTIP(TINY).restore(broken, description, assets)
    with pytest.raises(WeightsError, match="vocabulary"):
        CoMTIP(TINY).restore(state, {}, assets)


def test_the_paper_stem_runs_on_pixels(section: Section, tmp_path: Path) -> None:
    model = CoMTIP({**TINY, "vision": {**TINY["vision"], "stem": "linear"}})
    model.train([section], out=tmp_path, progress=False)
    assert model.config.vision.stem is Stem.linear
    assert model.embed(section).shape == (section.n_spots, 16 * 3)


def test_genes_never_seen_are_named(trained: CoMTIP) -> None:
    assert trained.genes_not_trained_on(["ERBB2", "KRT17X", "CD74"]) == ["KRT17X"]


def test_query_of_a_set_does_not_depend_on_the_order_of_its_genes(trained: CoMTIP, section: Section) -> None:
    genes = [*trained.genes("zero-shot")[:3], "NEVERSEEN1"]
    level = trained.query(section, genes)
    assert level.shape == (section.n_spots,)
    assert level.dtype == np.float32
    assert (level >= -1.5).all()
    assert (level <= 3).all()
    np.testing.assert_allclose(trained.query(section, genes[::-1], batch_size=7), level, atol=1e-3)
    with pytest.raises(GeneError):
        trained.query(section, [])


def test_profiles_of_measured_spots_only(trained: CoMTIP, section: Section) -> None:
    measured = np.arange(section.n_spots) % 3 > 0
    vectors = trained.expression_vectors(section.hide(measured))
    assert vectors.shape == (section.n_spots, 16)
    assert np.array_equal(np.isfinite(vectors).all(axis=1), measured)
    np.testing.assert_allclose(vectors[measured], trained.expression_vectors(section)[measured], atol=1e-5)


def test_a_section_without_any_gene_of_the_vocabulary_is_refused(trained: CoMTIP, section: Section) -> None:
    renamed = section.take(np.arange(4))
    renamed.adata.var_names = [f"Gene{i}" for i in range(renamed.adata.n_vars)]
    with pytest.raises(GeneError, match="none of the"):
        trained.expression_vectors(renamed)


SWITCHES: dict[str, dict[str, Any]] = {
    "neighbours and context": {"vision": {"context_um": [200.0]}, "train": {"neighbours": True}},
    "spots": {"objective": {"mfm_spots": 1.0}, "train": {"neighbours": True}},
    "paat paper": {"objective": {"paat": "paper"}},
    "paat critic": {"objective": {"paat": "critic", "shuffled": 0.3}},
    "paat negative": {"objective": {"paat": "negative"}},
    "paat pairs": {"objective": {"paat": "pairs"}},
    "mfm cosine, block": {"objective": {"mfm_loss": "cosine", "generator": "block"}},
    "mfm normalised": {"objective": {"mfm_loss": "normalised"}},
    "affine, mean": {"text": {"values": "affine", "pool": "mean"}},
    "fourier": {"text": {"fourier": 4}},
    "no table": {"text": {"gene_table": False}},
    "no subwords": {"text": {"subwords": False}},
    "no values": {"text": {"values": "none"}},
    "correlation only": {"objective": {"contrast": 0.0, "mfm": 0.0, "ranking": 0.0, "correlation": 1.0}},
    "one pose": {"vision": {"poses": False}},
}


@pytest.mark.parametrize("name", SWITCHES)
def test_every_switch_trains_saves_and_predicts(name: str, section: Section, tmp_path: Path) -> None:
    config = {key: {**TINY.get(key, {}), **values} for key, values in SWITCHES[name].items()}
    plain = CoMTIP(TINY)
    plain.train([section], out=tmp_path / "plain", progress=False)
    model = CoMTIP({**TINY, **config})
    losses = model.train([section], out=tmp_path / "run", progress=False)
    assert np.isfinite(list(losses.values())).all()
    again = CoMTIP.load(model.save(tmp_path / "weights"))
    genes = model.genes("zero-shot")[:4]
    expected = model.predict(section, genes, head="zero-shot").values
    assert np.array_equal(again.predict(section, genes, head="zero-shot").values, expected)
    assert not np.array_equal(plain.image_vectors(section), model.image_vectors(section))  # the switch acts


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"vision": {"context_um": [200.0]}}, "train.neighbours"),
        ({"objective": {"contrast": 0.0, "mfm": 0.0, "ranking": 0.0}}, "weights"),
        ({"objective": {"contrast": 0.0, "paat": "negative"}}, "contrast"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    options: dict[str, Any], named: str, section: Section, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=named):
        CoMTIP({**TINY, **options}).train([section], out=tmp_path, progress=False)


def test_int8_predicts_nearly_the_same_and_is_not_saved(trained: CoMTIP, section: Section, tmp_path: Path) -> None:
    full = trained.image_vectors(section)
    small = CoMTIP.load(trained.save(tmp_path / "weights")).quantise()
    other = small.image_vectors(section)
    cosine = (full * other).sum(1) / np.linalg.norm(full, axis=1) / np.linalg.norm(other, axis=1)
    assert cosine.min() > 0.98
    assert not np.array_equal(full, other)
    with pytest.raises(UsageError, match="int8"):
        small.save(tmp_path / "int8")


def test_untrained_weights_are_a_control_with_a_ridge_head(section: Section) -> None:
    model = CoMTIP(TINY).initialise([section])
    assert np.isfinite(model.predict(section, model.genes("ridge")[:2]).values).all()


def test_defaults_build() -> None:
    assert CoMTIP().config == CoMTIPConfig()
