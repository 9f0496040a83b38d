"""Image encoders that others published, through the same door as our own weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import stzoo
import torch
from stzoo.core.data.section import Section
from stzoo.core.errors import UsageError, WeightsError
from stzoo.core.io.synthetic import synthetic_section

transformers = pytest.importorskip("transformers", minversion="5")


@pytest.fixture(scope="module")
def section() -> Section:
    return synthetic_section(side_um=800, seed=2)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 128}
    config = transformers.CLIPConfig(
        vision_config={**shape, "image_size": 32, "patch_size": 16},
        text_config={**shape, "vocab_size": 50},
        projection_dim=24,
    )
    transformers.CLIPModel(config).save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"


def test_a_clip_folder_is_an_encoder_for_any_head(clip: Path, section: Section, tmp_path: Path) -> None:
    encoder = stzoo.load(clip)
    assert encoder.embed(section).shape == (section.n_spots, 24)
    assert encoder.provenance["source"] == "file://clip"
    with pytest.raises((UsageError, WeightsError)):
        encoder.predict(section, section.genes[:2])  # no head was fitted
    encoder.fit([section], section.genes[:5], head="ridge")
    saved = stzoo.load(encoder.save(tmp_path / "own"))
    same = saved.predict(section, section.genes[:5]).values
    np.testing.assert_array_equal(same, encoder.predict(section, section.genes[:5]).values)


def test_a_changed_checkpoint_is_not_the_locked_one(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stzoo.zoo.locking import Lock
    from stzoo.zoo.resolving import resolve

    monkeypatch.chdir(tmp_path)
    lock, found = Lock.here(), resolve(clip)
    lock.add(found.key, found.source, found.files())
    stzoo.load(clip, locked=True)
    data = (clip / "model.safetensors").read_bytes()
    (clip / "model.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(WeightsError, match=r"'model.safetensors' differs"):
        stzoo.load(clip)


def test_a_repository_that_lost_its_manifest_is_no_checkpoint(section: Section, tmp_path: Path) -> None:
    encoder = stzoo.model("colour-texture")
    encoder.fit([section], section.genes[:3], head="ridge")
    folder = encoder.save(tmp_path / "own")
    (folder / "MANIFEST.json").unlink()
    with pytest.raises(WeightsError, match=r"no MANIFEST\.json"):
        stzoo.load(folder)


def test_tensors_of_no_known_layout_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    (tmp_path / "odd").mkdir()
    save_file({"layer.weight": torch.zeros(2, 2)}, tmp_path / "odd" / "model.safetensors")
    with pytest.raises(WeightsError, match="layout"):
        stzoo.load(tmp_path / "odd")
