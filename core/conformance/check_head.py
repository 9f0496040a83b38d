"""Checks of heads: what was fitted predicts what it was asked for, and comes back from disk as it was."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from stzoo.core.arrays import Array, Floats, Indices
from stzoo.core.conformance.cases import CheckContext
from stzoo.core.conformance.checks import CheckSkipped, ConformanceError, check, refusal
from stzoo.core.conformance.worker import in_process
from stzoo.core.discovery.one_file import DIST
from stzoo.core.encoder import Head, Prediction, head_class
from stzoo.core.errors import GeneError, StzooError

GENES = ("COL1A1", "ERBB2", "CD3D", "KRT18")
SPOTS, WIDTH = 90, 6
SAVED = 1e-2
"""How far a prediction may move by being saved (as fp16, say), in standard deviations over spots."""


def _spots(seed: int) -> tuple[Floats, Floats, Indices]:
    """Draw embeddings (n, d), expression (n, g) that follows from them but for noise, and three sections (n,)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(SPOTS, WIDTH)).astype(np.float32)
    weights = np.random.default_rng(0).normal(size=(WIDTH, len(GENES)))
    y = np.maximum(x @ weights + 4 + 0.2 * rng.normal(size=(SPOTS, len(GENES))), 0).astype(np.float32)
    return x, y, np.arange(SPOTS) % 3


def _fit_head(case: CheckContext) -> Head:
    x, y, group = _spots(1)
    return case.once("head", lambda: head_class(_name(case)).fit(x, y, group, GENES, seed=0))


def _name(case: CheckContext) -> str:
    return f"{case.subject.plugin.dist}:{case.record.name}"


@check("head")
def head_has_its_parts(case: CheckContext) -> None:
    """The record leads to a class with all that a head has: fit, predict, tensors, description, restored, genes."""
    try:
        head = _fit_head(case)
    except StzooError as error:
        raise ConformanceError(f"it can not be fitted: {error}", "see stzoo.Head") from error
    if tuple(head.genes) != GENES:
        raise ConformanceError(f"its genes are {head.genes}, fitted were {GENES}", "keep the genes of fit()")


@check("head")
def head_predicts_genes_in_order(case: CheckContext) -> None:
    """Values are float32 (n, g), finite, in the order asked for, and a gene does not depend on those asked with it."""
    head, (x, _, _) = _fit_head(case), _spots(2)
    whole, some = head.predict(x), head.predict(x, [GENES[2], GENES[0]])
    for found, genes in ((whole, GENES), (some, (GENES[2], GENES[0]))):
        _check_shape(found, genes, case.record.name)
    if not np.allclose(whole.values[:, [2, 0]], some.values, rtol=1e-5, atol=1e-6):
        raise ConformanceError("a gene's prediction depends on the genes asked with it", "choose columns at the end")


def _check_shape(found: Prediction, genes: tuple[str, ...], name: str) -> None:
    shape = (SPOTS, len(genes))
    if found.values.dtype != np.float32 or found.values.shape != shape or not np.isfinite(found.values).all():
        raise ConformanceError(
            f"values are {found.values.dtype} {found.values.shape}, gaps included", f"return finite float32 {shape}"
        )
    if tuple(found.genes) != genes or found.head != name:
        raise ConformanceError(f"it says genes {found.genes} of head '{found.head}'", f"name {genes} and '{name}'")
    spread = found.uncertainty
    if spread is not None and (spread.shape != shape or not np.isfinite(spread).all() or (spread < 0).any()):
        raise ConformanceError("the uncertainty is negative, has gaps or another shape", "give one a value, or None")


@check("head")
def head_reads_the_embedding(case: CheckContext) -> None:
    """Other embeddings have another prediction, and what the embedding determines is found on spots not seen before."""
    head, (x, y, _) = _fit_head(case), _spots(2)
    found = head.predict(x).values
    if np.array_equal(found, head.predict(x[::-1].copy()).values):
        raise ConformanceError("another embedding has the very same prediction", "read the embedding")
    pcc = [float(np.corrcoef(found[:, i], y[:, i])[0, 1]) if found[:, i].std() > 0 else 0.0 for i in range(len(GENES))]
    if np.mean(pcc) < 0.3:
        raise ConformanceError(
            f"on spots not seen before it correlates {np.mean(pcc):.2f} with what the embedding determines",
            "check that rows of embedding and expression go together",
        )


@check("head")
def head_same_seed_same_answer(case: CheckContext) -> None:
    """Fitted twice with one seed it predicts the very same, and what it is given stays as it was."""
    x, y, group = _spots(1)
    given: tuple[Array, ...] = (x, y, group)
    before = [part.copy() for part in given]
    again = head_class(_name(case)).fit(x, y, group, GENES, seed=0)
    if not all(np.array_equal(a, b) for a, b in zip(before, given, strict=True)):
        raise ConformanceError("fit() changes the arrays that it is given", "copy what you change")
    at = _spots(2)[0]
    if not np.allclose(again.predict(at).values, _fit_head(case).predict(at).values, rtol=1e-5, atol=1e-6):
        raise ConformanceError("fitted twice with one seed it predicts otherwise", "draw all randomness from seed")


@check("head")
def head_survives_saving(case: CheckContext) -> None:
    """Tensors and a description that JSON can hold are all there is: what is made of them predicts the same."""
    head, (x, _, _) = _fit_head(case), _spots(2)
    tensors: dict[str, Array] = {name: np.array(value) for name, value in head.tensors().items()}
    try:
        description: dict[str, Any] = json.loads(json.dumps(head.description()))
    except (TypeError, ValueError) as error:
        raise ConformanceError(f"its description is no JSON: {error}", "use plain values") from error
    before, after = head.predict(x).values, type(head).restored(tensors, description).predict(x).values
    apart = float(np.abs(after - before).max()) / max(float(before.std()), 1e-6)
    if apart > SAVED:
        raise ConformanceError(f"saved and restored it differs by {apart:.3g} of its spread", "save all it needs")
    if tensors:
        broken = dict(list(tensors.items())[1:])
        if refusal(lambda: type(head).restored(broken, description), "a tensor that is missing") is None:
            raise ConformanceError("a missing tensor goes unnoticed", "check names and shapes in restored()")


@check("head")
def head_names_missing_genes(case: CheckContext) -> None:
    """A gene that it was not fitted for is a GeneError that names it; an embedding of another width is refused."""
    head, (x, _, _) = _fit_head(case), _spots(2)
    error = refusal(lambda: head.predict(x, ["NO-SUCH-GENE"]), "an unknown gene")
    if not isinstance(error, GeneError) or "NO-SUCH-GENE" not in str(error):
        raise ConformanceError(f"an unknown gene is predicted, or not named: {error}", "use stzoo.gene_columns")
    try:
        head.predict(x[:, :-1].copy())
    except StzooError:
        return
    except Exception as wrong:
        raise ConformanceError(
            f"an embedding of another width raises {type(wrong).__name__}", "check the width, raise a StzooError"
        ) from wrong
    raise ConformanceError("an embedding of another width is predicted from", "check the width in predict()")


@check("head", "task")
def no_network_to_import(case: CheckContext) -> None:
    """Importing the class opens no connection."""
    if case.subject.plugin.dist == DIST:
        raise CheckSkipped("a file is imported only where --plugin names it")
    module = case.record.target.partition(":")[0]
    tried = in_process("light", module)["network"]
    if tried:
        raise ConformanceError(f"importing '{module}' asks for {tried[0]}", "fetch nothing at import")
