"""S2S-ST as an imputer: what it keeps, what it must not read, awkward sections, options and weights."""

from __future__ import annotations

import numpy as np
import pytest
import stzoo
import torch
from s2s_st_sections import VARIANTS, cdcin, hexagonal, layers, patches, refined, section_of, truth_of
from stzoo.core.data.sampling import measured_mask
from stzoo.core.data.section import Section, Stack
from stzoo.core.errors import ConfigError, DataError, WeightsError
from stzoo.core.metrics.correlation import per_gene_pcc
from stzoo.core.registry import model
from stzoo.plugins.s2s_st.model import S2SST

RULES = ["grid:2", "grid:2+1,0", "grid:3", "grid:4", "random:0.25"]


@pytest.fixture(params=VARIANTS)
def make(request):
    return VARIANTS[request.param]


def shaken(found: S2SST, seed: int = 0) -> S2SST:
    """Give the refiner weights as if it had learned something."""
    with torch.no_grad():
        weight = found.refiner.last.weight
        weight += 0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
    return found


@pytest.mark.parametrize("rule", RULES)
def test_measured_values_come_back_bit_equal_at_every_stride_and_mask(make, rule, tissue):
    section = tissue(rows=18, cols=20, genes=4)
    hidden = section.take(np.arange(section.n_spots))
    hidden.adata.obs["measured"] = measured_mask(section, rule)
    values, confidence = layers(make().impute(hidden))
    measured = hidden.measured
    assert np.array_equal(values[measured], hidden.hide(measured).expression()[measured])
    assert (confidence[measured] == 1).all()
    assert np.isfinite(values).all()
    assert ((confidence >= 0) & (confidence <= 1)).all()
    assert confidence[~measured].max() < 1
    assert np.ptp(values[~measured], axis=0).min() > 0  # no constant map where genes vary


@pytest.mark.parametrize("rule", ["grid:2", "random:0.25"])
@pytest.mark.parametrize("poison", [np.nan, 1e6])
def test_hidden_counts_and_all_that_came_of_them_are_never_read(make, rule, poison, tissue):
    honest = tissue(rows=18, cols=20, genes=4)
    honest.adata.obs["measured"] = measured_mask(honest, rule)
    told = tissue(rows=18, cols=20, genes=4)
    measured = honest.measured
    depth = told.adata.X.sum(axis=1)
    told.adata.X[~measured] = poison
    told.adata.obs["measured"] = measured
    told.adata.obs["total_counts"] = np.where(measured, depth, poison)
    told.adata.obs["n_cells"] = np.where(measured, 3.0, poison)
    told.adata.obs["cluster"] = np.where(measured, "a", "b")
    told.adata.layers["log"] = truth_of(tissue(rows=18, cols=20, genes=4))
    told.adata.obsm["X_pca"] = told.adata.layers["log"][:, :2].copy()
    told.adata.var["mean"] = told.adata.layers["log"].mean(axis=0)
    told.adata.uns["mean"] = told.adata.layers["log"].mean(axis=0)
    for mine, theirs in zip(layers(make().impute(honest)), layers(make().impute(told)), strict=True):
        assert np.array_equal(mine, theirs)


def test_fill_never_reads_values_of_hidden_spots(make, tissue):
    section = tissue().hide(tissue().measured)
    hidden = ~section.measured
    honest = section.expression()
    told = honest.copy()
    told[hidden] = 1e6
    a, b = (make().fill(Stack((section,)), [values])[0] for values in (honest, told))
    assert np.array_equal(a.values[hidden], b.values[hidden])
    assert np.array_equal(a.confidence[hidden], b.confidence[hidden])


def test_a_seed_decides_everything(make, tissue):
    found = []
    for number, seed in enumerate((4, 4, 5)):
        torch.manual_seed(number)
        np.random.seed(number)
        found.append(layers(make(seed=seed).impute(tissue(rows=20, cols=20))))
    for same, other in zip(*found[:2], strict=True):
        assert np.array_equal(same, other)
    assert not np.array_equal(found[0][0], found[2][0])


def test_a_model_does_not_remember_sections(make, tissue):
    one, other = tissue(rows=20, cols=20), tissue(rows=18, cols=18, seed=3)
    used = make()
    used.impute(other)
    assert np.array_equal(layers(used.impute(one))[0], layers(make().impute(one))[0])


