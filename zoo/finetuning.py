"""``stzoo.finetune``: fine-tune weights and write them with a model card, ready to be published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stzoo.core.data.section import Section
from stzoo.core.data.splits import SplitOptions
from stzoo.core.encoder import Encoder
from stzoo.core.finetuning.report import base_name, data_summary, protocol
from stzoo.core.finetuning.run import FineTuned, carry_out, check_folder
from stzoo.core.finetuning.run import finetune as _finetune
from stzoo.core.finetuning.settings import Settings
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
) -> FineTuned:
    r"""Fine-tune an encoder on own sections; parameters are those of :func:`stzoo.core.finetuning.run.finetune`.

    Parameters
    ----------
    license
        SPDX identifier for the model card: what the data and the starting weights allow.

    Returns
    -------
    The kept encoder and the report; ``out/weights`` is a repository with a model card.

    Examples
    --------
    >>> done = stzoo.finetune(stzoo.load("comtip-tiny"), [a, b], test=[c], out="tuned")  # doctest: +SKIP
    >>> print("\n".join(done.lines()))  # doctest: +SKIP
    """
    return _finetune(
        encoder,
        sections,
        out=out,
        test=test,
        genes=genes,
        settings=settings,
        options=options,
        seed=seed,
        resume=resume,
        progress=progress,
        trackers=trackers,
        card=lambda found: write_card(found, name=Path(out).name, license=license),
    )


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
