"""``stzoo train``: a model from a recipe, resumable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from stzoo.cli.tables import echo


def command(
    model: Annotated[str, typer.Argument(help="A model of 'plugins list'.")],
    config: Annotated[str, typer.Option(help="A recipe of the model by name, or a YAML file.")],
    data: Annotated[Path, typer.Option(help="Folder that holds the training sections.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; the weights are in OUT/weights.")],
    validate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SECTION",
            help="Held-out section, named as in the recipe or by a whole path, that chooses the best weights; "
            "may be repeated. How often: --set train.validate_every=50, early stop: --set train.patience=4.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed than the recipe's.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override an option: train.steps=50.")] = None,
    accumulate: Annotated[
        int | None, typer.Option(min=1, help="Micro-batches a step; another number than the recipe's train.accumulate.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="fp32, bf16, or auto (the faster of both); instead of the recipe's train.precision."),
    ] = None,
    start: Annotated[
        str, typer.Option(help="Start from a CLIP, PLIP, DINO or ViT checkpoint: a folder, or hf://owner/repo@COMMIT.")
    ] = "",
    scores: Annotated[
        list[Path] | None, typer.Option(help="Results of 'evaluate --json' for the model card; may be repeated.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with a run that was stopped.")] = False,
    device: Annotated[str, typer.Option(help="Torch device; under torchrun 'cuda' is each rank's own GPU.")] = "cpu",
    tracker: Annotated[
        list[str] | None, typer.Option(help="Tell the run to a tracker, e.g. tensorboard; may be repeated.")
    ] = None,
) -> None:
    """Train a model from a recipe; Ctrl-C keeps a checkpoint, --resume goes on. Runs under torchrun as it is."""
    from stzoo.core.io.read import data_source, read
    from stzoo.core.runtime.devices import check_device
    from stzoo.core.runtime.outputs import check_output
    from stzoo.core.runtime.ranks import join_ranks
    from stzoo.core.training.recipes import computation, load_recipe, loop_options, require_validation, train_or_load
    from stzoo.core.training.trackers import require_trackers
    from stzoo.zoo.cards import Card, describe_choice, scores_from

    overrides = [*(set_ or []), *loop_options(model, accumulate, precision)]
    recipe = load_recipe(model, config, overrides)
    require_trackers(tracker or [])
    if validate:
        require_validation(model)
    check_device(device)
    check_output(out, overwrite=True)
    about = dict(recipe.card)
    card = Card(
        name=Path(config).stem,
        summary=about.pop("summary", f"Weights of {model}, trained by the recipe {config}."),
        license=about.pop("license", "other"),
        tags=[model, "histology"],
        base_model=start.removeprefix("hf://").partition("@")[0] if start.startswith("hf://") else "",
        scores=[score for path in scores or [] for score in scores_from(_report(path), recipe=Path(config).stem)],
        sections=about,
    )

    def describe_run() -> dict[str, str]:
        said = computation(out / "run")
        return {"How it was computed": f"Training: {said}."} if said else {}

    with join_ranks() as ranks:
        _refuse_other_run(out, resume)
        ranks.barrier()  # nobody writes before all have looked
        made = train_or_load(
            model,
            config,
            [read(data_source(source, data)) for source in recipe.sections],
            seed=recipe.seed if seed is None else seed,
            device=device,
            folder=out,
            overrides=overrides,
            validation=[read(data_source(source, data)) for source in validate or []],
            card=lambda made: replace(card, sections=about | describe_choice(made.validated) | describe_run()).render(),
            start=_checkpoint(start),
            start_name=start,
            trackers=tracker or [],
            ranks=ranks,
        )
        if ranks.is_main:
            for text in (describe_choice(made.validated) | describe_run()).values():
                echo(text)
            echo(f"wrote {out / 'weights'}; use them with --model {out / 'weights'}")


def _refuse_other_run(out: Path, resume: bool) -> None:
    from stzoo.core.errors import OutputError

    if (out / "weights").exists():
        raise OutputError(f"{out} holds a finished run already", todo="choose another folder")
    if (out / "run").exists() and not resume:
        raise OutputError(f"{out} holds a stopped run already", todo="go on with --resume, or choose another folder")


def _report(path: Path) -> dict[str, Any]:
    """Return what 'stzoo evaluate --json' wrote."""
    import json

    from stzoo.core.errors import DataError

    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"can not be read as JSON: {error}", where=path) from error
    if not isinstance(found, dict) or not {"protocol", "scores", "columns", "conditions"} <= set(found):
        raise DataError(
            "is no result of an evaluation", where=path, todo="make it: stzoo evaluate PROTOCOL --json FILE"
        )
    return found


def _checkpoint(start: str) -> Path | None:
    """Return the local folder or file of a checkpoint, downloaded if it is a Hub address."""
    from stzoo.core.errors import UsageError

    if not start:
        return None
    if start.startswith("hf://"):
        from stzoo.zoo.hub import fetch_checkpoint

        return fetch_checkpoint(start)
    path = Path(start)
    if not path.exists():
        raise UsageError(
            f"no checkpoint at {path}", todo="give a folder, a safetensors file, or hf://owner/repo@COMMIT"
        )
    return path
