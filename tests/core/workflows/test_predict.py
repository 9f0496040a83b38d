"""Predicting and embedding block by block gives what a prediction held whole gives, whoever computes it."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import streamed_run
from scipy.sparse import csr_matrix, random_array
from streamed_run import GENES, SMALL, drawn, fitted
from stzoo.cli.main import run
from stzoo.core.arrays import Floats
from stzoo.core.data.section import Section
from stzoo.core.encoder import Encoder, Prediction
from stzoo.core.errors import DataError, OutputError, UsageError
from stzoo.core.io.read import read
from stzoo.core.io.write import write
from stzoo.core.metrics.correlation import per_gene_pcc
from stzoo.core.metrics.streaming import RunningPCC
from stzoo.core.registry import model
from stzoo.core.runtime import blocks
from stzoo.core.workflows.embed import EMBEDDING, embed
from stzoo.core.workflows.predict import predict
from stzoo.zoo.loading import load

SCRIPT = streamed_run.__file__


class Plain(Encoder):
    """Knows how to embed a whole section, and nothing of blocks."""

    name = "plain"
    config_class = dict

    def __init__(self, fails_after: int | None = None) -> None:
        self.seed, self.device, self.config, self.fails_after = 0, "cpu", {}, fails_after

    @property
    def embedding_dim(self) -> int:
        return 2

    def embed(self, section: Section, *, batch_size: int = 64, progress: Any = None) -> Floats:
        return np.asarray(section.pixels / 1000, dtype=np.float32)

    def predict_blocks(self, *args: Any, **options: Any) -> Iterator[tuple[slice, Prediction]]:
        for done, block in enumerate(super().predict_blocks(*args, **options)):
            if done == self.fails_after:
                raise ValueError("a fault of the model")
            yield block


class Old(Plain):
    """Predicts in its own way, as models did before there were blocks."""

    predict_blocks = Encoder.predict_blocks

    def predict(self, section: Section, genes: Sequence[str] | None = None, **options: Any) -> Prediction:
        assert np.isnan(section.counts(["CD74"])).all()  # nothing is to be seen
        return Prediction(np.tile(section.pixels.astype(np.float32), (1, 2))[:, :3], tuple(GENES), "own")


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 50)  # so that a small section has several


@pytest.fixture(scope="module")
def section() -> Section:
    section = drawn()
    section.adata.obs["measured"] = np.arange(len(section)) % 5 > 0
    return section


def encoders(section: Section) -> dict[str, tuple[Encoder, list[str]]]:
    reference = section.take(section.measured)
    texture = model("colour-texture", SMALL)
    for head in ("ridge", "mlp", "retrieval"):
        texture.fit([reference], GENES, head=head)
    plain = Plain().fit([reference], GENES)
    tiny = load("comtip-tiny").fit([reference.take(slice(0, 40))], GENES, head="retrieval")
    return {
        "texture": (texture, ["ridge", "mlp", "retrieval"]),
        "plain": (plain, ["ridge"]),
        "old": (Old(), ["ridge"]),
        "comtip": (tiny, ["ridge", "retrieval", "zero-shot"]),
    }


def same(a: Any, b: Any) -> None:
    assert list(a.obs_names) == list(b.obs_names)
    assert list(a.var_names) == list(b.var_names)
    assert set(a.layers) == set(b.layers)
    assert set(a.uns) == set(b.uns)
    assert a.uns["stzoo"]["predicted"] == b.uns["stzoo"]["predicted"]
    assert a.obs.equals(b.obs)
    np.testing.assert_array_equal(a.obsm["spatial"], b.obsm["spatial"])
    np.testing.assert_array_equal(a.X, b.X)
    for layer in a.layers:
        np.testing.assert_array_equal(a.layers[layer], b.layers[layer], err_msg=layer)


def test_a_streamed_prediction_is_the_whole_one_to_the_last_bit(section: Section, tmp_path: Path) -> None:
    for name, (encoder, heads) in encoders(section).items():
        for head in heads:
            out, genes = tmp_path / f"{name}-{head}.zarr", ["ERBB2", "COL1A1"] if name == "comtip" else None
            streamed = predict(encoder, section, genes, head=head, batch_size=50, out=out)
            whole = predict(encoder, section, genes, head=head, batch_size=50)
            whole.write(tmp_path / "whole.zarr", overwrite=True)
            same(anndata.read_zarr(out), anndata.read_zarr(tmp_path / "whole.zarr"))
            at_once = encoder.predict(section.without_counts(), genes, head=head, batch_size=50)
            np.testing.assert_array_equal(whole.section.adata.layers["predicted"], at_once.values)
            seen = section.measured
            truth = section.take_genes(streamed.genes).expression(target=1e4)[seen] if name != "old" else None
            if truth is not None:
                np.testing.assert_allclose(streamed.pcc, per_gene_pcc(truth, at_once.values[seen]), atol=1e-5)
            np.testing.assert_array_equal(streamed.pcc, whole.pcc)
            assert streamed.lines() == whole.lines()
    again = read(out)
    assert again.slide is not None
    np.testing.assert_array_equal(again.slide.read(5, 7, 90, 60), section.require_slide().read(5, 7, 90, 60))
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_genes_that_the_section_lacks_are_not_measured(section: Section, tmp_path: Path) -> None:
    encoder, few = fitted(model("colour-texture", SMALL)), section.take_genes(["CD74", "ACTB"])
    done = predict(encoder, few, out=tmp_path / "p.zarr")
    adata = anndata.read_zarr(tmp_path / "p.zarr")
    assert list(np.isfinite(done.pcc)) == [False, False, True]
    assert list(np.isfinite(adata.layers["measured"][section.measured]).all(axis=0)) == [False, False, True]
    assert np.isfinite(adata.layers["predicted"]).all()


def test_an_embedding_is_streamed_too(section: Section, tmp_path: Path) -> None:
    encoder = model("colour-texture", SMALL)
    embed(encoder, section, out=tmp_path / "e.zarr")
    adata = anndata.read_zarr(tmp_path / "e.zarr")
    assert np.array_equal(adata.obsm[EMBEDDING], encoder.embed(section, batch_size=9))
    assert adata.uns["stzoo"]["embedded"]["model"] == "colour-texture"
    whole = embed(encoder, section, out=tmp_path / "e.h5ad")
    assert np.array_equal(whole.adata.obsm[EMBEDDING], adata.obsm[EMBEDDING])
    assert np.array_equal(anndata.read_h5ad(tmp_path / "e.h5ad").obsm[EMBEDDING], adata.obsm[EMBEDDING])
    with pytest.raises(UsageError, match="no known suffix"):
        embed(encoder, section, out=tmp_path / "e.csv")


def test_a_fault_on_the_way_leaves_nothing(section: Section, tmp_path: Path) -> None:
    encoder = Plain(fails_after=1).fit([section], GENES)
    out = tmp_path / "p.zarr"
    with pytest.raises(ValueError, match="a fault"):
        predict(encoder, section, out=out)
    assert list(tmp_path.iterdir()) == []
    predict(Plain().fit([section], GENES), section, out=out)
    before = anndata.read_zarr(out).layers["predicted"]
    with pytest.raises(ValueError, match="a fault"):
        predict(encoder, section, out=out, overwrite=True)
    np.testing.assert_array_equal(anndata.read_zarr(out).layers["predicted"], before)


def launched(how: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the script with two ranks."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, SCRIPT, how, str(folder)],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_two_ranks_write_what_one_writes(tmp_path: Path) -> None:
    done = launched("whole", tmp_path)
    assert done.returncode == 0, done.stderr
    alone = predict(fitted(model("colour-texture", SMALL)), drawn(), out=tmp_path / "alone.zarr")
    same(anndata.read_zarr(tmp_path / "predicted.zarr"), anndata.read_zarr(tmp_path / "alone.zarr"))
    np.testing.assert_allclose(np.load(tmp_path / "pcc.npy"), alone.pcc, atol=1e-6)
    found = anndata.read_zarr(tmp_path / "embedded.zarr").obsm[EMBEDDING]
    assert np.array_equal(found, model("colour-texture", SMALL).embed(drawn()))


@pytest.mark.parametrize("how", ["raise", "kill"])
def test_a_lost_rank_leaves_no_output(how: str, tmp_path: Path) -> None:
    assert launched(how, tmp_path).returncode != 0
    left = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".predicted.zarr.")}
    assert left <= {"rank0.txt"}  # torchrun may kill the first rank before it has swept its hidden scratch folder


def sparse(spots: int, genes: int) -> Section:
    x = random_array((spots, genes), density=0.002, format="csr", dtype=np.float32, rng=np.random.default_rng(0))
    x.data = np.ceil(3 * x.data)
    adata = anndata.AnnData(csr_matrix(x))
    adata.obsm["spatial"] = np.random.default_rng(1).random((spots, 2)) * 1e4
    return Section(adata, "sparse", mpp=1.0)


def test_memory_is_that_of_blocks_and_not_of_the_counts(tmp_path: Path) -> None:
    big, genes = sparse(2000, 20_000), [str(i) for i in range(0, 20_000, 90)]  # dense: 160 MB
    write(big, tmp_path / "big.h5ad")
    encoder = Plain().fit([big.take(slice(0, 50))], genes)
    del big
    tracemalloc.start()
    predict(encoder, read(tmp_path / "big.h5ad", lazy=True), out=tmp_path / "p.zarr")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6
    measured = anndata.read_zarr(tmp_path / "p.zarr").layers["measured"]
    np.testing.assert_array_equal(measured, read(tmp_path / "big.h5ad").expression(genes, target=1e4))


def test_hiding_every_spot_takes_no_memory_and_shows_nothing() -> None:
    big = sparse(5000, 9000)
    big.adata.layers["raw"] = big.adata.X.copy()
    tracemalloc.start()
    blind = big.hide(np.zeros(len(big), dtype=bool))
    assert tracemalloc.get_traced_memory()[1] < 5e6  # dense: 180 MB
    tracemalloc.stop()
    assert np.isnan(blind.adata.X[::500]).all()
    assert np.isnan(blind.counts(["5", "8"])).all()
    assert np.isnan(blind.depth).all()
    assert not blind.measured.any()
    assert not blind.adata.layers


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_counts_left_on_disk_are_the_same_counts(suffix: str, tmp_path: Path) -> None:
    source = tmp_path / f"s{suffix}"
    write(drawn(), source)
    lazy, whole = read(source, lazy=True), read(source)
    assert not isinstance(lazy.adata.X, csr_matrix)
    genes = whole.genes[3:7]
    np.testing.assert_array_equal(lazy.counts(genes), whole.counts(genes))
    np.testing.assert_array_equal(lazy.expression(), whole.expression())
    np.testing.assert_array_equal(lazy.take(slice(5, 90)).counts(), whole.counts()[5:90])
    np.testing.assert_array_equal(lazy.hide(np.arange(len(whole)) < 9).counts(genes)[:9], whole.counts(genes)[:9])


def test_bad_counts_on_disk_are_refused_before_any_work(tmp_path: Path) -> None:
    bad = sparse(3000, 20)
    bad.adata.X.data[7] = -1
    bad.adata.write_h5ad(tmp_path / "bad.h5ad")
    with pytest.raises(DataError, match="negative"):
        read(tmp_path / "bad.h5ad", lazy=True)


def test_running_correlations_are_those_of_all_spots_at_once() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(50, 1, (400, 4)).astype(np.float32)
    guess = (truth + rng.normal(0, 1, (400, 4))).astype(np.float32)
    truth[:, 3] = 0.1  # constant
    parts = []
    for spots in (slice(0, 7), slice(7, 120), slice(120, 120), slice(120, 400)):
        part = RunningPCC(5, [0, 1, 2, 4])
        part.add(truth[spots], guess[spots]) if spots.stop > spots.start else None
        parts.append(part.state())
    found = RunningPCC.from_states(parts).pcc()
    np.testing.assert_allclose(found[[0, 1, 2]], per_gene_pcc(truth[:, :3], guess[:, :3]), atol=1e-6)
    assert np.isnan(found[[3, 4]]).all()


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(drawn(), tmp_path / "s.zarr")
    fitted(model("colour-texture", SMALL)).save(tmp_path / "weights")
    common = [str(tmp_path / "s.zarr"), "--model", str(tmp_path / "weights")]
    plot = tmp_path / "p.png"
    assert run(["predict", *common, "--out", str(tmp_path / "p.zarr"), "--plot", str(plot)]) == 0
    assert "ERBB2: PCC 0." in capsys.readouterr().out
    assert plot.stat().st_size > 10_000
    assert run(["embed", *common, "--out", str(tmp_path / "e.zarr")]) == 0
    assert run(["embed", *common, "--out", str(tmp_path / "e.zarr")]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert run(["embed", *common, "--out", str(tmp_path / "e.txt")]) == 2


def test_a_section_of_one_block_is_shared_too(section: Section, tmp_path: Path) -> None:
    write(section, tmp_path / "small.h5ad")  # the commands' blocks have 512 spots: one of two processes has none
    given = ["-m", "stzoo.cli.main", "predict", "small.h5ad", "--genes", "CD74,COL1A1", "--out"]
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
    for command in ([*torchrun, *given, "two.zarr"], [*given, "one.zarr"]):
        done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    same(anndata.read_zarr(tmp_path / "two.zarr"), anndata.read_zarr(tmp_path / "one.zarr"))


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_an_output_that_exists_is_refused_before_anything_is_computed(
    suffix: str, section: Section, tmp_path: Path
) -> None:
    class Never(Plain):
        def embed(self, section: Section, **options: Any) -> Floats:
            raise AssertionError("nothing is to be computed")

    out = tmp_path / f"p.{suffix}"
    out.mkdir()
    for call in (predict, embed):
        with pytest.raises(OutputError, match="exists already"):
            call(Never(), section, out=out)


def test_a_prediction_that_lies_in_a_store_is_not_written_without_its_values(section: Section, tmp_path: Path) -> None:
    done = predict(Plain().fit([section], GENES), section, out=tmp_path / "p.zarr")
    with pytest.raises(UsageError, match="lies in the store"):
        done.write(tmp_path / "again.h5ad")
    assert not (tmp_path / "again.h5ad").exists()
