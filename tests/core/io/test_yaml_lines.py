"""Stack files through ruamel.yaml: comments stay, and values mean what they mean to every other YAML file of stzoo."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import yaml
from stack_layouts import stack_folder
from stzoo.cli.main import run
from stzoo.core.errors import ConfigError
from stzoo.core.io.stack_file import StackEntry, StackFile, load_stack_file, write_stack_file
from stzoo.core.io.yaml_lines import Lines, read_yaml_lines

COMMENTED = """\
# Our tissue, cut in March.
sample: "tissue"   # patient 7
spacing_um: 20.0
sections:
  # the upper one
  - name: 'A'
    source: data::A    # rescanned
    measured: grid:2
  - {name: B, measured: all, source: data::B}
  - name: C  # torn

    source: data::C
    z_um: 45
# the end
"""


def test_comments_survive_a_design(tmp_path):
    file = stack_folder(tmp_path, COMMENTED)
    assert run(["design", str(file), "--share", "0.25", "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "stack.yaml").read_text()
    want = COMMENTED.replace("data::", "../data::").replace("grid:2", "file:A.txt")
    want += "    measured: file:C.txt\n"
    assert [line.split() for line in text.splitlines()] == [line.split() for line in want.splitlines()]
    before, after = load_stack_file(file), load_stack_file(tmp_path / "out" / "stack.yaml")
    assert [entry.name for entry in after.sections] == ["A", "B", "C"]
    assert after.z_um == before.z_um == (0.0, 20.0, 45.0)


def test_a_file_that_is_written_as_it_was_read_does_not_change(tmp_path):
    file = stack_folder(tmp_path, COMMENTED)
    found = load_stack_file(file)
    write_stack_file(found, tmp_path / "again.yaml")
    again = (tmp_path / "again.yaml").read_text()
    assert yaml.safe_load(again) == yaml.safe_load(COMMENTED)
    assert again == COMMENTED


# fmt: off
NAMES = [
    "on", "off", "yes", "no", "Y", "n", "y", "true", "null", "~", "12", "012", "0o14", "0x1f", "0b11", "1_000", "1.5",
    "1:30", "1e3", "1.0e+3", "2024-01-01", "=", "<", "naïve", "µ", "-x", "?", "a: b", "a #b", " a ", "'", '"', "{a}",
    "[a]", "*a", "&a", "!a", "%a", "@a",
]
# fmt: on


def test_any_name_comes_back_as_it_was(tmp_path):
    entries = tuple(StackEntry(name, f"data::{name}", "all") for name in NAMES)
    made = StackFile("yes", 12.5, entries, Lines(tmp_path / "s.yaml"))
    write_stack_file(made, tmp_path / "s.yaml")
    back = load_stack_file(tmp_path / "s.yaml")
    assert (back.sample, back.spacing_um, back.sections) == ("yes", 12.5, entries)
    write_stack_file(back, tmp_path / "t.yaml")
    assert (tmp_path / "t.yaml").read_bytes() == (tmp_path / "s.yaml").read_bytes().replace(
        b"check s.yaml", b"check s.yaml"
    )
    other = replace(back, sections=tuple(replace(one, measured=name) for one, name in zip(entries, NAMES, strict=True)))
    write_stack_file(other, tmp_path / "u.yaml")
    assert load_stack_file(tmp_path / "u.yaml").sections == other.sections


@pytest.mark.parametrize(
    "value", ["on", "off", "yes", "no", "y", "true", "012", "0o14", "1_000", "1:30", "1e3", "2024-01-01", "~", "012.5"]
)
def test_a_value_means_what_pyyaml_says(tmp_path, value):
    file = tmp_path / "x.yaml"
    file.write_text(f"a: {value}\n{value}: 1\nb:\n  - measured: {value}\n")
    values, lines = read_yaml_lines(file)
    assert values == yaml.safe_load(file.read_text())
    assert lines.where("a").endswith("line 1")
    assert lines.where("b", 0, "measured").endswith("line 4")


@pytest.mark.parametrize("value", ["on", "y", "true", "012", "1e3", "'012'"])
def test_a_rewritten_file_means_the_same(tmp_path, value):
    text = COMMENTED.replace("name: 'A'", f"name: {value}").replace("measured: grid:2", "measured: true")
    (tmp_path / "s.yaml").write_text(text)
    found = load_stack_file(tmp_path / "s.yaml")
    write_stack_file(found, tmp_path / "t.yaml")
    assert load_stack_file(tmp_path / "t.yaml").sections == found.sections
    other = replace(found, sections=tuple(replace(one, measured="random:0.5") for one in found.sections))
    write_stack_file(other, tmp_path / "t.yaml", overwrite=True)
    assert load_stack_file(tmp_path / "t.yaml").sections == other.sections


def test_keys_that_stand_twice_and_lines_of_anchors_and_merges(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text("base: &b {x: 1}\nlist:\n  - <<: *b\n    y: 2\n  - *b\n")
    values, lines = read_yaml_lines(file)
    assert values["list"] == [{"x": 1, "y": 2}, {"x": 1}]
    assert [lines.where(*key).rpartition(" ")[2] for key in (("list", 0, "y"), ("list", 1), ("gone",))] == [
        "4",
        "1",
        "1",
    ]
    file.write_text("a:\n  b: 1\n  c: 2\n  b: 1\n")
    with pytest.raises(ConfigError, match=r"key 'b' stands twice, on line 2 too(.|\n)*x.yaml, line 4"):
        read_yaml_lines(file)


def test_what_only_pyyaml_reads_is_read_without_lines(tmp_path, monkeypatch):
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    def refuse(self, text):
        raise YAMLError

    monkeypatch.setattr(YAML, "load", refuse)
    file = tmp_path / "x.yaml"
    file.write_text("a: 1\n")
    values, lines = read_yaml_lines(file)
    assert (values, lines.where("a")) == ({"a": 1}, str(file))


def test_ruamel_is_imported_only_where_a_stack_file_is_read():
    code = "import sys, stzoo.core.io.read_stack, stzoo.core.io.stack_file; assert 'ruamel.yaml' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
