"""``stzoo.load`` and its resolver, on a plugin with packaged weights in a temporary folder of ``sys.path``."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import stzoo
import torch
from stzoo.core.errors import ConfigError, PluginError, UnknownNameError, WeightsError
from stzoo.core.model import provenance_of
from stzoo.core.runtime.resources import package_folder
from stzoo.core.weights.manifest import DamagedError, write_manifest
from stzoo.zoo.catalogue import list_weights

GOLDEN = Path(__file__).parent / "golden"


def packaged(toy: Path) -> Path:
    return toy / "toy_plugin" / "weights" / "toy-tiny"


def edit_config(folder: Path, **changes: object) -> None:
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | changes))
    (folder / "MANIFEST.json").unlink()
    write_manifest(folder)


@pytest.mark.parametrize("form", ["name", "qualified", "package", "path", "string", "relative", "uri"])
def test_every_address_loads_the_same_bits(toy, monkeypatch, form):
    folder = packaged(toy)
    monkeypatch.chdir(folder.parent)
    name = {
        "name": "toy-tiny",
        "qualified": "toy-dist:toy-tiny",
        "package": "package://toy_plugin/weights/toy-tiny",
        "path": folder,
        "string": str(folder),
        "relative": "./toy-tiny",
        "uri": folder.as_uri(),
    }[form]
    model = stzoo.load(name)
    fresh = stzoo.model("toy")
    assert type(model).__name__ == "Toy"
    assert torch.equal(model.state()["weight"], stzoo.load("toy-tiny").state()["weight"])
    assert not torch.equal(model.state()["weight"], fresh.state()["weight"])
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    package = form in ("name", "qualified", "package")
    assert model.provenance == {
        "name": "toy-tiny",
        "source": "package://toy_plugin/weights/toy-tiny" if package else "file://toy-tiny",
        "sha256": digest,
        "format_version": 1,
    }
    written = provenance_of(model)
    assert written["weights_sha256"] == digest
    assert str(toy) not in json.dumps(written)


def test_a_saved_model_comes_back_bit_equal(toy, tmp_path):
    model = stzoo.model("toy", {"width": 5}, seed=3)
    model.save(tmp_path / "mine with spaces")
    for address in (tmp_path / "mine with spaces", (tmp_path / "mine with spaces").as_uri()):
        again = stzoo.load(address)
        assert again.config == model.config
        assert all(torch.equal(t, again.state()[k]) for k, t in model.state().items())


def test_a_folder_of_the_working_directory_never_stands_in_for_published_weights(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stzoo.model("toy", {"width": 7}).save("toy-tiny")
    assert stzoo.load("toy-tiny").config.width == 3
    assert stzoo.load("./toy-tiny").config.width == 7
    shutil.move("toy-tiny", "other-name")
    assert stzoo.load("other-name").config.width == 7


def test_weights_of_a_model_that_is_not_installed(toy, tmp_path):
    shutil.copytree(packaged(toy), tmp_path / "copy")
    edit_config(tmp_path / "copy", method="absent-model")
    with pytest.raises(UnknownNameError, match="no model called 'absent-model'"):
        stzoo.load(tmp_path / "copy")


def test_weights_that_are_listed_under_another_model(toy):
    edit_config(packaged(toy), method="other")
    with pytest.raises(WeightsError, match="listed as weights of 'toy', but they belong to 'other'"):
        stzoo.load("toy-tiny")


def test_a_repository_can_not_name_code_to_run(toy, tmp_path):
    shutil.copytree(packaged(toy), tmp_path / "copy")
    edit_config(tmp_path / "copy", method="os:system")
    with pytest.raises(UnknownNameError, match="no model called 'os:system'"):
        stzoo.load(tmp_path / "copy")


@pytest.mark.parametrize(
    ("config", "message"),
    [({"wdth": 3}, "did you mean 'width'"), ({"width": "x"}, "Integer"), ({"width": "${oc.env:HOME}"}, "references")],
)
def test_a_config_that_the_model_does_not_know(toy, config, message):
    edit_config(packaged(toy), config=config)
    with pytest.raises(ConfigError, match=message):
        stzoo.load("toy-tiny")


def test_a_config_of_another_shape_loads_nothing(toy):
    edit_config(packaged(toy), config={"width": 4})
    with pytest.raises(WeightsError, match=r"tensor 'weight' is torch.float32 \(1, 3\), expected .*\(1, 4\)"):
        stzoo.load("toy-tiny")


def test_a_class_loads_only_its_own_weights(toy):
    edit_config(packaged(toy), method="other")
    with pytest.raises(WeightsError, match="these weights belong to 'other', not to 'toy'"):
        type(stzoo.model("toy")).load(packaged(toy))


def test_damaged_weights_are_not_loaded_and_not_removed(toy):
    path = packaged(toy) / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedError, match="sha256 differs"):
        stzoo.load("toy-tiny")
    assert path.exists()


def test_two_distributions_with_one_model_do_not_confuse_their_weights(toy, site):
    text = (toy / "toy_plugin" / "__init__.py").read_text().replace("toy_plugin", "rival_plugin")
    text = text.replace("toy-tiny", "rival-tiny")
    site.install("rival-dist", {"rival": "rival_plugin"}, {"rival_plugin/__init__.py": text})
    assert stzoo.load("toy-tiny").provenance["name"] == "toy-tiny"
    with pytest.raises(PluginError, match="'rival-dist:toy' and 'toy-dist:toy'"):
        stzoo.load(packaged(toy))


def test_links_of_an_editable_install_are_followed(toy, tmp_path):
    real = tmp_path / "real"
    packaged(toy).rename(real)
    packaged(toy).mkdir()
    for path in real.iterdir():
        (packaged(toy) / path.name).symlink_to(path)
    assert stzoo.load("toy-tiny").config.width == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("toy-tny", "no weights called 'toy-tny'; did you mean 'toy-tiny'"),
        ("./absent", "no repository folder at"),
        ("file:///absent/folder", "no repository folder at"),
        ("http://example.org/x", "is no address of weights"),
        ("package://no_such_package_at_all/weights", "no package"),
        ("package://no_such_package_at_all.inner/weights", "no package"),
        ("package:///weights", "no package"),
        ("package://toy_plugin.model/weights", "no package 'toy_plugin.model'"),
        ("package://toy_plugin/../../etc", "is not a folder inside"),
        ("package://toy_plugin", "is not a folder inside"),
        ("package://toy_plugin/weights/absent", "no repository folder at"),
        ("hf://owner", "is not a Hub address"),
        ("hf://owner/repo", "the Hub can not be reached"),
        ("hf://owner/repo@main", "the Hub can not be reached"),
        ("hf://owner/repo@abc1234", "the Hub can not be reached"),
        ("hf://../repo@" + "a" * 40, "is not a Hub address"),
        ("hf://a--b/c..d@" + "a" * 40, "can not be the name of a repository"),
        ("", "no weights called ''"),
    ],
)
def test_an_address_that_leads_nowhere(toy, name, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises((WeightsError, PluginError)) as caught:
        stzoo.load(name)
    assert message in str(caught.value)


def test_package_folder_imports_no_code_of_the_module(site):
    site.install("boom-dist", {}, {"boom_pkg/__init__.py": "raise RuntimeError", "boom_pkg/weights/x.txt": "x"})
    assert package_folder("package://boom_pkg/weights").is_dir()


def test_the_catalogue_says_what_is_here(toy, site):
    text = """
