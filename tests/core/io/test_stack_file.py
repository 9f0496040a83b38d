"""Stack files: what they say, how they move, and the line that every error names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pytest
import stzoo
from stack_layouts import YAML, stack_folder
from stzoo.core.errors import StzooError
from stzoo.core.io.read import read
from stzoo.core.io.read_stack import open_stack
from stzoo.core.io.stack_file import load_stack_file, new_stack_file, share_rule, write_stack_file


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stack_folder(tmp_path_factory.mktemp("stack"))


def test_a_stack_has_masks_depths_and_nothing_of_hidden_spots(stack: Path) -> None:
    found = stzoo.read_stack(stack)
    assert [section.name for section in found.sections] == ["A", "B", "C"]
    assert found.z_um == (0.0, 20.0, 40.0)
    assert found.transforms == (None, None, None)
    for section, whole in zip(found.sections, "ABC", strict=True):
        source = read(f"{stack.parent / 'data'}::{whole}")
        rows, columns = source.adata.obs["array_row"], source.adata.obs["array_col"]
        phase = {"A": (rows % 2 == 0) & (columns % 2 == 0), "B": rows >= 0, "C": (rows % 2 == 1) & (columns % 2 == 1)}
        assert np.array_equal(section.adata.obs["measured"], phase[whole])
        assert np.array_equal(section.counts()[section.measured], source.counts()[section.measured])
        if whole != "B":
            assert np.isnan(section.adata.X[~section.measured]).all()
            assert "region" not in section.adata.obs


def test_a_gap_is_a_depth_and_the_sections_below_count_on(stack: Path) -> None:
    text = YAML.replace("source: data::B", "source: data::B\n    z_um: 60")
    file = stack.with_name("gap.yaml")
    file.write_text(text)
    assert stzoo.read_stack(file).z_um == (0.0, 60.0, 80.0)


WRONG = {  # what is replaced, by what, the line, words of the message
    "unknown key": ("    source: data::A", "    sorce: data::A", 5, "unknown key 'sorce' of StackEntry; did you mean"),
    "unknown key above": ("spacing_um: 20", "spacing: 20", 2, "did you mean 'spacing_um'?"),
    "key twice": ("    measured: all", "    measured: all\n    measured: grid:2", 10, "stands twice, on line 9"),
    "spacing of zero": ("spacing_um: 20", "spacing_um: 0", 2, "expected a positive number"),
    "spacing that is none": ("spacing_um: 20", "spacing_um: wide", 2, "wide"),
    "no source": ("    source: data::B\n", "", 7, "section 2 has no source"),
    "empty name": ("name: B", "name: ''", 7, "section 2 has no name"),
    "name used twice": ("name: C", "name: A", 10, "two sections are called 'A' (sections 1 and 3)"),
    "name with a slash": ("name: C", "name: a/b", 10, "can not be the name of a file"),
    "depth that does not grow": ("measured: all", "measured: all\n    z_um: -3", 10, "lies at -3 µm"),
    "depth that is none": ("measured: all", "measured: all\n    z_um: deep", 10, "deep"),
    "rule that is none": ("grid:2+1,1", "grid:x", 12, "'grid:x' is not a rule"),
    "rule of an unknown kind": ("measured: all", "measured: gird:2", 9, "use all, grid:2"),
    "rule that leaves nothing": ("grid:2+1,1", "grid:99+98,98", 12, "leaves no spot of 'C' measured"),
    "column that is not there": ("grid:2+1,1", "obs:seen", 12, "no obs column 'seen'"),
    "list that is not there": ("grid:2+1,1", "file:none.txt", 12, "none.txt"),
    "missing data": ("data::B", "dtaa::B", 8, "no such file or folder"),
    "missing section": ("data::B", "data::BB", 8, "no section 'BB'"),
    "one section": (YAML[YAML.index("  - name: B") :], "", 3, "at least two sections"),
    "sections that are none": (YAML[YAML.index("sections:") :], "sections: 3", 3, "at least two sections"),
    "no YAML": ("sample: tissue", "sample: [tissue", 2, "not readable as YAML"),
    "a reference in a section": ("name: C", "name: ${x}", 10, "references are not read"),
    "a reference": ("sample: tissue", "sample: ${oc.env:HOME}", 1, "references are not read"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_an_error_names_the_line_and_what_to_do(stack: Path, name: str) -> None:
    old, new, line, words = WRONG[name]
    assert YAML.count(old) == 1
    file = stack.with_name("wrong.yaml")
    file.write_text(YAML.replace(old, new))
    with pytest.raises(StzooError) as caught:
        stzoo.read_stack(file)
    message = str(caught.value)
    assert f"wrong.yaml, line {line}" in message
    assert words in message
    assert caught.value.todo or name == "no YAML"


def changed(stack: Path, change: Callable[[anndata.AnnData], None]) -> Path:
    """Write section B anew as ``other.h5ad``, and a stack file that names it."""
    adata = anndata.read_h5ad(stack.parent / "data" / "B.h5ad")
    change(adata)
    adata.write_h5ad(stack.parent / "other.h5ad")
    file = stack.with_name("other.yaml")
    file.write_text(YAML.replace("data::B", "other.h5ad"))
    return file


def test_sections_without_shared_genes(stack: Path) -> None:
    file = changed(stack, lambda adata: setattr(adata, "var_names", [f"ENSG{i:011d}" for i in range(adata.n_vars)]))
    with pytest.raises(StzooError, match=r"section 'B' shares no gene(.|\n)*other.yaml, line 8(.|\n)*one kind of name"):
        stzoo.read_stack(file)


def test_a_section_without_a_scale(stack: Path) -> None:
    def unscaled(adata: anndata.AnnData) -> None:
        del adata.uns["stzoo_section"], adata.obs["array_row"]

    file = changed(stack, unscaled)
    with pytest.raises(StzooError, match=r"no µm/px(.|\n)*other.yaml, line 8(.|\n)*stzoo data convert"):
        stzoo.read_stack(file)


def test_a_stack_without_a_whole_section_is_refused_where_one_is_needed(stack: Path) -> None:
    file = stack.with_name("sparse.yaml")
    file.write_text(YAML.replace("measured: all", "measured: random:0.5"))
    opened = open_stack(load_stack_file(file))
    with pytest.raises(StzooError, match=r"no section of the stack is measured(.|\n)*sparse.yaml, line 3"):
        opened.require_whole()
    open_stack(load_stack_file(stack)).require_whole()


def test_a_missing_stack_file(tmp_path: Path) -> None:
    with pytest.raises(StzooError, match="no such file"):
        stzoo.read_stack(tmp_path / "none.yaml")


def test_a_new_file_is_read_as_it_was_written(stack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(stack.parent)
    path = Path("made") / "s.yaml"
    made = new_stack_file("data", path, spacing_um=12.5)
    write_stack_file(made, path)
    back = load_stack_file(path)
    assert back.sections == made.sections
    assert (back.sample, back.spacing_um) == ("data", 12.5)
    assert [entry.measured for entry in back.sections] == ["grid:2", "all", "grid:2"]
    assert [entry.source for entry in back.sections] == [f"../data::{name}" for name in "ABC"]
    monkeypatch.chdir(path.parent)  # paths are relative to the file, wherever one stands
    assert stzoo.read_stack("s.yaml").z_um == (0.0, 12.5, 25.0)


def test_what_is_chosen_for_a_new_file(stack: Path) -> None:
    data = stack.parent / "data"
    made = new_stack_file(data, "s.yaml", spacing_um=10, names=["C", "A"], central="A", share=0.4)
    assert [(e.name, e.measured) for e in made.sections] == [("C", "random:0.4"), ("A", "all")]
    for wrong in ({"names": ["D", "A"]}, {"central": "D"}, {"share": 0.0}, {"spacing_um": -1}, {"names": ["A"]}):
        with pytest.raises(StzooError):
            new_stack_file(data, "s.yaml", **{"spacing_um": 10, **wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize(("share", "rule"), [(1, "all"), (0.25, "grid:2"), (1 / 9, "grid:3"), (0.1, "random:0.1")])
def test_a_share_is_a_rule(share: float, rule: str) -> None:
    assert share_rule(share) == rule
