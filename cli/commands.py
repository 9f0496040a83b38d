"""The table of commands: a line of ``stzoo --help`` each, and the options that all of them take."""

from __future__ import annotations

COMMANDS = {
    "demo": "Run the main job on a synthetic tissue (or, with --data, on real ones).",
    "predict": "Predict gene expression of a section from its H&E image.",
    "embed": "Write what an encoder sees at every spot of a section.",
    "query": "Score sets of genes at every spot from the H&E image.",
    "align": "Lay one section upon another, and say how good that is.",
    "impute": "Fill the spots of a section, or of a stack of them, that were not measured.",
    "design": "Choose which spots of a section or stack to measure.",
    "stack": "Make and check stack files: the sections of one sample in order of depth.",
    "volume": "Draw an imputed stack, as a picture and as an interactive page.",
    "evaluate": "Run an evaluation protocol and print its table, baselines included.",
    "train": "Train a model from a recipe; can be stopped and resumed.",
    "finetune": "Tune weights on own sections, and say what that gained.",
    "data": "Inspect and convert sections.",
    "plugins": "List, make, check and switch plugins, and find what is wrong with them.",
    "zoo": "Find, pull, verify, lock and publish weights.",
}
"""Every command and its line in ``stzoo --help``. Its module, ``stzoo.cli.NAME``, is imported when it is called."""

ANYWHERE = ("--debug", "--locked", "--plugin", "--attention")
"""Options of every command."""
