"""Digests of files are those of sha256sum and of git."""

from __future__ import annotations

import hashlib

import pytest
from stzoo.core.runtime.digests import git_digest_of, sha256_of


@pytest.mark.parametrize(
    ("content", "git"),
    [
        (b"", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),  # git hash-object
        (b"hello\n", "ce013625030ba8dba906f756967f9e9ca394464a"),
    ],
)
def test_digests_of_git_and_sha256(tmp_path, content, git):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert git_digest_of(path) == git
    assert sha256_of(path) == hashlib.sha256(content).hexdigest()


def test_a_file_larger_than_a_piece(tmp_path):
    content = bytes(range(256)) * 5000
    (tmp_path / "large").write_bytes(content)
    assert sha256_of(tmp_path / "large") == hashlib.sha256(content).hexdigest()
    header = b"blob %d\0" % len(content)
    assert git_digest_of(tmp_path / "large") == hashlib.sha1(header + content).hexdigest()
