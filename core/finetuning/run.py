"""Fine-tune weights on own tissue: one call, resumable, and honest about what it gained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stzoo.core.data.subsets import expression_of
from stzoo.core.encoder import Encoder
from stzoo.core.errors import OutputError
from stzoo.core.finetuning.controls import (
    HEAD,
    OWN,
    REFITTED,
    TUNED,
    Line,
    as_they_come,
    control_lines,
    fit_carried_head,
    gene_mean,
    head_on,
    own_head,
    score_line,
)
from stzoo.core.finetuning.data import embed_subsets
from stzoo.core.finetuning.plan import Plan
from stzoo.core.finetuning.report import NEAR, report, verdict, write_report
from stzoo.core.finetuning.settings import Tune
from stzoo.core.finetuning.tuning import Tuned, tune
from stzoo.core.heads.ridge import RidgeHead
from stzoo.core.metrics.summary import mean_pcc
from stzoo.core.runtime.outputs import check_output
from stzoo.core.runtime.ranks import ALONE, Ranks

Carder = Callable[[Mapping[str, Any]], str]
"""Makes the text of the model card of a report."""


@dataclass(frozen=True)
class FineTuned:
    """What became of a fine-tuning.

    Parameters
    ----------
    encoder
        What was kept, with its heads: the weights in ``out/weights``.
    report
        All scores with their conditions, as JSON values (``out/report.json``).
    out
        ``run/`` (log, checkpoints), ``weights/`` (a repository), ``report.md``, ``report.json``, ``report.png``.
    """

    encoder: Encoder
    report: Mapping[str, Any]
    out: Path

    @property
    def weights(self) -> Path:
        """Folder of the kept weights; ``stzoo.load`` and ``stzoo zoo push`` take it as it is."""
        return self.out / "weights"

    def lines(self) -> list[str]:
        """Return the result as a few lines of text."""
        rows = [f"{line['pcc_mean']:.3f}  {line['name']}" for line in self.report["lines"]]
        return [f"mean PCC on the test spots, {self.report['genes']['scored']} genes:", *rows, self.report["verdict"]]


def check_folder(out: Path, *, resume: bool) -> Path:
    """Refuse an output folder that is there, unless a stopped run is in it that is to go on.

    Raises
    ------
    OutputError
        With what to do.
    """
    check_output(out, overwrite=True)
    if (out / "weights").exists():
        raise OutputError(f"{out} holds a finished run already", todo="choose another folder")
    if out.exists() and not resume:
        todo = "go on with --resume, or choose another folder" if (out / "run").exists() else "choose another folder"
        raise OutputError(f"{out} exists already", todo=todo)
    return out


def carry_out(
    plan: Plan,
    out: Path,
    *,
    resume: bool = False,
    progress: bool = True,
    trackers: Sequence[str] = (),
    card: Carder = lambda found: "",
    ranks: Ranks = ALONE,
) -> FineTuned:
    """Carry a plan out (see :func:`finetune`)."""
    judged, tuned = before(plan), None
    ranks.barrier()  # nobody writes before all have looked at the folder
    if plan.settings.tune is not Tune.head:
        tuned = tune(plan, out / "run", resume=resume, progress=progress, trackers=trackers, ranks=ranks)
    if tuned is not None:
        judged[TUNED] = tuned.fit.validation["pcc"]
    kept = choose_network(judged)
    lines = test_lines(plan, tuned)
    found = report(plan, tuned, lines, judged, kept)
    found["verdict"] = verdict(found)
    encoder = finish_encoder(plan, tuned, kept)
    if ranks.is_main:
        encoder.save(out / "weights", card=card(found))
        write_report(out, found, plan, lines)
    ranks.barrier()
    return FineTuned(encoder, found, out)


def before(plan: Plan) -> dict[str, float]:
    """Return the mean correlation on the validation spots of what needs no tuning of the network; empty without any."""
    split, genes = plan.split, plan.scored
    if not split.validation:
        return {}
    truth, seen = expression_of(split.validation, genes), embed_subsets(plan.encoder, split.validation)
    found = {}
    own = as_they_come(plan.encoder, seen, genes, gene_mean(split.train, split.validation, genes))
    if own is not None:
        found[OWN] = mean_pcc(truth, own)
    head = fit_carried_head(plan.encoder, split.train, genes, own_head(plan.encoder))
    found[HEAD] = mean_pcc(truth, head.predict(seen).values)
    return found


def choose_network(judged: Mapping[str, float]) -> str:
    """Return what is kept: the tuned network only where it is better on validation by more than :data:`NEAR`.

    The weights as they come are never kept: fitted on own spots, the penalty of their head may fall back on them.
    """
    return TUNED if TUNED in judged and judged[TUNED] - judged[HEAD] > NEAR else HEAD


def test_lines(plan: Plan, tuned: Tuned | None) -> list[Line]:
    """Return every line of the result, all on the same test spots; heads are fitted on all others."""
    learn, test, genes = plan.development, plan.split.test, plan.scored
    truth, seen = expression_of(test, genes), embed_subsets(plan.encoder, test)
    lines = control_lines(plan.control, learn, test, genes)
    own = as_they_come(plan.encoder, seen, genes, lines[0].values)
    if own is not None:
        new = sum(gene in set(plan.new) for gene in genes)
        lines.append(score_line(OWN, truth, own, f"{new} genes that it does not know count 0" if new else ""))
    fresh_head = head_on(plan.encoder, learn, genes, "ridge")
    lines.append(score_line(REFITTED, truth, fresh_head.predict(seen).values))
    carried = fit_carried_head(plan.encoder, learn, genes, own_head(plan.encoder))
    lines.append(score_line(HEAD, truth, carried.predict(seen).values))
    if tuned is not None:
        head = fit_tuned_head(plan, tuned, genes)
        lines.append(score_line(TUNED, truth, head.predict(embed_subsets(tuned.encoder, test)).values))
    return lines


def fit_tuned_head(plan: Plan, tuned: Tuned, genes: Sequence[str]) -> RidgeHead:
    """Return the head of a tuned network: fitted on all own spots, drawn towards the one it served."""
    start = fit_carried_head(plan.encoder, plan.development, genes, own_head(plan.encoder))
    return fit_carried_head(tuned.encoder, plan.development, genes, start)


def finish_encoder(plan: Plan, tuned: Tuned | None, kept: str) -> Encoder:
    """Return what is saved: the tuned network or the one of the start, with a ridge head for all genes."""
    if kept == TUNED and tuned is not None:
        tuned.encoder.fitted_heads["ridge"] = fit_tuned_head(plan, tuned, plan.genes)
        return tuned.encoder
    plan.encoder.fitted_heads["ridge"] = fit_carried_head(
        plan.encoder, plan.development, plan.genes, own_head(plan.encoder)
    )
    return plan.encoder
