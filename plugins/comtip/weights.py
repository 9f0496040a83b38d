"""What a trained CoMTIP is: networks, genes, calibration; and how that is saved and restored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from stzoo.core.errors import WeightsError, nearest
from stzoo.core.weights.repository import empty, restore_module
from stzoo.plugins.comtip.calibration import Calibration
from stzoo.plugins.comtip.config import CoMTIPConfig
from stzoo.plugins.comtip.descriptions import packaged
from stzoo.plugins.comtip.network import Network
from stzoo.plugins.comtip.vocabulary import Vocabulary
from torch import Tensor

_TOKENIZER = "tokenizer.json"
_CALIBRATION = "zero_shot.calibration"


@dataclass
class Weights:
    """What training gives.

    Parameters
    ----------
    network, vocabulary
        Both towers, and the genes of the training.
    calibration
        Of zero-shot prediction, a row a gene of the vocabulary.
    started_from
        The checkpoint that training started from (source, sha256), or empty.
    validated
        How validation chose them (:attr:`stzoo.core.model.Model.validated`), or empty.
    """

    network: Network
    vocabulary: Vocabulary
    calibration: Calibration
    started_from: Mapping[str, str] = field(default_factory=dict)
    validated: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def fresh(cls, config: CoMTIPConfig, vocabulary: Vocabulary) -> Self:
        """Return random networks for some genes, not calibrated."""
        return cls(network_for(config, vocabulary), vocabulary, Calibration.none(len(vocabulary.genes)))

    def settle(self) -> None:
        """Freeze the networks, and round them to half precision, so that what is used is what is saved."""
        self.network.requires_grad_(False).eval()
        with torch.no_grad():
            for parameter in self.network.parameters():
                parameter.copy_(parameter.half().float())

    def state(self) -> dict[str, Tensor]:
        """Return the tensors, those of the networks in half precision."""
        own = {f"network.{name}": tensor.half() for name, tensor in self.network.state_dict().items()}
        return {**own, _CALIBRATION: self.calibration.table}

    def description(self) -> dict[str, Any]:
        """Return vocabulary, scale and origin as JSON values."""
        return {
            "genes": list(self.vocabulary.genes),
            "expression": "log1p of counts per 10,000",
            **({"gene_text": packaged().sha256} if self.vocabulary.n_described else {}),
            **({"started_from": dict(self.started_from)} if self.started_from else {}),
            **({"validated": dict(self.validated)} if self.validated else {}),
        }

    def assets(self) -> dict[str, bytes]:
        """Return the tokenizer of gene symbols."""
        return {_TOKENIZER: self.vocabulary.dumps()}

    @classmethod
    def restored(
        cls, config: CoMTIPConfig, vocabulary: Vocabulary, state: Mapping[str, Tensor], description: Mapping[str, Any]
    ) -> Self:
        """Return what was saved, strictly.

        Raises
        ------
        WeightsError
            A tensor is missing, left over, or of another shape.
        """
        own, genes = dict(state), len(vocabulary.genes)
        table = own.pop(_CALIBRATION, None)
        if table is None or tuple(table.shape) != (genes, 4):
            raise WeightsError(f"tensor '{_CALIBRATION}' is missing or not ({genes}, 4)")
        with empty():
            network = network_for(config, vocabulary)
        stray = [key for key in own if not key.startswith("network.")]
        if stray:
            raise WeightsError(f"tensor '{stray[0]}' is not known to the model{nearest(stray[0], own)}")
        restore_module(network, {key.removeprefix("network."): value for key, value in own.items()})
        network.requires_grad_(False).eval()
        started_from, validated = (_mapping(description.get(name)) for name in ("started_from", "validated"))
        return cls(network, vocabulary, Calibration(table), started_from, validated)


def network_for(config: CoMTIPConfig, vocabulary: Vocabulary) -> Network:
    """Return networks for the genes of a vocabulary, at random."""
    v = vocabulary
    return Network(config, len(v.genes), v.n_tokens, v.n_described, v.suffix)


def restored_vocabulary(
    config: CoMTIPConfig, description: Mapping[str, Any], assets: Mapping[str, bytes]
) -> Vocabulary:
    """Return the genes that were saved, and how they are read.

    Raises
    ------
    WeightsError
        They are not there, or were read with other descriptions than this stzoo has.
    """
    genes = description.get("genes")
    if not (isinstance(genes, list) and genes and all(isinstance(gene, str) for gene in genes)):
        raise WeightsError("the repository has no gene vocabulary", todo="pull the weights again")
    if _TOKENIZER not in assets:
        raise WeightsError(f"the repository has no {_TOKENIZER}", todo="pull the weights again")
    vocabulary = Vocabulary.restored(genes, config.text, assets[_TOKENIZER])
    if vocabulary.n_described and description.get("gene_text") != packaged().sha256:
        raise WeightsError(
            "these weights were trained with another table of gene descriptions than this stzoo has",
            todo="install the version of stzoo that they were made with, or newer weights",
        )
    return vocabulary


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}
