"""Checks of encoders."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from stzoo.core.conformance.answers import EXACT, ROUNDING, check_same
from stzoo.core.conformance.cases import CheckContext
from stzoo.core.conformance.checks import ConformanceError, check, refusal
from stzoo.core.errors import GeneError


@check("encoder")
def embedding_is_whole(case: CheckContext) -> None:
    """``embed`` returns finite float32, a row for each spot and ``embedding_dim`` columns, that tells spots apart."""
    found, section = case.embedding, case.sections[0]
    if found.dtype != np.float32:
        raise ConformanceError(f"the embedding is {found.dtype}", "return np.asarray(..., dtype=np.float32)")
    if found.shape != (len(section), case.model.embedding_dim):
        wanted = (len(section), case.model.embedding_dim)
        raise ConformanceError(
            f"the embedding has shape {found.shape}, expected {wanted}", "return a row for each spot"
        )
    if len(found) > 1 and float(np.ptp(found, axis=0).max()) == 0:
        raise ConformanceError("every spot has the same embedding", "read the slide around each spot")


@check("encoder")
def prediction_is_whole(case: CheckContext) -> None:
    """``predict`` returns finite float32 with a column for each gene asked for, in that order."""
    model, section = case.model, case.sections[0]
    names = model.predict(section).genes
    wanted = list(names[:5])[::-1]
    found = model.predict(section, wanted)
    if list(found.genes) != wanted:
        raise ConformanceError(
            f"genes {wanted} were asked for, {list(found.genes)} came", "keep the order that was asked for"
        )
    if found.values.dtype != np.float32 or found.values.shape != (len(section), len(wanted)):
        raise ConformanceError(
            f"values are {found.values.dtype} {found.values.shape}", "return float32 (n_spots, n_genes)"
        )
    columns = [names.index(gene) for gene in wanted]
    whole = {"prediction": model.predict(section).values[:, columns]}
    todo = "predict each gene by itself"
    check_same({"prediction": found.values}, whole, ROUNDING, "fewer genes asked for, in another order", todo)


@check("encoder")
def batch_size(case: CheckContext) -> None:
    """``batch_size`` bounds memory and changes nothing else: no statistic is taken over a batch."""
    for size in (1, 3, 1000):
        found = {"embedding": case.model.embed(case.sections[0], batch_size=size)}
        wanted = {"embedding": case.embedding}
        todo = "normalise by what is stored with the model or over the section, and call eval() on networks"
        check_same(found, wanted, ROUNDING, f"embedded {size} spots at a time", todo)


@check("encoder")
def slide_is_read(case: CheckContext) -> None:
    """The embedding follows the picture, and a section without a slide is refused."""
    other = case.model.embed(case.others[0])
    if np.array_equal(other, case.embedding):
        raise ConformanceError("another picture has the very same embedding", "read section.require_slide()")
    blind = replace(case.sections[0], slide=None)
    if refusal(lambda: case.model.embed(blind), "a section without a slide") is None:
        raise ConformanceError("a section without a slide is embedded", "ask for it: section.require_slide()")


@check("encoder")
def missing_gene_is_named(case: CheckContext) -> None:
    """A gene that a fitted head does not know is a GeneError that names it, never a column of zeros."""
    model, gene = case.model, "NO-SUCH-GENE"
    head = next(iter(model.fitted_heads), model.default_head)
    error = refusal(lambda: model.predict(case.sections[0], [gene], head=head), f"the gene {gene}")
    if not isinstance(error, GeneError) or gene not in str(error):
        raise ConformanceError(
            f"the gene {gene} is predicted, or not named: {error}", "raise GeneError, and name the gene"
        )


@check("encoder")
def unknown_head_is_refused(case: CheckContext) -> None:
    """A head that does not exist is an error that says which there are."""
    if refusal(lambda: case.model.predict(case.sections[0], head="no-such-head"), "an unknown head") is None:
        raise ConformanceError("a head 'no-such-head' predicts", "call self.check_head(head) first")


@check("encoder")
def fitting_keeps_the_encoder(case: CheckContext) -> None:
    """Fitting a head leaves the embedding as it is, to the bit."""
    model = case.fresh()
    head = model.default_head
    model.fit([case.others[0]], head=head)
    found = {"embedding": model.embed(case.sections[0])}
    todo = "let fit() touch heads alone; training is train()"
    check_same(found, {"embedding": case.embedding}, EXACT, "after a head was fitted", todo)
