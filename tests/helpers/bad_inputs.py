"""Broken inputs over all readers and commands: a name, and what builds the command line in a folder."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import anndata
import h5py
import numpy as np
from PIL import Image
from stzoo.core.data.section import Section
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.io.write import write
from stzoo.zoo.resolving import resolve

Builder = Callable[[Path], list[str]]
CASES: dict[str, Builder] = {}


def case(name: str) -> Callable[[Builder], Builder]:
    def keep(builder: Builder) -> Builder:
        CASES[name] = builder
        return builder

    return keep


@cache
def tissue() -> Section:
    return synthetic_section(side_um=1000, seed=3)


def inspect(path: Path | str) -> list[str]:
    return ["data", "inspect", str(path)]


def good(folder: Path) -> Path:
    return write(tissue(), folder / "good.h5ad")


def predict(folder: Path, *more: str, source: Path | str | None = None) -> list[str]:
    out = folder / "OUT.h5ad"
    return ["predict", str(source or good(folder)), "--genes", "ERBB2", "--out", str(out), *more]


def impute(folder: Path, *more: str, source: Path | str | None = None) -> list[str]:
    return ["impute", str(source or good(folder)), "--out", str(folder / "OUT.h5ad"), *more]


def legacy(folder: Path, counts: str = "\tA\tB\n1x1\t1\t0\n2x1\t0\t3\n1x2\t2\t2\n", spots: str | None = None) -> Path:
    root = folder / "st"
    (root / "counts").mkdir(parents=True)
    (root / "spots").mkdir()
    (root / "counts" / "S1.tsv.gz").write_bytes(gzip.compress(counts.encode()))
    rows = "1\t1\t290\t290\n2\t1\t580\t290\n1\t2\t290\t580\n"
    (root / "spots" / "S1_selection.tsv").write_text(spots or f"x\ty\tpixel_x\tpixel_y\n{rows}")
    return root


def visium(folder: Path) -> Path:
    root = folder / "outs"
    (root / "spatial").mkdir(parents=True)
    with h5py.File(root / "filtered_feature_bc_matrix.h5", "w") as file:
        matrix = file.create_group("matrix")
        matrix["barcodes"] = np.array([b"AAA-1", b"CCC-1", b"GGG-1"])
        matrix["data"], matrix["indices"], matrix["indptr"] = np.ones(3, int), np.zeros(3, int), np.arange(4)
        matrix["shape"] = np.array([2, 3])
        features = matrix.create_group("features")
        features["id"], features["name"] = np.array([b"ENSG1", b"ENSG2"]), np.array([b"A", b"B"])
        features["feature_type"] = np.array([b"Gene Expression"] * 2)
    rows = ["AAA-1,1,0,0,100,100", "CCC-1,1,0,2,100,200", "GGG-1,1,1,1,186,150"]
    (root / "spatial" / "tissue_positions_list.csv").write_text("\n".join(rows) + "\n")
    (root / "spatial" / "scalefactors_json.json").write_text(json.dumps({"spot_diameter_fullres": 55.0}))
    return root


def changed(folder: Path, change: Callable[[anndata.AnnData], None]) -> Path:
    adata = anndata.read_h5ad(good(folder))
    change(adata)
    adata.write_h5ad(folder / "changed.h5ad")
    return folder / "changed.h5ad"


def weights(folder: Path) -> Path:
    copy = folder / "weights"
    shutil.copytree(resolve("comtip-tiny").folder, copy)
    return copy


def text(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def set_counts(adata: anndata.AnnData, value: float) -> None:
    adata.X = adata.X.toarray()
    adata.X[0, 0] = value


case("missing file")(lambda f: inspect(f / "nothing.h5ad"))
case("section name unknown")(lambda f: inspect(f"{legacy(f)}::S2"))
case("address without a section")(lambda f: inspect(f"{legacy(f)}::"))
case("unknown format")(lambda f: inspect(text(f / "notes.docx", "hello")))
case("empty folder")(lambda f: inspect(f))
case("garbage called .h5ad")(lambda f: inspect(text(f / "a.h5ad", "not hdf5")))
case("garbage called .csv")(lambda f: inspect(text(f / "a.csv", "\x00\x01\x02")))
case("csv without positions")(lambda f: inspect(text(f / "a.csv", ",A,B\n1,2,3\n")))
case("wrong delimiter")(lambda f: inspect(legacy(f, "A,B\n1x1,1,0\n")))
case("text among counts")(lambda f: inspect(legacy(f, "\tA\tB\n1x1\t1\tmany\n2x1\t0\t3\n1x2\t2\t2\n")))
case("NaN counts")(lambda f: inspect(changed(f, lambda a: set_counts(a, np.nan))))
case("negative counts")(lambda f: inspect(changed(f, lambda a: set_counts(a, -1.0))))
case("duplicate genes")(lambda f: inspect(legacy(f, "\tA\tA\n1x1\t1\t0\n2x1\t0\t3\n1x2\t2\t2\n")))
case("duplicate spots")(lambda f: inspect(legacy(f, "\tA\tB\n1x1\t1\t0\n1x1\t0\t3\n")))
case("no overlap of spots and counts")(lambda f: inspect(legacy(f, "\tA\tB\n8x8\t1\t0\n9x9\t0\t3\n")))
case("spots without a column")(lambda f: inspect(legacy(f, spots="x\ty\n1\t1\n")))
case("empty section")(lambda f: inspect(legacy(f, "\tA\tB\n")))


@case("h5ad without positions")
def _(folder: Path) -> list[str]:
    return inspect(changed(folder, lambda a: a.obsm.pop("spatial")))


@case("truncated gz")
def _(folder: Path) -> list[str]:
    file = legacy(folder) / "counts" / "S1.tsv.gz"
    file.write_bytes(file.read_bytes()[:-12])
    return inspect(folder / "st")


@case("truncated h5 of Space Ranger")
def _(folder: Path) -> list[str]:
    file = visium(folder) / "filtered_feature_bc_matrix.h5"
    file.write_bytes(file.read_bytes()[:600])
    return inspect(folder / "outs")


@case("no positions of Space Ranger")
def _(folder: Path) -> list[str]:
    (visium(folder) / "spatial" / "tissue_positions_list.csv").unlink()
    return inspect(folder / "outs")


@case("broken scalefactors")
def _(folder: Path) -> list[str]:
    text(visium(folder) / "spatial" / "scalefactors_json.json", "{")
    return inspect(folder / "outs")


@case("truncated JPEG")
def _(folder: Path) -> list[str]:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (1000, 1000, 3), dtype=np.uint8)).save(folder / "a.jpg")
    (folder / "a.jpg").write_bytes((folder / "a.jpg").read_bytes()[:20_000])
    return predict(folder, "--image", str(folder / "a.jpg"), "--mpp", "1.0")


case("image that is none")(lambda f: predict(f, "--image", str(text(f / "a.png", "no image")), "--mpp", "1.0"))
case("missing image")(lambda f: predict(f, "--image", str(f / "none.png")))
case("µm/px of zero")(lambda f: predict(f, "--mpp", "0"))
case("no slide")(lambda f: predict(f, source=f"{legacy(f)}::S1"))
case("unknown gene")(lambda f: ["predict", str(good(f)), "--genes", "ERBBB2", "--out", str(f / "OUT.h5ad")])
case("empty list of genes")(lambda f: ["predict", str(good(f)), "--genes", ",", "--out", str(f / "OUT.h5ad")])
case("unknown weights")(lambda f: predict(f, "--model", "comtip-tinny"))
case("unknown head")(lambda f: predict(f, "--head", "ridgee"))
case("retrieval without reference")(lambda f: predict(f, "--head", "retrieval"))
case("device that is not there")(lambda f: predict(f, "--device", "warp:9"))
case("batch of zero")(lambda f: predict(f, "--batch-size", "0"))
case("unknown option")(lambda f: predict(f, "--gene", "CD74", "--modle", "x"))
case("unknown command")(lambda f: ["predct"])
case("no argument")(lambda f: ["predict"])
case("output of another kind")(lambda f: ["predict", str(good(f)), "--out", str(f / "OUT.xlsx")])
case("picture of another kind")(lambda f: predict(f, "--plot", str(f / "OUT.doc")))
case("unwritable output")(lambda f: ["predict", str(good(f)), "--out", "/proc/OUT.h5ad"])
case("Hub address without commit")(lambda f: predict(f, "--model", "hf://someone/comtip@main"))


@case("its own reference")
def _(folder: Path) -> list[str]:
    source = str(good(folder))
    return predict(folder, "--reference", source, source=source)


@case("weights with a flipped byte")
def _(folder: Path) -> list[str]:
    file = weights(folder) / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    return predict(folder, "--model", str(folder / "weights"))


@case("weights that are a pickle")
def _(folder: Path) -> list[str]:
    import pickle

    (weights(folder) / "model.safetensors").write_bytes(pickle.dumps({"a": 1}))
    return predict(folder, "--model", str(folder / "weights"))


@case("weights without manifest")
def _(folder: Path) -> list[str]:
    (weights(folder) / "MANIFEST.json").unlink()
    return ["zoo", "verify", str(folder / "weights")]


case("unknown imputer")(lambda f: impute(f, "--model", "krigging"))
case("encoder as imputer")(lambda f: impute(f, "--model", "comtip"))
case("bad measured rule")(lambda f: impute(f, "--measured", "grid:x"))
case("unknown column of measured")(lambda f: impute(f, "--measured", "obs:nope"))
case("rule that leaves nothing")(lambda f: impute(f, "--measured", "grid:999+998,998"))
case("list of barcodes missing")(lambda f: impute(f, "--measured", f"file:{f / 'none.txt'}"))
case("bins of zero")(lambda f: impute(f, "--bin-um", "0"))
case("gene that is not measured")(lambda f: impute(f, "--genes", "NOPE"))


def design(folder: Path, *more: str) -> list[str]:
    return ["design", str(good(folder)), "--out", str(folder / "OUT.txt"), *more]


def align(folder: Path, *more: str, fixed: Path | str | None = None) -> list[str]:
    source = str(good(folder))
    return ["align", source, str(fixed or source), "--out", str(folder / "OUT.zarr"), *more]


def bare(folder: Path, key: str, name: str = "bare.h5ad") -> Path:
    """A section without slide, whose positions are pixels or micrometres."""
    from anndata import AnnData

    adata = AnnData(np.ones((30, 2), np.float32), obsm={key: np.random.default_rng(0).uniform(0, 900, (30, 2))})
    adata.write_h5ad(folder / name)
    return folder / name


case("unknown aligner")(lambda f: align(f, "--model", "rigit"))
case("imputer as aligner")(lambda f: align(f, "--model", "kriging"))
case("unknown option of an aligner")(lambda f: align(f, "--set", "flip=false"))
case("impossible option of an aligner")(lambda f: align(f, "--set", "overlap=0.1"))
case("option of another kind of an aligner")(lambda f: align(f, "--set", "use=outline"))
case("transform of another name")(
    lambda f: ["align", str(f / "a.h5ad"), str(f / "b.h5ad"), "--out", str(f / "OUT.json")]
)
case("moved section of another kind")(lambda f: align(f, "--moved", str(f / "OUT.csv")))
case("picture of an alignment of another kind")(lambda f: align(f, "--plot", str(f / "OUT.doc")))
case("alignment to an unwritable place")(lambda f: align(f, "--report", "/proc/OUT.json"))
case("alignment onto a section without units")(lambda f: align(f, fixed=bare(f, "spatial")))
case("alignment by image without a slide")(lambda f: align(f, "--model", "affine-image", fixed=bare(f, "spatial_um")))
case("alignment onto nothing")(lambda f: align(f, fixed=f / "none.h5ad"))
case("alignment onto several sections")(lambda f: align(f, fixed=two(f)))


def two(folder: Path) -> Path:
    """A Spatial Transcriptomics folder with two sections."""
    root = legacy(folder)
    for name in ("counts/S1.tsv.gz", "spots/S1_selection.tsv"):
        shutil.copy(root / name, root / name.replace("S1", "S2"))
    return root


@case("transform that exists already")
def _(folder: Path) -> list[str]:
    (folder / "OUT.zarr").mkdir()
    return align(folder)


case("share of zero")(lambda f: design(f, "--share", "0"))
case("share above one")(lambda f: design(f, "--share", "1.5"))
case("share that is no number")(lambda f: design(f, "--share", "nan"))
case("design to an unwritable place")(lambda f: ["design", str(good(f)), "--out", "/proc/OUT.txt"])
case("picture of a design of another kind")(lambda f: design(f, "--plot", str(f / "OUT.doc")))


def stack(folder: Path, *more: str, old: str = "", new: str = "") -> list[str]:
    good(folder)
    lines = "sample: s\nspacing_um: 16\nsections:\n- {name: A, source: good.h5ad}\n- {name: B, source: good.h5ad}\n"
    file = text(folder / "stack.yaml", lines.replace(old, new))
    return ["impute", str(file), "--genes", "ERBB2", "--out", str(folder / "OUT"), *more]


case("stack with an unknown key")(lambda f: stack(f, old="spacing_um", new="spacing"))
case("stack without a source")(lambda f: stack(f, old="name: B, source", new="name"))
case("stack of missing files")(lambda f: stack(f, old="B, source: good", new="B, source: bad"))
case("stack with one name twice")(lambda f: stack(f, old="name: B", new="name: A"))
case("stack with a spacing of zero")(lambda f: stack(f, old="16", new="0"))
case("stack with a rule that is none")(lambda f: stack(f, old="B, source", new="B, measured: gird:2, source"))
case("stack of one section")(lambda f: stack(f, old="- {name: B, source: good.h5ad}\n"))
case("stack that is no YAML")(lambda f: stack(f, old="sample: s", new="sample: ["))
case("stack with a gene that is not measured")(lambda f: stack(f, "--genes", "NOPE"))
case("stack with an unknown aligner")(lambda f: stack(f, "--aligner", "rigit"))
case("stack with a rule beside it")(lambda f: stack(f, "--measured", "grid:2"))
case("aligner of a single section")(lambda f: impute(f, "--aligner", "rigid"))
case("new stack without a spacing")(lambda f: ["stack", "new", str(f), "--out", str(f / "OUT.yaml")])
case("new stack of a missing folder")(
    lambda f: ["stack", "new", str(f / "none"), "--spacing-um", "16", "--out", str(f / "OUT.yaml")]
)
case("volume that is none")(lambda f: ["volume", str(good(f)), "--page", str(f / "OUT.html")])
case("page of another kind")(lambda f: ["volume", str(f), "--page", str(f / "OUT.txt")])
case("unknown protocol")(lambda f: ["evaluate", "her2st-c6", "--data", str(f)])
case("protocol without data")(lambda f: ["evaluate", "her2st-c5-quick", "--data", str(f)])
case("protocol with a wrong key")(lambda f: ["evaluate", str(text(f / "p.yaml", "nam: x\n")), "--data", str(f)])
case("protocol that is no YAML")(lambda f: ["evaluate", str(text(f / "p.yaml", "a: [1\n")), "--data", str(f)])


@case("protocol that tests on training data")
def _(folder: Path) -> list[str]:
    lines = "train: [a]\ntest: [a]\ngene_sets: [{name: x}]\nrows: [{name: m}]\n"
    return ["evaluate", str(text(folder / "p.yaml", lines)), "--data", str(folder)]


def train(folder: Path, *more: str, config: str = "comtip-tiny") -> list[str]:
    return ["train", "comtip", "--config", config, "--data", str(folder), "--out", str(folder / "OUT"), *more]


case("unknown recipe")(lambda f: train(f, config="comtip-huge"))
case("recipe without data")(lambda f: train(f))
case("override of an unknown option")(lambda f: train(f, "--set", "train.step=5"))
case("override without value")(lambda f: train(f, "--set", "train.steps"))
case("override of the wrong type")(lambda f: train(f, "--set", "train.steps=many"))
case("training of what does not train")(
    lambda f: ["train", "kriging", "--config", "x", "--data", ".", "--out", str(f / "OUT")]
)
case("unknown plugin")(lambda f: ["plugins", "info", "nobody"])
case("convert to an unknown suffix")(lambda f: ["data", "convert", str(good(f)), str(f / "OUT.txt")])
