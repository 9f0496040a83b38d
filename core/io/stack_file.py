"""Stack files: the sections of one sample in order of depth, and which of their spots are measured, as YAML.

ruamel.yaml writes them, so that a file that is written anew (``stzoo design``) keeps the user's comments. Measured in
one run against the writer by hand before it (CPU): reading 30 sections 120 ms, 114 before, writing 7.9 ms, 2.3
before; 500 sections 2.03 s, 1.88 before, and 106 ms, 30 before: it loses at writing, where nobody waits, and keeps
what ours lost. Its import costs 12 ms, where a stack file is read or written. Beside plain PyYAML:
``benchmarks/stack_yaml.py``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from stzoo.core.errors import ConfigError, UnitsError, UsageError, nearest
from stzoo.core.io.read import sections as section_names
from stzoo.core.io.read import split_source
from stzoo.core.io.yaml_lines import Lines, read_yaml_lines, round_trip
from stzoo.core.runtime.outputs import writing

SUFFIXES = (".yaml", ".yml")
EXACT = 0.01
"""A share this close (relative) to 1/s² is written as ``grid:s``."""

_HEAD = """\
# A stack: the sections of one sample, in order of depth. Paths are relative to this file.
# Check it: stzoo stack check {name}
sample: ""
spacing_um: 0   # distance between neighbouring sections in depth, micrometres
# Of each section:
#   name      what it is called in the results
#   source    PATH, or PATH::SECTION where the path holds several
#   measured  all; grid:2 (every second row and column); grid:2+1,0 (another phase); random:0.25+SEED;
#             obs:COLUMN (true in obs); file:barcodes.txt (one a line). Counts of all other spots are hidden.
#   z_um      only after a gap (a section was lost): its depth in micrometres; those below count on from it
sections: []
"""


@dataclass
class StackEntry:
    """One section of a stack file.

    Parameters
    ----------
    name
        What it is called in the results; also the name of its files.
    source
        ``PATH`` or ``PATH::SECTION``; relative to the folder of the stack file.
    measured
        A rule of :func:`stzoo.core.data.sampling_rules.measured_mask`.
    z_um
        Depth in micrometres; by default one spacing below the section before (0 for the first).
    """

    name: str = ""
    source: str = ""
    measured: str = "all"
    z_um: float | None = None


@dataclass
class StackKeys:
    """Keys of a stack file."""

    sample: str = ""
    spacing_um: float = 0.0
    sections: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class StackFile:
    """What a stack file says.

    Parameters
    ----------
    sample
        Name of the sample.
    spacing_um
        Distance between neighbouring sections, micrometres.
    sections
        In order of depth.
    lines
        The file, and where its keys stand.
    document
        What was read, with the user's comments, which are written again; None for a new file.
    """

    sample: str
    spacing_um: float
    sections: tuple[StackEntry, ...]
    lines: Lines
    document: Any = field(default=None, repr=False, compare=False)

    @property
    def z_um(self) -> tuple[float, ...]:
        """Depth of each section, micrometres."""
        depths: list[float] = []
        for entry in self.sections:
            below = depths[-1] + self.spacing_um if depths else 0.0
            depths.append(below if entry.z_um is None else entry.z_um)
        return tuple(depths)

    @property
    def folder(self) -> Path:
        """The folder that paths are relative to."""
        return self.lines.path.parent

    def source(self, index: int) -> str:
        """Return the address of a section's data as the working directory sees it."""
        path, section = split_source(self.sections[index].source)
        return f"{self.folder / path}" + ("" if section is None else f"::{section}")

    def rule(self, index: int) -> str:
        """Return a section's rule; the path of ``file:`` as the working directory sees it."""
        kind, colon, argument = self.sections[index].measured.partition(":")
        return f"{kind}:{self.folder / argument}" if kind == "file" else f"{kind}{colon}{argument}"

    def rebase(self, path: Path) -> StackFile:
        """Return the same stack for a file elsewhere: relative sources and lists are named from there."""
        entries = []
        for entry in self.sections:
            root, section = split_source(entry.source)
            source = f"{_relocate(root, self.folder, path.parent)}" + ("" if section is None else f"::{section}")
            kind, _, argument = entry.measured.partition(":")
            rule = f"file:{_relocate(Path(argument), self.folder, path.parent)}" if kind == "file" else entry.measured
            entries.append(replace(entry, source=source, measured=rule))
        return replace(self, sections=tuple(entries), lines=Lines(path))


