"""How CoMTIP is judged while it trains: by sections that it never learns from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from stzoo.core.arrays import Floats
from stzoo.core.data.section import Section
from stzoo.core.heads.held_out import HeldOut
from stzoo.core.runtime.blocks import Share, stacked
from stzoo.plugins.comtip.config import CoMTIPConfig, Watch
from stzoo.plugins.comtip.spots import own_width, spot_table, with_context
from stzoo.plugins.comtip.weights import Weights
from stzoo.plugins.comtip.zero_shot import ZeroShot


class Examiner:
    """Scores weights as they stand on held-out sections (``score`` of :class:`stzoo.core.training.loop.Validation`).

    Parameters
    ----------
    weights
        Their network is used as it is at every call; they are calibrated anew, as they are at the end of a training.
    config
        Of the model. Tiles are seen in one pose whatever it says: an eighth of the cost.
    held_out
        Sections to learn a head from, and to test on.
    device
        Where the network is.
    """

    def __init__(self, weights: Weights, config: CoMTIPConfig, held_out: HeldOut, device: str) -> None:
        self.weights, self.held_out, self.device = weights, held_out, device
        self.config = replace(config, vision=replace(config.vision, poses=False))

    def __call__(self) -> Mapping[str, float]:
        """Return the figures by the names of :class:`~stzoo.plugins.comtip.config.Watch`."""
        held_out, text = self.held_out, ZeroShot(self.weights, self.config)
        learn, held = ([self._embedded(section) for section in side] for side in (held_out.learn, held_out.held))
        text.calibrate(self._z(np.concatenate(learn)), held_out.genes, held_out.learned)
        read = [text.predict(self._z(seen), genes).values for seen, genes in zip(held, held_out.known, strict=True)]
        return {
            Watch.zero_shot_pcc.value: held_out.pcc(read),
            Watch.ridge_pcc.value: held_out.ridge_pcc(learn, held),
        }

    def _z(self, embedding: Floats) -> Floats:
        """Return z_img, which an embedding begins with."""
        return embedding[:, : self.config.embedding_dim].copy()

    def _embedded(self, section: Section) -> Floats:
        """Return what :meth:`CoMTIP.embed` would, of spots that are a part of a section or all of it."""
        config, share = self.config, Share(len(section))
        own = spot_table(self.weights.network, config, section, share, self.device)
        width = own_width(config) * (1 + len(config.context_um))
        return stacked(with_context(own, config, section, share.blocks), len(section), width)