from stzoo import WeightsSpec, hookimpl
@hookimpl
def stzoo_weights():
    return [
        WeightsSpec("far", "toy", "hf://owner/repo@" + "a" * 40, "on the Hub", "MIT", size_bytes=5),
        WeightsSpec("lost", "toy", "package://toy_plugin/weights/lost", "forgotten by its packager", "MIT"),
        WeightsSpec("unpinned", "toy", "hf://owner/repo", "on the Hub, some revision", "MIT"),
    ]
"""
    site.install("far-dist", {"far": "far_plugin"}, {"far_plugin.py": text})
    entries = {entry.spec.name: entry for entry in list_weights() if entry.plugin in ("toy-dist:toy", "far-dist:far")}
    states = {name: entry.state for name, entry in entries.items()}
    assert states == {"far": "remote", "lost": "missing", "toy-tiny": "local", "unpinned": "remote"}
    assert entries["far"].size_bytes == 5
    assert entries["toy-tiny"].size_bytes == sum(p.stat().st_size for p in packaged(toy).iterdir())
    assert json.loads(json.dumps([entry.as_dict() for entry in entries.values()]))[0]["local"] is False


@pytest.mark.parametrize("folder", sorted(GOLDEN.iterdir()), ids=lambda folder: folder.name)
def test_a_golden_repository_of_every_format_version_loads_for_ever(toy, folder):
    model = stzoo.load(folder)
    assert model.config.width == 3
    assert torch.equal(model.state()["weight"], torch.tensor([[0.5, -1.25, 3.0]]))
    assert torch.equal(model.state()["bias"], torch.tensor([2.0]))
    assert model.provenance["format_version"] == int(folder.name.removeprefix("v"))


def test_there_is_a_golden_repository_of_this_format_version():
    from stzoo.core.weights.repository import FORMAT_VERSION

    assert [folder.name for folder in sorted(GOLDEN.iterdir())] == [f"v{i + 1}" for i in range(FORMAT_VERSION)]
    assert all(os.path.getsize(path) < 2000 for path in GOLDEN.rglob("*") if path.is_file())