def is_stack_file(source: str | Path) -> bool:
    """Say whether a path is that of a stack file (by its suffix)."""
    return Path(source).suffix.lower() in SUFFIXES


def load_stack_file(path: str | Path) -> StackFile:
    """Read and check a stack file; the data it names are not looked at.

    Raises
    ------
    ConfigError
        Naming the line: no YAML, an unknown key, a value of the wrong type, no name or source, a name that is used
        twice or can not be a file name, a spacing or depth that is not positive or not increasing, fewer than two
        sections.
    """
    values, lines = read_yaml_lines(Path(path))
    given = values.get("sections")
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given) or len(given) < 2:
        raise ConfigError(
            "'sections' is not a list of at least two sections",
            where=lines.where("sections"),
            todo="write one a line: - {name: C3, source: her2st::C3, measured: all}",
        )
    head = lines.build(StackKeys, {key: value for key, value in values.items() if key != "sections"})
    if not head.sample:
        raise ConfigError("'sample' is missing or empty", where=lines.where(), todo="write sample: NAME")
    _require_positive(head.spacing_um, lines.where("spacing_um"))
    entries = tuple(lines.build(StackEntry, item, "sections", i) for i, item in enumerate(given))
    file = StackFile(head.sample, head.spacing_um, entries, lines, lines.document)
    _check_entries(file)
    return file


