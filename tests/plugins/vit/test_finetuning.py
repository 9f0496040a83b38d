"""A published encoder tuned on own sections."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import stzoo
import torch
from stzoo.core.data.section import Section
from stzoo.core.errors import UsageError
from stzoo.core.finetuning.controls import HEAD, TUNED
from stzoo.core.finetuning.settings import read_settings
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.slides.slide import Slide
from stzoo.plugins.vit.model import ViTEncoder
from stzoo.plugins.vit.tower import Tower


def tissue(seed: int) -> Section:
    return replace(synthetic_section(side_um=1000, pitch_um=100, seed=seed), name=f"s{seed}")


@pytest.fixture(scope="module")
def encoder() -> ViTEncoder:
    made = ViTEncoder({"image_px": 32, "patch_px": 16, "width": 24, "depth": 1, "heads": 2, "mpp": 2.0})
    torch.manual_seed(0)
    state = Tower(made.config).state_dict()
    made.restore({f"tower.{name}": tensor for name, tensor in state.items()}, {"checkpoint": {}}, {})
    return made


def test_adapters_change_the_linear_layers_only_and_the_result_loads(encoder: ViTEncoder, tmp_path: Path) -> None:
    settings = read_settings("lora", None, ["rates.steps=4", "validations=2", "rates.learning_rate=0.01"])
    done = stzoo.finetune(
        encoder, [tissue(0)], test=[tissue(1)], out=tmp_path / "out", settings=settings, progress=False
    )
    assert {HEAD, TUNED} <= {line["name"] for line in done.report["lines"]}
    again = stzoo.load(done.weights)
    section = tissue(1)
    assert np.array_equal(again.predict(section, ["ERBB2"]).values, done.encoder.predict(section, ["ERBB2"]).values)
    before, after = encoder.state(), again.state()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    linear = {"qkv", "proj", "fc1", "fc2"}
    assert all(name.split(".")[-2] in linear for name in moved)
    assert bool(moved) == (done.report["kept"] == TUNED)


def test_a_step_reads_the_tiles_of_its_spots_from_the_cache_and_no_slide(
    encoder: ViTEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sections = [tissue(0), tissue(1)]
    sections[0].adata.obs["measured"] = np.arange(len(sections[0])) % 3 > 0
    tiles = [
        one.require_slide().tiles(one.pixels[one.counted], size_px=encoder.config.image_px, mpp=encoder.config.mpp)
        for one in sections
    ]
    tuning = encoder.tunable(sections, cache=tmp_path)
    monkeypatch.setattr(Slide, "tiles", None)
    chosen = tuning.draw(12, torch.Generator().manual_seed(3))
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(torch, "randn", lambda *shape, generator: torch.zeros(shape))  # no change of colour
    monkeypatch.setattr(Tower, "forward", lambda self, x: seen.append(x) or torch.zeros(len(x), 24))
    assert tuning.batch(chosen, torch.Generator().manual_seed(0)).embedding.shape == (12, 24)
    (given,) = seen
    expected = torch.from_numpy(np.concatenate(tiles)[chosen.numpy()]).float()
    poses = [torch.rot90(expected, k, (1, 2)) for k in range(4)]
    assert any(torch.equal(given, pose) for turned in poses for pose in (turned, turned.flip(2)))


def test_it_has_no_objective_of_its_own(encoder: ViTEncoder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--no-contrast"):
        encoder.tunable([tissue(0)], cache=tmp_path, contrast=True)
