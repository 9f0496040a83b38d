"""``stzoo.finetune``: fine-tune weights and write them with a model card, ready to be published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from stzoo.core.data.section import Section
from stzoo.core.data.splits import SplitOptions
from stzoo.core.encoder import Encoder
from stzoo.core.finetuning.plan import plan_finetuning
from stzoo.core.finetuning.report import base_name, data_summary, protocol
from stzoo.core.finetuning.run import FineTuned, carry_out, check_folder
from stzoo.core.finetuning.settings import Settings
from stzoo.core.runtime.ranks import ALONE, Ranks
from stzoo.core.training.trackers import require_trackers
from stzoo.zoo.cards import Card, CardScore

__all__ = ["FineTuned", "carry_out", "check_folder", "finetune", "write_card"]

LIMITS = (
    "Scores are of the test spots named above: other patients, stains, scanners and tissues will differ, and scores "
    "within one patient flatter. Not for diagnosis."
)


def finetune(
    encoder: Encoder,
    sections: Sequence[Section],
    *,
    out: str | Path,
    test: Sequence[Section] = (),
    genes: Sequence[str] | None = None,
    settings: Settings | None = None,
    options: SplitOptions | None = None,
    seed: int = 0,
    resume: bool = False,
    progress: bool = True,
    trackers: Sequence[str] = (),
    license: str = "other",
    ranks: Ranks = ALONE,
) -> FineTuned:
    r"""Fine-tune an encoder on own sections, and say what it gained.

    Parameters
    ----------
    encoder
        With weights; it stays as it is.
    sections
        Own sections with slides and counts. Validation is carved out of them, and the test unless ``test`` is given.
    out
        Folder to make.
    test
        Sections that are only scored, at the very end.
    genes
        Genes to predict; by default up to 1,000 that enough training spots show.
    settings
        What is tuned and how fast; by default by the size of the data.
    options
        How to split.
    seed
        Of everything random.
    resume
        Go on with a run that was stopped in ``out``; the result is the same, bit for bit on a CPU.
    progress
        Draw a bar (on a terminal only).
    trackers
        Names of trackers that are told of the tuning of a network, as :func:`stzoo.core.training.loop.fit` tells them;
        a head alone has no steps to tell of.
    license
        SPDX identifier for the model card: what the data and the starting weights allow.
    ranks
        The processes that share the tuning (:func:`stzoo.core.runtime.ranks.join_ranks`); the first one writes.

    Returns
    -------
    The kept encoder and the report; ``out/weights`` is a repository with a model card, ready to be published.

    Raises
    ------
    StzooError
        The data can not be split honestly, genes or slides are missing, or ``out`` is there already.

    Examples
    --------
    >>> done = stzoo.finetune(stzoo.load("comtip-tiny"), [a, b], test=[c], out="tuned")  # doctest: +SKIP
    >>> print("\n".join(done.lines()))  # doctest: +SKIP
    """
    require_trackers(trackers)
    out = check_folder(Path(out), resume=resume)
    plan = plan_finetuning(encoder, sections, test=test, genes=genes, settings=settings, options=options, seed=seed)
    card = partial(write_card, name=out.name, license=license)
    return carry_out(plan, out, resume=resume, progress=progress, trackers=trackers, card=card, ranks=ranks)


def write_card(found: Mapping[str, Any], *, name: str, license: str = "other") -> str:
    """Return the model card of fine-tuned weights: scores beside the controls, data, split, protocol, limits."""
    source = str(found["base"]["source"])
    hub = source.removeprefix("hf://").partition("@")[0] if source.startswith("hf://") else ""
    return Card(
        name=name,
        summary=f"Fine-tuned from {base_name(found)} by stzoo {found['stzoo']}. {found['verdict']}",
        license=license,
        base_model=hub,
        tags=[found["model"], "histology", "fine-tuned"],
        scores=_scores(found),
        sections={"Data and split": data_summary(found), "Protocol": protocol(found), "Limits": LIMITS},
    ).render()


def _scores(found: Mapping[str, Any]) -> list[CardScore]:
    test = ", ".join(piece["section"] for piece in found["split"]["test"])
    return [
        CardScore(
            dataset="own sections",
            split=test,
            metric=metric,
            value=line[metric],
            protocol="finetune",
            command="stzoo finetune",
            row=line["name"],
            part=f"{found['genes']['scored']} genes",
            shown=f"{line[metric]:.3f}",
            own=line["name"] == found["kept"],
        )
        for line in found["lines"]
        for metric in ("pcc_mean", "pcc_median")
    ]
