"""``stzoo finetune``: weights tuned on own sections, resumable, with what stands beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from stzoo.cli.tables import echo


def command(
    weights: Annotated[str, typer.Argument(help="Weights to start from: a name of 'zoo list', a folder, or hf://...")],
    sources: Annotated[list[str], typer.Argument(metavar="SECTION...", help="Own sections: PATH or PATH::SECTION.")],
    out: Annotated[Path, typer.Option(help="Folder to make: weights, report, run.")],
    test: Annotated[
        list[str] | None,
        typer.Option(help="Section that is only scored (can be repeated); else one is held out."),
    ] = None,
    tune: Annotated[str, typer.Option(help="full, head, lora, or auto: by the number of spots.")] = "auto",
    genes: Annotated[
        str | None, typer.Option(help="Genes, comma apart, or a file with one a line; by default up to 1,000.")
    ] = None,
    contrast: Annotated[
        bool | None, typer.Option(help="Go on with the pretraining objective beside; by default by what measured best.")
    ] = None,
    split: Annotated[str, typer.Option(help="Hold out by patient, section, block, or auto.")] = "auto",
    patients: Annotated[
        str | None, typer.Option(help="Patient of each section, comma apart, those of --test last.")
    ] = None,
    same_patient: Annotated[bool, typer.Option(help="Accept data that are all of one patient.")] = False,
    buffer_um: Annotated[float, typer.Option(min=0, help="Distance kept between the sides of one section.")] = 300.0,
    mpp: Annotated[float | None, typer.Option(help="Micrometres per pixel, where the files do not say.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a setting: rates.steps=50, rank=4.")] = None,
    accumulate: Annotated[
        int | None, typer.Option(min=1, help="Micro-batches of rates.batch spots a step; by default one.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, bf16, or auto (the faster of both); by default fp32.")
    ] = None,
    license: Annotated[str, typer.Option(help="SPDX identifier for the model card.")] = "other",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
    tracker: Annotated[
        list[str] | None,
        typer.Option(help="Tell the tuning of a network to a tracker, e.g. tensorboard; may be repeated."),
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Say what would be done and what it costs; write nothing.")] = False,
    resume: Annotated[bool, typer.Option(help="Go on with a run that was stopped.")] = False,
) -> None:
    """Fine-tune weights on own sections; baselines and the weights before stand beside. Runs under torchrun."""
    from functools import partial

    from stzoo.core.data.splits import SplitOptions, read_by
    from stzoo.core.encoder import Encoder
    from stzoo.core.finetuning.data import read_genes
    from stzoo.core.finetuning.plan import cost, describe_plan, plan_finetuning
    from stzoo.core.finetuning.settings import read_settings
    from stzoo.core.io.read import read
    from stzoo.core.runtime.ranks import join_ranks
    from stzoo.core.training.task import Precision
    from stzoo.core.training.trackers import require_trackers
    from stzoo.zoo.finetuning import carry_out, check_folder, write_card
    from stzoo.zoo.loading import load

    require_trackers(tracker or [])
    check_folder(out, resume=resume)
    loop = [] if accumulate is None else [f"accumulate={accumulate}"]
    loop += [] if precision is None else [f"precision={Precision.read(precision).value}"]
    settings = read_settings(tune, contrast, [*(set_ or []), *loop])
    options = SplitOptions(
        by=read_by(split),
        patients=[name.strip() for name in patients.split(",")] if patients else [],
        same_patient=same_patient,
        buffer_um=buffer_um,
    )
    encoder = load(weights, device=device)
    if not isinstance(encoder, Encoder):
        from stzoo.core.errors import UsageError

        raise UsageError(f"'{weights}' is no encoder, so it can not be fine-tuned", todo="see 'stzoo zoo list'")
    plan = plan_finetuning(
        encoder,
        [read(source, mpp=mpp) for source in sources],
        test=[read(source, mpp=mpp) for source in test or []],
        genes=None if genes is None else read_genes(genes),
        settings=settings,
        options=options,
        seed=seed,
    )
    if dry_run:
        for line in [*describe_plan(plan, cost(plan)), "nothing was written (--dry-run)"]:
            echo(line)
        return
    with join_ranks() as ranks:
        say = echo if ranks.is_main else _nothing
        for line in describe_plan(plan):
            say(line)
        card = partial(write_card, name=out.name, license=license)
        done = carry_out(plan, out, resume=resume, trackers=tracker or [], card=card, ranks=ranks)
        for line in done.lines():
            say(line)
        say(f"wrote {done.weights} and {out / 'report.md'}; use them with --model {done.weights}")


def _nothing(line: str) -> None:
    """Print nothing: the first rank does."""