def new_stack_file(
    folder: str | Path,
    path: str | Path,
    *,
    spacing_um: float,
    names: Sequence[str] | None = None,
    central: str | None = None,
    share: float = 0.25,
) -> StackFile:
    """Describe a folder of sections as a stack: the central section measured whole, a share of the others.

    Parameters
    ----------
    folder
        A path with sections that a reader knows.
    path
        The stack file to be; nothing is written.
    spacing_um
        Distance between sections, micrometres: data seldom say it, so it has to be given.
    names
        Sections wanted, in order of depth; by default all, as the reader lists them.
    central
        Name of the section that is measured whole; by default the middle one (the upper of two).
    share
        Of the spots of the others: 1/s² becomes ``grid:s``, any other share ``random:SHARE``.
    """
    folder, path = Path(folder), Path(path)
    known = section_names(folder)
    wanted = list(known if names is None else names)
    for name in wanted:
        require_name(name, known, folder)
    if central is not None:
        require_name(central, wanted, folder)
    if len(wanted) < 2:
        raise UsageError(f"{folder} holds one section, a stack needs two", todo="use stzoo impute for a single section")
    middle = wanted[(len(wanted) - 1) // 2] if central is None else central
    _require_positive(spacing_um, None)
    rule, place = share_rule(share), _relocate(folder, Path.cwd(), path.parent)
    entries = tuple(
        StackEntry(name.replace("/", "-"), f"{place}::{name}", "all" if name == middle else rule) for name in wanted
    )
    file = StackFile(folder.resolve().name, spacing_um, entries, Lines(path))
    _check_entries(file)
    return file


def require_name(name: str, known: Sequence[str], where: object) -> None:
    """Refuse the name of a section that is not there."""
    if name not in known:
        raise UsageError(
            f"no section '{name}'{nearest(name, known)}", where=f"{where}: {', '.join(known)}", todo="name one of them"
        )


def share_rule(share: float) -> str:
    """Return the rule that measures a share of a section's spots."""
    if not 0 < share <= 1:
        raise UsageError(f"the share is {share!r}, expected more than 0 and at most 1", todo="e.g. --share 0.25")
    stride = round(share**-0.5)
    if stride == 1 and abs(share - 1) <= EXACT:
        return "all"
    return f"grid:{stride}" if abs(share * stride**2 - 1) <= EXACT else f"random:{share:g}"


def write_stack_file(file: StackFile, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a stack file; paths are written as they are.

    A stack that was read keeps its comments, quotes and order of keys. A new one gets comments that say what each key
    means.
    """
    path, yaml = Path(path), round_trip()
    document = yaml.load(_HEAD.format(name=path.name)) if file.document is None else deepcopy(file.document)
    _put(document, "sample", file.sample)
    _put(document, "spacing_um", file.spacing_um)
    if file.document is None:
        document["sections"] = [dict.fromkeys(("name", "source", "measured"), "") for _ in file.sections]
    for entry, node in zip(file.sections, document["sections"], strict=True):
        for key in ("name", "source", "measured", "z_um"):
            _put(node, key, getattr(entry, key), getattr(StackEntry, key))
    with writing(path, overwrite=overwrite) as scratch, scratch.open("w", encoding="utf-8") as stream:
        yaml.dump(document, stream)
    return path


def _put(node: Any, key: str, value: str | float | None, default: object = None) -> None:
    """Set a key, unless it or its absence says that already; in quotes where YAML 1.1 would read no text."""
    from ruamel.yaml.scalarstring import SingleQuotedScalarString

    if value == node.get(key, default) or (key in node and str(node[key]) == value):
        return
    if isinstance(value, str):
        node[key] = value if _is_plain(value) else SingleQuotedScalarString(value)
    elif value is not None:
        node[key] = int(value) if float(value).is_integer() else value


def _is_plain(text: str) -> bool:
    import yaml

    return str(yaml.safe_dump(text, allow_unicode=True, width=math.inf)).startswith(text)


def _check_entries(file: StackFile) -> None:
    lines, seen = file.lines, dict[str, int]()
    for i, entry in enumerate(file.sections):
        for key in ("name", "source", "measured"):
            if not getattr(entry, key):
                raise ConfigError(
                    f"section {i + 1} has no {key}", where=lines.where("sections", i, key), todo=f"write {key}: ..."
                )
        if entry.name.startswith(".") or {"/", "\\", "\0"} & set(entry.name):
            raise ConfigError(
                f"'{entry.name}' can not be the name of a file",
                where=lines.where("sections", i, "name"),
                todo="leave out slashes, and a dot in front",
            )
        if entry.name in seen:
            raise ConfigError(
                f"two sections are called '{entry.name}' (sections {seen[entry.name] + 1} and {i + 1})",
                where=lines.where("sections", i, "name"),
                todo="give each section a name of its own",
            )
        seen[entry.name] = i
    depths = file.z_um
    for i, (above, below) in enumerate(pairwise(depths), start=1):
        if not (math.isfinite(above) and math.isfinite(below) and below > above):
            raise ConfigError(
                f"section '{file.sections[i].name}' lies at {below:g} µm, not below '{file.sections[i - 1].name}' at"
                f" {above:g} µm",
                where=lines.where("sections", i, "z_um"),
                todo="put the sections in order of depth, and give z_um that grows",
            )


def _require_positive(spacing: float, where: str | None) -> None:
    if not (math.isfinite(spacing) and spacing > 0):
        raise UnitsError(
            f"the spacing of the sections is {spacing!r} µm, expected a positive number",
            where=where,
            todo="write spacing_um: the distance between neighbouring sections, e.g. 16",
        )


def _relocate(path: Path, base: Path, folder: Path) -> Path:
    """Return a path that is relative to ``base`` as seen from ``folder``; an absolute one stays as it is.

    Links in the path are kept as the user wrote them; those in the folders are followed, since ``..`` follows them.
    """
    if path.is_absolute():
        return path
    return Path(os.path.relpath(base.resolve() / path, folder.resolve()))
