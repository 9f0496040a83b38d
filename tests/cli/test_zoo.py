from __future__ import annotations

import pytest


def weights(toy):
    return toy / "toy_plugin" / "weights" / "toy-tiny"


def test_list(stzoo, toy):
    shown = stzoo("zoo", "list")
    (line,) = [line for line in shown.out.splitlines() if line.startswith("toy-tiny")]
    assert shown.code == 0
    for text in ("toy", "MB", "MIT", "local", "an offset of two"):
        assert text in line
    (entry,) = [e for e in stzoo("zoo", "list", "--json").json() if e["name"] == "toy-tiny"]
    assert (entry["model"], entry["plugin"], entry["state"], entry["local"]) == ("toy", "toy-dist:toy", "local", True)
    assert entry["source"] == "package://toy_plugin/weights/toy-tiny"


def test_info_shows_facts_and_card(stzoo, toy):
    shown = stzoo("zoo", "info", "toy-tiny")
    assert shown.code == 0
    for text in ("source:         package://toy_plugin/weights/toy-tiny", "dtype:          float32", "# Toy"):
        assert text in shown.out
    facts = stzoo("zoo", "info", "toy-tiny", "--json").json()
    assert (facts["model"], facts["format_version"], facts["config"]) == ("toy", 1, {"width": 3})
    assert len(facts["sha256"]) == 64


@pytest.mark.parametrize("how", ["name", "folder"])
def test_verify(stzoo, toy, how):
    name = "toy-tiny" if how == "name" else weights(toy)
    good = stzoo("zoo", "verify", name)
    assert good.code == 0
    assert sorted(line.split()[-1] for line in good.out.splitlines()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "words.txt",
    ]
    (weights(toy) / "README.md").write_text("# Tot\n")
    bad = stzoo("zoo", "verify", name)
    assert (bad.code, bad.out) == (1, "")
    assert "README.md is not the file that was published (sha256 differs)" in bad.err
    assert stzoo("zoo", "info", name).code == 1


def test_unknown_weights(stzoo, toy):
    bad = stzoo("zoo", "verify", "toy-tny")
    assert bad.code == 2
    assert "no weights called 'toy-tny'; did you mean 'toy-tiny'?" in bad.err
    assert "see 'stzoo zoo list'" in bad.err
    assert stzoo("zoo", "verify", "hf://owner/repo@main").code == 1


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ([], True),
        (["--role", "imputer"], True),
        (["--role", "aligner"], False),
        (["--license", "mit"], True),
        (["--license", "GPL-3.0"], False),
        (["--tissue", "brain"], False),
        (["--commercial"], False),  # nothing is said of it
        (["--max-mb", "1"], True),
        (["--max-mb", "0.0001"], False),
        (["--local"], True),
    ],
)
def test_list_filters(stzoo, toy, options, shown):
    names = [entry["name"] for entry in stzoo("zoo", "list", "--json", *options).json()]
    assert ("toy-tiny" in names) is shown


def test_list_knows_the_roles(stzoo, toy):
    bad = stzoo("zoo", "list", "--role", "encodr")
    assert bad.code == 2
    assert "did you mean 'encoder'" in bad.err


def test_info_shows_what_the_catalogue_says(stzoo):
    shown = stzoo("zoo", "info", "comtip-tiny")
    assert "tissue:         breast" in shown.out
    assert "her2st-c5, mlp: mean PCC of 250 genes: 0." in shown.out
