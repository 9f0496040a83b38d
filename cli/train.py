"""``stzoo train``: a model from a recipe, resumable."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from stzoo.cli.tables import echo


def command(
    model: Annotated[str, typer.Argument(help="A model of 'plugins list'.")],
    config: Annotated[str, typer.Option(help="A recipe of the model by name, or a YAML file.")],
    data: Annotated[Path, typer.Option(help="Folder that holds the training sections.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; the weights are in OUT/weights.")],
    seed: Annotated[int | None, typer.Option(help="Another seed than the recipe's.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override an option: train.steps=50.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with a run that was stopped.")] = False,
) -> None:
    """Train a model from a recipe; Ctrl-C keeps a checkpoint, --resume goes on."""
    from stzoo.core.errors import OutputError
    from stzoo.core.output import check_output
    from stzoo.core.reading import read
    from stzoo.core.recipes import load_recipe, trained
    from stzoo.core.resources import data_source
    from stzoo.zoo.cards import Card

    recipe = load_recipe(model, config, set_)
    check_output(out, overwrite=True)
    if (out / "weights").exists() or ((out / "run").exists() and not resume):
        done = (out / "weights").exists()
        raise OutputError(
            f"{out} holds a {'finished' if done else 'stopped'} run already",
            todo="choose another folder" if done else "go on with --resume, or choose another folder",
        )
    sections = [read(data_source(source, data)) for source in recipe.sections]
    about = dict(recipe.card)
    card = Card(
        name=Path(config).stem,
        summary=about.pop("summary", f"Weights of {model}, trained by the recipe {config}."),
        license=about.pop("license", "other"),
        tags=[model, "histology"],
        sections=about,
    ).render()
    seed = recipe.seed if seed is None else seed
    trained(model, config, sections, seed=seed, folder=out, overrides=set_, card=card)
    echo(f"wrote {out / 'weights'}; use them with --model {out / 'weights'}")
