"""What is written about genes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stzoo.core.data.section import Section
from stzoo.core.errors import DataError, PluginError
from stzoo.core.io.synthetic import synthetic_section
from stzoo.plugins.comtip import vocabulary as descriptions
from stzoo.plugins.comtip.model import CoMTIP
from stzoo.plugins.comtip.vocabulary import WIDTH, load_packaged_descriptions, make_descriptions, read_descriptions

TEXT = (
    "symbol\tgene_id\tname\taliases\tother_designations\n"
    "KRT5\t1\tkeratin 5\tK5, EBS2\tcytokeratin 5|58 kda cytokeratin\n"
    "KRT8\t2\tkeratin 8\tK8, SHARED\tcytokeratin 8\n"
    "CD3D\t3\tCD3d molecule\tT3D, SHARED\tT-cell receptor delta chain\n"
)


def test_relatives_by_meaning_are_near_in_the_packaged_table() -> None:
    table = load_packaged_descriptions()
    genes = ["COL1A1", "COL6A3", "CD3D", "CD3E", "TRBC1", "KRT5", "KRT14"]
    unit = table.vectors(genes)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-9)
    cosine = unit @ unit.T
    place = {gene: i for i, gene in enumerate(genes)}
    for gene, near in (("COL1A1", "COL6A3"), ("CD3D", "CD3E"), ("KRT5", "KRT14")):
        others = [other for other in genes if other not in (gene, near)]
        assert cosine[place[gene], place[near]] > max(cosine[place[gene], place[other]] for other in others)


def test_symbols_aliases_case_and_strangers() -> None:
    table = load_packaged_descriptions()
    symbol, mouse, alias, stranger = table.vectors(["ERBB2", "Erbb2", "HER2", "NOSUCHGENE1"])
    assert symbol.shape == (WIDTH,)
    assert np.array_equal(symbol, mouse)
    assert np.array_equal(symbol, alias)
    assert not stranger.any()


def test_a_table_is_made_from_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    read: list[str] = []

    def vectors(texts: list[str]) -> np.ndarray:
        read.extend(texts)
        return rng.standard_normal((len(texts), 384)).astype(np.float32)

    monkeypatch.setattr(descriptions, "embed_sentences", vectors)
    path = tmp_path / "text.tsv"
    path.write_text(TEXT)
    make_descriptions(path, tmp_path / "table.safetensors")
    table = read_descriptions(tmp_path / "table.safetensors")
    assert read[0] == "keratin 5 (KRT5); K5, EBS2; cytokeratin 5; 58 kda cytokeratin"
    assert np.array_equal(*table.vectors(["KRT8", "K8"]))
    assert not table.vectors(["SHARED"]).any()  # an alias of two genes names neither


def test_text_without_a_column_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.tsv"
    path.write_text("symbol\tname\nKRT5\tkeratin 5\n")
    with pytest.raises(DataError, match="aliases"):
        make_descriptions(path, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_without_the_encoder_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptions, "resource", lambda name: (_ for _ in ()).throw(PluginError(name)))
    with pytest.raises(PluginError, match="sentence encoder") as caught:
        descriptions.embed_sentences(["keratin"])
    assert "stzoo[text]" in str(caught.value)


@pytest.fixture(scope="module")
def section() -> Section:
    return synthetic_section(side_um=1000, seed=1)


def test_weights_are_bound_to_the_table_they_were_trained_with(section: Section, tmp_path: Path) -> None:
    model = CoMTIP(
        {
            "embedding_dim": 16,
            "vision": {"tile_px": 64, "width": 24, "depth": 1, "heads": 2},
            "text": {"width": 16, "depth": 1, "heads": 2, "pieces": 60, "described": "sentences"},
            "train": {"steps": 3, "batch": 12, "genes": 8, "views": 1, "warmup": 1, "forget": 0.3},
        }
    )
    model.train([section], out=tmp_path / "run", progress=False)
    again = CoMTIP.load(model.save(tmp_path / "weights"))
    expected = model.predict(section, ["KRT17", "CD3E"], head="zero-shot").values
    assert np.array_equal(again.predict(section, ["KRT17", "CD3E"], head="zero-shot").values, expected)
    other = {**model.description(), "gene_text": "0" * 64}
    with pytest.raises(Exception, match="another table"):
        CoMTIP(model.config).restore(model.state(), other, model.assets())