def test_the_order_of_genes_does_not_matter(tissue):
    section = tissue(rows=20, cols=20)
    genes = np.random.default_rng(1).permutation(section.n_genes)
    shuffled = Section(section.adata[:, genes].copy(), "shuffled")
    straight, mixed = (layers(refined(steps=0).impute(s)) for s in (section, shuffled))
    for a, b in zip(straight, mixed, strict=True):
        np.testing.assert_allclose(b, a[:, genes], atol=1e-4)


@pytest.mark.parametrize("drawn", [lambda: patches(20, 20), hexagonal], ids=["square", "hexagonal"])
def test_the_order_of_spots_does_not_matter(drawn):
    section = drawn()
    order = np.random.default_rng(2).permutation(section.n_spots)
    straight, mixed = (layers(refined(steps=0).impute(s))[0] for s in (section, section.take(order)))
    np.testing.assert_allclose(mixed, straight[order], atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_a_handful_of_measured_spots(count, tissue):
    section = tissue(rows=8, cols=9)
    mask = np.zeros(section.n_spots, dtype=bool)
    mask[np.flatnonzero(section.measured)[:count]] = True
    values, confidence = layers(refined().impute(section.hide(mask)))
    assert np.isfinite(values).all()
    assert ((confidence >= 0) & (confidence <= 1)).all()
    untaught, _ = layers(refined(steps=0).impute(section.hide(mask)))
    assert np.array_equal(values, untaught)  # too few to learn from
    if count == 1:
        np.testing.assert_allclose(values, np.broadcast_to(values[mask], values.shape), atol=1e-6)
        assert (confidence[~mask] == 0).all()


def test_cdcin_says_when_there_is_too_little_to_train_on(tissue):
    mask = np.arange(14 * 12) == 0
    with pytest.raises(DataError, match="measure more spots"):
        cdcin().impute(tissue().hide(mask))


def test_a_gene_that_never_varies_stays_and_is_not_trusted(tissue):
    section = tissue(rows=20, cols=20)
    section.adata.X[:, 2] = 0
    values, confidence = layers(refined().impute(section))
    assert (values[:, 2] == 0).all()
    assert (confidence[~section.measured, 2] == 0).all()
    assert (confidence[:, 3] > 0.1).all()


def test_cdcin_does_not_trust_a_gene_that_never_varies(tissue):
    section = tissue(rows=20, cols=20)
    section.adata.X[:, 2] = 0
    _, confidence = layers(cdcin().impute(section))
    assert (confidence[~section.measured, 2] == 0).all()


@pytest.mark.parametrize("level", [0, 1])
def test_a_section_in_which_nothing_varies(make, level, tissue):
    section = tissue(rows=20, cols=20, genes=3)
    section.adata.X[:] = level
    values, confidence = layers(make().impute(section))
    assert np.isfinite(values).all()
    assert (confidence[~section.measured] == 0).all()
    if make is refined:
        np.testing.assert_allclose(values, np.log1p(level), atol=1e-6)


def test_a_measured_spot_without_counts_comes_back_zero(make, tissue):
    section = tissue(rows=20, cols=20)
    empty = np.flatnonzero(section.measured)[::7]
    section.adata.X[empty] = 0
    values, confidence = layers(make().impute(section))
    assert (values[empty] == 0).all()
    assert (confidence[empty] == 1).all()


def test_spots_without_counts_teach_the_refined_variant_nothing(tissue):
    section, dropped = tissue(rows=20, cols=20), tissue(rows=20, cols=20)
    empty = np.flatnonzero(section.measured)[::7]
    section.adata.X[empty] = 0
    mask = dropped.measured.copy()
    mask[empty] = False
    hidden = ~section.measured
    with_empty, without = (layers(refined().impute(s))[0][hidden] for s in (section, dropped.hide(mask)))
    np.testing.assert_allclose(with_empty, without, atol=1e-5)


def test_none_measured_is_an_error(make, tissue):
    section = tissue()
    section.adata.obs["measured"] = False
    with pytest.raises(DataError, match="section 'tissue' has no measured spot"):
        make().impute(section)


def test_all_measured_is_a_copy_even_on_no_lattice(make, tissue):
    section = tissue()
    section.adata.obs = section.adata.obs[[]]
    section.adata.obsm["spatial_um"] = np.random.default_rng(0).uniform(0, 1000, (section.n_spots, 2))
    values, confidence = layers(make().impute(section))
    assert np.array_equal(values, section.expression())
    assert (confidence == 1).all()


def test_cells_on_no_lattice_are_refused_with_what_to_do(make):
    section = patches(14, 14)
    section.adata.obs = section.adata.obs[["measured"]]
    section.adata.obsm["spatial_um"] = np.random.default_rng(0).uniform(0, 1000, (section.n_spots, 2))
    with pytest.raises(DataError, match=r"no regular lattice(.|\n)*--bin-um"):
        make().impute(section)


def test_positions_on_a_grid_are_as_good_as_array_coordinates(tissue):
    section, bare = tissue(rows=18, cols=16), tissue(rows=18, cols=16)
    bare.adata.obs = bare.adata.obs[["measured"]]
    for a, b in zip(layers(refined().impute(section)), layers(refined().impute(bare)), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("shape", [(1, 40), (40, 1)])
def test_a_single_row_or_column(shape, tissue):
    section = tissue(rows=shape[0], cols=shape[1])
    values, confidence = layers(refined().impute(section))
    assert np.isfinite(values).all()
    assert np.isfinite(confidence).all()


@pytest.mark.parametrize("parity", [0, 1])
def test_a_hexagonal_array_is_filled(make, parity):
    section = hexagonal(parity=parity)
    values, confidence = layers(make().impute(section))
    hidden = ~section.measured
    assert np.isfinite(values).all()
    assert ((confidence >= 0) & (confidence <= 1)).all()
    if make is refined:
        assert np.median(per_gene_pcc(truth_of(section)[hidden], values[hidden])) > 0.85


@pytest.mark.parametrize("options", [{"components": 0}, {"context": False}, {"components": 1}])
def test_parts_of_the_refined_variant_can_be_switched_off(options, tissue):
    section = tissue(rows=20, cols=20, depth=2000)
    hidden, truth = ~section.measured, truth_of(section)
    full = layers(refined(steps=0).impute(section))[0]
    values, _ = layers(refined(steps=0, **options).impute(section))
    assert not np.array_equal(values, full)
    for found in (values, full):
        assert np.median(per_gene_pcc(truth[hidden], found[hidden])) > 0.8


def test_sections_of_a_stack_are_filled_by_themselves(make, tissue):
    first, second = tissue(rows=20, cols=20, name="a"), tissue(rows=18, cols=16, seed=3, name="b")
    done = make().impute(Stack((first, second)))
    for before, after in zip((first, second), done.sections, strict=True):
        alone = make().impute(before, target=1e4)
        assert after.name == before.name
        for a, b in zip(layers(after), layers(alone), strict=True):
            assert np.array_equal(a, b)


def test_a_stack_keeps_the_genes_that_its_sections_share(tissue):
    first, second = tissue(name="a"), tissue(seed=3, name="b").take_genes(["G5", "G1", "G3"])
    done = refined().impute(Stack((first, second)))
    assert [section.genes for section in done.sections] == [["G1", "G3", "G5"]] * 2


def test_per_gene_cascades_do_not_see_other_genes(tissue):
    section = tissue(rows=18, cols=18, genes=3)
    other = tissue(rows=18, cols=18, genes=3)
    other.adata.obs["total_counts"] = section.depth  # depth stays, so only G2 changes
    other.adata.X[:, 2] = other.adata.X[::-1, 2]
    alone, told = (layers(cdcin(mode="per_gene").impute(s))[0] for s in (section, other))
    assert np.array_equal(alone[:, :2], told[:, :2])
    assert not np.array_equal(alone[:, 2], told[:, 2])


def test_progress_grows_to_the_end(make, tissue):
    told = []
    make().impute(tissue(rows=20, cols=20), progress=lambda done, total: told.append(done / total))
    assert told == sorted(told)
    assert told[-1] == 1
    assert len(told) > 2


def test_torch_is_left_as_it_was(make, tissue):
    torch.manual_seed(11)
    before = torch.get_rng_state()
    make().impute(tissue(rows=20, cols=20))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"mode": "per_gene"}, "set variant=cdcin as well"),
        ({"mode": "per_gene", "variant": "refined"}, "mode=per_gene belongs to variant=cdcin"),
        ({"refined": {"stepz": 3}}, "stepz"),
        ({"refiner": {"depth": 3}}, "depth"),
        ({"beginning": "none"}, "beginning"),
        ({"variant": "cnn"}, "cnn"),
        ({"refined": {"steps": -1}}, r"refined\.steps is -1, expected at least 0"),
        ({"refined": {"components": -1}}, r"refined\.components"),
        ({"refined": {"batch": 3}}, r"refined\.batch is 3, expected at least 4"),
    ],
)
def test_options_without_a_meaning_are_refused_by_name(config, named):
    with pytest.raises(ConfigError, match=named):
        model("s2s-st", {"start": "none", **config})


