"""ST-DAI with images: which encoder is used, what it learns from, and what refinement makes of a section of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from st_dai_stacks import field, full_section, hidden_pcc, imputer, same, sparse, stained
from stzoo.core.arrays import Floats
from stzoo.core.data.section import Section, Stack
from stzoo.core.encoder import Encoder
from stzoo.core.errors import DataError, UsageError
from stzoo.core.registry import model
from stzoo.core.runtime.progress import Progress
from stzoo.core.workflows.features import cache_embeddings, encoder_of
from stzoo.plugins.st_dai import model as module
from stzoo.plugins.st_dai.config import STDAIConfig


@pytest.fixture(scope="module")
def slides() -> Stack:
    return stained()


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return cache_embeddings(encoder_of("colour-texture", device="cpu", seed=0))


@pytest.fixture
def seen_once(monkeypatch: pytest.MonkeyPatch, encoder: Encoder) -> None:
    """Let all imputers of these tests share one encoder: it embeds each slide once."""

    def the_same(name: str, **options: object) -> Encoder:
        assert name == "colour-texture"
        return encoder

    monkeypatch.setattr(module, "encoder_of", the_same)


@pytest.mark.usefixtures("seen_once")
def test_with_slides_the_image_is_read_unless_told_not_to(slides: Stack) -> None:
    blind, auto, named = (imputer(encoder=name).impute(slides) for name in ("none", "auto", "colour-texture"))
    assert same(auto, named)
    assert not same(auto, blind)


@pytest.mark.usefixtures("seen_once")
@pytest.mark.parametrize(
    "options", [{"input": "image_expression"}, {"input": "expression"}, {"standardise_within": False}], ids=str
)
def test_every_switch_of_the_image_runs(slides: Stack, options: dict[str, Any]) -> None:
    assert not same(imputer(encoder="auto", **options).impute(slides), imputer(encoder="auto").impute(slides))


def test_an_image_that_is_asked_for_and_not_there_is_an_error(slides: Stack) -> None:
    half = Stack((replace(slides.sections[0], slide=None), slides.sections[1]))
    assert len(imputer(encoder="auto").impute(half)) == 2
    for options in ({"encoder": "colour-texture"}, {"encoder": "auto", "input": "image"}):
        with pytest.raises(DataError, match="section 't0' has no slide"):
            imputer(**options).impute(half)


def test_an_encoder_without_training_can_not_be_trained(slides: Stack) -> None:
    with pytest.raises(UsageError, match="'colour-texture' has nothing to train"):
        imputer(encoder="colour-texture", train_encoder=True).impute(slides)


def test_the_encoder_is_trained_on_this_stack_when_asked_to(slides: Stack, tmp_path: Path) -> None:
    """On its measured spots alone, so hidden counts change nothing here either."""
    tiny: dict[str, Any] = {
        "embedding_dim": 16,
        "vision": {"tile_px": 64, "width": 24, "depth": 1, "heads": 2},
        "text": {"width": 16, "depth": 1, "heads": 2, "pieces": 60},
        "train": {"steps": 4, "batch": 12, "genes": 8, "ranked_genes": 8, "views": 1, "warmup": 1},
    }
    encoder: Any = model("comtip", tiny, role="encoder")
    folder = str(encoder.initialise(slides.sections).save(tmp_path / "comtip"))
    adata = slides.sections[1].adata.copy()
    adata.X = adata.X.toarray() + 500.0 * ~slides.sections[1].measured[:, None]
    poisoned = Stack((slides.sections[0], replace(slides.sections[1], adata=adata)))
    as_it_is = imputer(encoder=folder).impute(slides)
    trained, again = (imputer(encoder=folder, train_encoder=True).impute(one) for one in (slides, poisoned))
    assert not same(trained, as_it_is)
    assert same(trained, again)


class Waves(Encoder):
    """An encoder for sections without a slide: it sees the fields that expression follows."""

    name = "waves"
    config_class = STDAIConfig  # it has no options of its own

    @property
    def embedding_dim(self) -> int:
        return 3

    def embed(self, section: Section, *, batch_size: int = 64, progress: Progress | None = None) -> Floats:
        return field(section.um, 0, 3, own=0.0).astype(np.float32)


@pytest.mark.parametrize("shared", [False, True])
def test_each_section_is_refined_on_its_own_spots(monkeypatch: pytest.MonkeyPatch, shared: bool) -> None:
    """In the first section what the image says means the reverse; only its own few spots can tell."""
    whole = [full_section(0, sign=-1.0), full_section(1), full_section(2)]
    stack = Stack((sparse(whole[0]), whole[1], sparse(whole[2])))
    monkeypatch.setattr(module, "encoder_of", lambda name, **options: Waves())
    pcc = {}
    for tune in ("none", "pdl"):
        options: dict[str, Any] = {
            "encoder": "colour-texture",
            "pseudo": {"source": "none"},
            "network": {"learn": "central", "steps": 60, "learning_rate": 0.01},
            "refine": {"tune": tune, "steps": 60, "learning_rate": 0.05, "replay": 0.0},
            "pdl": {"shared": shared},
        }
        done = imputer(**options).impute(stack)
        pcc[tune] = [hidden_pcc(Stack((done.sections[i],)), [whole[i]]) for i in (0, 2)]
    assert pcc["none"][0] < -0.3
    assert pcc["none"][1] > 0.3
    assert pcc["pdl"][0] > 0.2  # one domain layer behind the last layer turns it round
    assert pcc["pdl"][1] > 0.3
