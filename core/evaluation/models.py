"""The models of a protocol's rows: made, trained or loaded once, their embeddings remembered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stzoo.core import config as configs
from stzoo.core.arrays import Floats
from stzoo.core.data.section import Section
from stzoo.core.encoder import Encoder, list_heads
from stzoo.core.errors import ConfigError, UsageError
from stzoo.core.evaluation.protocol import Row
from stzoo.core.imputer import Imputer
from stzoo.core.registry import model, model_class
from stzoo.core.runtime.outputs import writing
from stzoo.core.training.recipes import fingerprint, load_recipe, train_or_load
from stzoo.core.workflows.features import cache_embeddings

Loader = Callable[[str], Any]
"""Gives a model for the name of its weights (:func:`stzoo.load`)."""


class Models:
    """Finds the encoder of a row and lets its heads predict, or its imputer.

    Parameters
    ----------
    load
        How weights are found.
    work
        Folder in which trained models are kept, each under what it was trained by.
    """

    def __init__(self, load: Loader, work: Path) -> None:
        self._load, self._work = load, work
        self._encoders: dict[str, Encoder] = {}

    def check(self, rows: Sequence[Row]) -> None:
        """Read recipes and overrides of all rows, so that a slip in the last is found before the first is trained."""
        for row in rows:
            if row.recipe:
                load_recipe(row.model, row.recipe, row.overrides)
            if row.untrained and getattr(model_class(row.model), "initialise", None) in (None, Encoder.initialise):
                raise UsageError(
                    f"row '{row.name}' asks for '{row.model}' untrained, which this model does not offer",
                    todo="leave the row out, or give the model a method initialise(sections)",
                )

    def encoder(self, row: Row, seed: int, train: Sequence[Section] = ()) -> Encoder:
        """Return the encoder of a row.

        Parameters
        ----------
        train
            Sections that a recipe trains on.

        Raises
        ------
        UsageError
            A recipe, but no section to train on; or ``untrained``, and the model does not offer it.
        """
        if row.recipe and not train:
            raise UsageError(f"row '{row.name}' has a recipe, but the protocol trains nothing", todo="give weights")
        key = f"{row.weights}|{row.model}|{seed}|{row.overrides}|{row.untrained}"
        if row.recipe:
            key += row.recipe + fingerprint(row.model, row.recipe, train, row.overrides)
        if key not in self._encoders:
            self._encoders[key] = cache_embeddings(self._make_encoder(row, seed, train))
        return self._encoders[key]

    def _make_encoder(self, row: Row, seed: int, train: Sequence[Section]) -> Encoder:
        made: Encoder
        if row.weights:
            made = self._load(row.weights)
        elif row.untrained:
            made = model(row.model, load_recipe(row.model, row.recipe, row.overrides).config, role="encoder", seed=seed)
            made.initialise(train)
        elif row.recipe:
            mark = fingerprint(row.model, row.recipe, train, row.overrides)
            folder = self._work / f"{row.model}-{Path(row.recipe).stem}-seed{seed}-{mark}"
            made = train_or_load(row.model, row.recipe, train, seed=seed, folder=folder, overrides=row.overrides)
        else:
            made = model(row.model, configs.override({}, row.overrides), role="encoder", seed=seed)
        return made

    def imputer(self, row: Row, seed: int) -> Imputer:
        """Return the imputer of a row: weights, or a model with its options.

        Raises
        ------
        ConfigError
            The row asks for training, or one of its options is unknown.
        """
        if row.recipe or row.untrained or row.head:
            raise ConfigError(
                f"row '{row.name}' has a recipe or a head, which imputers have not", todo="give options as overrides"
            )
        made = (
            self._load(row.weights)
            if row.weights
            else model(row.model, configs.override({}, row.overrides), role="imputer", seed=seed)
        )
        if not isinstance(made, Imputer):
            raise ConfigError(f"the weights of row '{row.name}' are no imputer", todo="see 'stzoo zoo list'")
        return made

    def load_or_make(
        self, mark: str, make: Callable[[], dict[str, np.ndarray[Any, Any]]]
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Return arrays that were made under this mark before, from the work folder; otherwise make and keep them."""
        path = self._work / f"{mark}.npz"
        if not path.is_file():
            found = make()
            with writing(path, overwrite=True) as scratch:
                np.savez(scratch, allow_pickle=False, **found)
            return found
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}

    def predict(
        self,
        row: Row,
        seed: int,
        genes: Sequence[str],
        train: Sequence[Section],
        test: Sequence[Section],
        *,
        again: bool = False,
    ) -> list[Floats]:
        """Predict genes of each test section, float32 (n, g), with the mean of the row's heads.

        Parameters
        ----------
        train
            Sections whose measured spots recipes and heads are fitted on.
        again
            Fit heads anew even if the encoder brings one that knows the genes.
        """
        encoder = self.encoder(row, seed, train)
        heads = [encoder.check_head(head or None) for head in row.heads]
        for head in heads:
            if head in list_heads() and (again or not set(genes) <= set(encoder.genes(head))):
                encoder.fit(train, genes, head=head)
        return [
            np.mean([encoder.predict(section, genes, head=head).values for head in heads], axis=0, dtype=np.float32)
            for section in test
        ]