def test_saved_and_loaded_it_gives_the_same_bits(tmp_path, tissue):
    section = tissue(rows=20, cols=20)
    made = shaken(refined())
    made.trained_on = {"photographs": 3}
    folder = made.save(tmp_path / "weights")
    loaded = S2SST.load(folder)
    assert loaded.trained_on == {"photographs": 3}
    assert loaded.config == made.config
    for a, b in zip(layers(made.impute(section)), layers(loaded.impute(section)), strict=True):
        assert np.array_equal(a, b)
    assert not np.array_equal(layers(refined().impute(section))[0], layers(made.impute(section))[0])


def test_weights_of_another_shape_are_refused():
    small = model("s2s-st", {"start": "none", "refiner": {"channels": 8}})
    with pytest.raises(WeightsError, match=r"'first\.bias'|'first\.weight'|'last\.weight'|'layers"):
        refined().restore(small.state(), small.description(), {})
    state = refined().state()
    state.pop("last.bias")
    with pytest.raises(WeightsError, match=r"missing.*last\.bias"):
        refined().restore(state, {}, {})
    with pytest.raises(WeightsError, match="trained_on"):
        refined().restore(refined().state(), {"trained_on": "photographs"}, {})


class TestPackaged:
    """The weights that the default loads by itself."""

    def test_they_load_and_say_what_they_were_trained_on(self):
        found = model("s2s-st")
        assert any(bool(tensor.any()) for name, tensor in found.state().items() if name.startswith("last"))
        assert found.trained_on["photographs"] > 0
        listed = stzoo.load("s2s-st-natural")
        for name, tensor in found.state().items():
            assert torch.equal(listed.state()[name], tensor)

    def test_hidden_values_are_never_read(self, tissue):
        config = {"refined": {"steps": 2, "batch": 4}}
        honest, told = tissue(rows=20, cols=20), tissue(rows=20, cols=20)
        measured = honest.measured
        told.adata.X[~measured] = 1e6
        a, b = (layers(model("s2s-st", config).impute(s)) for s in (honest, told))
        assert np.array_equal(a[0], b[0])
        assert np.array_equal(a[1], b[1])
        assert np.array_equal(a[0][measured], honest.hide(measured).expression()[measured])
        assert not np.array_equal(a[0], layers(refined().impute(honest))[0])

    def test_they_sharpen_edges(self):
        """Three uniform regions with noisy counts, as photographs have: less error than the start alone."""
        row, col = (axis.ravel() for axis in np.mgrid[:24, :24])
        region = (np.hypot(row - 10, col - 9) < 6).astype(int) + 2 * (row + 2 * col > 48)
        rates = np.random.default_rng(0).gamma(2.0, 1.0, (4, 6)) + 0.2
        rate = rates[region] / rates[region].sum(axis=1, keepdims=True)
        counts = np.random.default_rng(1).poisson(rate * 100)
        section = section_of(counts, row, col, (row % 2 == 0) & (col % 2 == 0))
        hidden, truth = ~section.measured, truth_of(section_of(rate * 100, row, col, section.measured))
        errors = []
        for start in ("natural", "none"):
            found = model("s2s-st", {"start": start, "refined": {"steps": 0, "context": False}}).impute(section)
            errors.append(float(((layers(found)[0] - truth)[hidden] ** 2).mean()))
        assert errors[0] < 0.95 * errors[1], errors

    def test_a_single_measured_spot_is_everywhere(self, tissue):
        mask = np.arange(14 * 12) == 50
        values, _ = layers(model("s2s-st").impute(tissue().hide(mask)))
        np.testing.assert_allclose(values, np.broadcast_to(values[mask], values.shape), atol=1e-6)
