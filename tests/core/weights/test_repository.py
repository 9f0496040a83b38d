"""The repository format: what is written comes back bit-equal, and whatever else is there is refused."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import struct
import zipfile

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from stzoo.core.errors import OutputError, WeightsError
from stzoo.core.weights.manifest import DamagedError, verify, write_manifest
from stzoo.core.weights.repository import (
    FORMAT_VERSION,
    MIGRATIONS,
    empty,
    open_repository,
    restore_module,
    write_repository,
)

FILES = ["config.json", "model.safetensors", "README.md", "tokenizer.json"]
TENSORS = {
    "a.weight": torch.arange(6, dtype=torch.float16).reshape(2, 3),
    "a.bias": torch.tensor([1.5, -2.0], dtype=torch.float16),
    "steps": torch.tensor(7),
}


def make(folder, **changes):
    values = {
        "method": "toy",
        "config": {"width": 3, "name": "größe"},
        "description": {"genes": ["A", "B"], "mpp": 0.5},
        "tensors": TENSORS,
        "assets": {"tokenizer.json": b'{"version": 1}'},
        "card": "# Toy\n",
    }
    return write_repository(folder, **(values | changes))


@pytest.fixture
def repository(tmp_path):
    return make(tmp_path / "toy-tiny")


def reseal(folder):
    """Write a manifest that fits the files again, as a careless or evil publisher would."""
    (folder / "MANIFEST.json").unlink()
    write_manifest(folder)


def edit_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_what_was_written_comes_back(repository):
    with open_repository(repository) as opened:
        tensors = opened.tensors()
        assert (opened.method, opened.dtype, opened.format_version) == ("toy", "float16", 1)
        assert opened.config == {"width": 3, "name": "größe"}
        assert opened.description == {"genes": ["A", "B"], "mpp": 0.5}
        assert opened.assets() == {"tokenizer.json": b'{"version": 1}'}
        assert opened.sha256 == hashlib.sha256((repository / "model.safetensors").read_bytes()).hexdigest()
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)
    assert sorted(verify(repository)) == sorted(FILES)


def test_the_same_model_gives_the_same_bytes(tmp_path):
    first, second = make(tmp_path / "a"), make(tmp_path / "b", tensors=dict(reversed(TENSORS.items())))
    assert verify(first) == verify(second)


def test_whoever_may_read_one_file_may_read_all(repository):
    assert len({path.stat().st_mode for path in repository.iterdir()}) == 1


def test_a_model_without_tensors_is_a_repository_too(tmp_path):
    with open_repository(make(tmp_path / "none", tensors={})) as opened:
        assert (opened.tensors(), opened.dtype) == ({}, "none")


def test_tied_and_sliced_tensors_are_stored_whole(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {"one": base, "two": base, "slice": base[1:, ::2], "turned": base.T, "double": base.double()}
    with open_repository(make(tmp_path / "tied", tensors=tensors)) as opened:
        assert opened.dtype == "mixed"
        assert all(torch.equal(found, tensors[name]) for name, found in opened.tensors().items())
    assert (tmp_path / "tied" / "model.safetensors").stat().st_size < 1200


# What a user may find on a disk or download: (how to break it, what the message has to say).
def flip(folder):
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])


def swap(folder):
    other = make(folder.parent / "other", tensors={k: v + 1 for k, v in TENSORS.items()})
    shutil.copy(other / "model.safetensors", folder / "model.safetensors")


def pickled(folder):
    (folder / "model.safetensors").write_bytes(pickle.dumps({"a": 1}))
    reseal(folder)


def torch_saved(folder):
    torch.save(TENSORS, folder / "model.safetensors")
    reseal(folder)


def zipped_asset(folder):
    with zipfile.ZipFile(folder / "words.txt", "w") as archive:
        archive.writestr("data.pkl", pickle.dumps({}))
    reseal(folder)


def pickled_asset(folder):
    (folder / "words.txt").write_bytes(pickle.dumps({}, protocol=4))
    reseal(folder)


def huge_header(folder):
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", 30_000_000) + b"{")
        file.truncate(40_000_000)
    reseal(folder)


def lying_header(folder):
    header = json.dumps({"a": {"dtype": "F32", "shape": [400], "data_offsets": [0, 1600]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 16)
    reseal(folder)


def header_past_the_end(folder):
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 1000) + b"{}")
    reseal(folder)


def other_dtype(folder):
    save_file({k: v.float() if v.is_floating_point() else v for k, v in TENSORS.items()}, folder / "model.safetensors")
    reseal(folder)


def traverse(name):
    def change(folder):
        (folder.parent / "outside.json").write_text("{}")
        digest = hashlib.sha256(b"{}").hexdigest()
        edit_json(folder / "MANIFEST.json", lambda c: c["files"].update({name: {"bytes": 2, "sha256": digest}}))

    return change


def link(folder):
    (folder / "config.json").rename(folder.parent / "elsewhere.json")
    (folder / "config.json").symlink_to(folder.parent / "elsewhere.json")


def link_of_manifest(folder):
    (folder / "MANIFEST.json").rename(folder.parent / "elsewhere.json")
    (folder / "MANIFEST.json").symlink_to(folder.parent / "elsewhere.json")


def config(**changes):
    def change(folder):
        edit_json(folder / "config.json", lambda c: c.update(changes))
        reseal(folder)

    return change


def manifest(change):
    return lambda folder: edit_json(folder / "MANIFEST.json", change)


def text(name, content, seal=True):
    def change(folder):
        (folder / name).write_bytes(content)
        if seal:
            reseal(folder)

    return change


FAULTS = {
    "one flipped byte of the same length": (flip, "model.safetensors is not the file that was published"),
    "truncated file": (truncate, "bytes, expected"),
    "swapped file": (swap, "sha256 differs"),
    "missing tensors": (lambda f: (f / "model.safetensors").unlink(), "'model.safetensors' is missing"),
    "missing config": (lambda f: (f / "config.json").unlink(), "'config.json' is missing"),
    "missing manifest": (lambda f: (f / "MANIFEST.json").unlink(), "no MANIFEST.json"),
    "pickle in place of safetensors": (pickled, "is a pickle or an archive"),
    "torch.save in place of safetensors": (torch_saved, "is a pickle or an archive"),
    "pickle by name": (text("pytorch_model.bin", b"x", seal=False), "'pytorch_model.bin' looks like a pickle"),
    "pickle by name, listed": (text("extra.PKL", b"x"), "looks like a pickle"),
    "pickle as a text asset": (pickled_asset, "words.txt is a pickle or an archive"),
    "archive as a text asset": (zipped_asset, "words.txt is a pickle or an archive"),
    "code, listed": (text("modeling.py", b"print()"), "'modeling.py', which no repository may hold"),
    "huge header": (huge_header, "the header has 30000000 bytes"),
    "header past the end": (header_past_the_end, "not a safetensors file, or a truncated one"),
    "header that lies": (lying_header, "not a readable safetensors file"),
    "empty tensors file": (text("model.safetensors", b""), "not a safetensors file"),
    "another dtype": (other_dtype, "the tensors are float32, config.json says float16"),
    "foreign file": (text("notes.txt", b"hi", seal=False), "foreign file 'notes.txt'"),
    "hidden file": (text(".hidden.json", b"{}", seal=False), "foreign file '.hidden.json'"),
    "folder": (lambda f: (f / "sub").mkdir(), "'sub' is a folder"),
    "link": (link, "'config.json' is a link"),
    "link of the manifest": (link_of_manifest, "'MANIFEST.json' is a link"),
    "pipe": (lambda f: os.mkfifo(f / "pipe.json"), "'pipe.json' is no regular file"),
    "parent folder in a name": (traverse("../outside.json"), "which no repository may hold"),
    "absolute name": (traverse("/etc/outside.json"), "which no repository may hold"),
    "folder in a name": (traverse("sub/outside.json"), "which no repository may hold"),
    "backslash in a name": (traverse("..\\outside.json"), "which no repository may hold"),
    "drive in a name": (traverse("C:outside.json"), "which no repository may hold"),
    "zero byte in a name": (traverse("out\0side.json"), "which no repository may hold"),
    "the manifest lists itself": (traverse("MANIFEST.json"), "which no repository may hold"),
    "manifest is no JSON": (text("MANIFEST.json", b"{", seal=False), "not readable as JSON"),
    "manifest is a list": (text("MANIFEST.json", b"[]", seal=False), "expected a JSON object"),
    "manifest without files": (text("MANIFEST.json", b"{}", seal=False), "lists no files"),
    "manifest nested without end": (text("MANIFEST.json", b"[" * 200_000, seal=False), "not readable as JSON"),
    "manifest with a key twice": (
        text("MANIFEST.json", b'{"files": {}, "files": {}}', seal=False),
        "the key 'files' stands twice",
    ),
    "entry without digest": (manifest(lambda c: c["files"]["README.md"].pop("sha256")), "entry of 'README.md'"),
    "entry with a short digest": (manifest(lambda c: c["files"]["README.md"].update(sha256="ab")), "entry of"),
    "entry with a wrong kind of size": (manifest(lambda c: c["files"]["README.md"].update(bytes=True)), "entry of"),
    "config not listed": (manifest(lambda c: c["files"].pop("config.json")), "the manifest has no 'config.json'"),
    "newer format version": (config(format_version=99), "format version 99, this stzoo reads 1"),
    "format version that is true": (config(format_version=True), "format version True"),
    "format version that is text": (config(format_version="1"), "format version '1'"),
    "unknown key": (config(desription={}), "unknown key 'desription'; did you mean 'description'"),
    "method that is no text": (config(method=["x"]), "'method' is missing or not a str"),
    "config that is no mapping": (config(config=None), "'config' is missing or not a dict"),
    "config that is not UTF-8": (text("config.json", b"\xff\xfe"), "not readable as JSON"),
    "config with NaN": (text("config.json", b'{"format_version": NaN}'), "NaN is not JSON"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_detected_before_a_tensor_is_used(repository, fault):
    change, message = FAULTS[fault]
    change(repository)
    with pytest.raises(WeightsError) as caught, open_repository(repository) as opened:
        opened.tensors()
    assert message in str(caught.value)
    assert caught.value.where or "remove" in str(caught.value)


def test_what_was_published_broken_does_not_verify(repository):
    lying_header(repository)
    with pytest.raises(DamagedError, match="not a readable safetensors file"):
        verify(repository)


def test_a_newer_format_says_what_to_upgrade(repository):
    config(format_version=2)(repository)
    with pytest.raises(WeightsError, match="pip install --upgrade stzoo"), open_repository(repository):
        pass


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_of_any_file_is_detected(repository, data):
    path = repository / data.draw(st.sampled_from(FILES))
    original = path.read_bytes()
    changed = bytearray(original)
    changed[data.draw(st.integers(0, len(original) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(changed)
    try:
        with pytest.raises(DamagedError):
            verify(repository)
    finally:
        path.write_bytes(original)
    verify(repository)


def test_the_clients_cache_of_links_is_a_repository(tmp_path):
    source = make(tmp_path / "source")
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / ("0" * 40)
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (source / ".gitattributes").write_text("* -text\n")
    for i, path in enumerate(sorted(source.iterdir())):
        path.rename(blobs / str(i))
        (snapshot / path.name).symlink_to(f"../../blobs/{i}")
    assert sorted(verify(snapshot)) == sorted(FILES)
    (snapshot / "README.md").unlink()
    (tmp_path / "card.md").write_text("# Toy\n")
    (snapshot / "README.md").symlink_to(tmp_path / "card.md")
    with pytest.raises(DamagedError, match=r"'README\.md' is a link"):
        verify(snapshot)


def test_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(WeightsError, match="no repository folder"):
            verify(path)


@pytest.mark.parametrize(
    "name",
    ["../a.json", "a/b.json", ".hidden.json", "model.safetensors", "Config.json", "README.md", "code.py", "a.bin", ""],
)
def test_an_asset_with_a_name_that_would_be_refused_is_not_written(tmp_path, name):
    with pytest.raises(WeightsError, match="can not be a file of a repository"):
        make(tmp_path / "new", assets={name: b"x"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, torch.tensor(1.0), b"bytes"])
def test_a_description_that_is_no_json_is_not_written(tmp_path, value):
    with pytest.raises(WeightsError, match="are not JSON"):
        make(tmp_path / "new", description={"value": value})
    assert list(tmp_path.iterdir()) == []


def test_overwriting_needs_to_be_asked_for_and_spares_other_folders(repository, tmp_path):
    with pytest.raises(OutputError, match="exists already"):
        make(repository)
    make(repository, card="# New\n", overwrite=True)
    assert (repository / "README.md").read_text() == "# New\n"
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(OutputError, match="not a repository"):
        make(tmp_path / "thesis", overwrite=True)
    assert (tmp_path / "thesis" / "chapter.txt").exists()


def test_a_module_is_restored_strictly():
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    before = {name: tensor.clone() for name, tensor in state.items()}
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    restore_module(module, half)
    assert module[0].weight.dtype == torch.float32
    wrong = {
        "1 tensors are missing, e.g. '0.bias'": {k: v for k, v in state.items() if k != "0.bias"},
        "1 tensors are not known to the model, e.g. 'extra'": state | {"extra": torch.zeros(1)},
        r"tensor '0.weight' is torch.float32 \(3, 2\), expected torch.float32 \(2, 2\)": state
        | {"0.weight": torch.zeros(3, 2)},
        "tensor '0.weight' is torch.int64": state | {"0.weight": torch.zeros(2, 2, dtype=torch.int64)},
        "tensor '1.num_batches_tracked' is torch.int32": state
        | {"1.num_batches_tracked": torch.tensor(0, dtype=torch.int32)},
    }
    restore_module(module, before)
    for message, given_state in wrong.items():
        with pytest.raises(WeightsError, match=message):
            restore_module(module, given_state)
        assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_what_is_restored_is_the_module_s_own(tmp_path):
    """Tensors are mapped from the file; training them must not write into it."""
    from safetensors.torch import load_file, save_file

    save_file({"weight": torch.ones(4, 3), "bias": torch.zeros(4, dtype=torch.float16)}, tmp_path / "x.safetensors")
    before = (tmp_path / "x.safetensors").read_bytes()
    with empty():
        module = torch.nn.Linear(3, 4)
    restore_module(module, load_file(tmp_path / "x.safetensors"))
    assert module.bias.dtype == torch.float32
    torch.optim.SGD(module.parameters(), lr=1.0).step(lambda: module(torch.ones(2, 3)).sum().backward())
    assert not torch.equal(module.weight, torch.ones(4, 3))
    assert (tmp_path / "x.safetensors").read_bytes() == before


def test_an_older_format_is_migrated_step_by_step(repository, monkeypatch):
    """As a later stzoo will do: here version 2 has notes, and version 3 has none again."""
    monkeypatch.setattr("stzoo.core.weights.repository.FORMAT_VERSION", 3)
    steps = {
        1: lambda content: {**content, "notes": ""},
        2: lambda content: {k: v for k, v in content.items() if k != "notes"} | {"description": {"migrated": True}},
    }
    monkeypatch.setattr("stzoo.core.weights.repository.MIGRATIONS", steps)
    with open_repository(repository) as opened:
        assert (opened.format_version, opened.description) == (1, {"migrated": True})
    config(format_version=0)(repository)
    with pytest.raises(WeightsError, match="format version 0, this stzoo reads 3"), open_repository(repository):
        pass


def test_every_older_format_has_its_migration():
    assert sorted(MIGRATIONS) == list(range(1, FORMAT_VERSION))
