"""Publishing: a verified folder becomes one commit of a Hub repository, and what landed is compared with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stzoo.core.errors import WeightsError
from stzoo.core.runtime.digests import git_digest_of, sha256_of
from stzoo.core.weights.manifest import MANIFEST
from stzoo.zoo.hub import HubAddress, explaining, parse


@dataclass(frozen=True)
class Pushed:
    """What was, or would be, published.

    Parameters
    ----------
    address
        Of the commit; of the branch in a dry run.
    files
        Bytes of every file.
    """

    address: HubAddress
    files: dict[str, int]


def push(folder: Path, repo: str, *, private: bool = False, dry_run: bool = False, message: str = "") -> Pushed:
    """Publish a repository folder on the Hub as ``owner/repo``, which is made if it is not there.

    The new commit holds exactly the files of the folder: what an earlier one had beside them is removed, and stays in
    the history.

    Parameters
    ----------
    private
        Make the repository private, if it is made.
    dry_run
        Verify and list, and ask the Hub nothing.

    Raises
    ------
    WeightsError
        The folder does not verify, the Hub refuses it, or something else landed than was sent.
    """
    from stzoo.core.weights.repository import verify

    folder = Path(folder)
    names = [*verify(folder), MANIFEST]
    files = {name: (folder / name).stat().st_size for name in sorted(names)}
    to = parse(f"hf://{repo.removeprefix('hf://')}")
    if dry_run:
        return Pushed(to, files)
    with explaining(to, writing=True):
        from huggingface_hub import HfApi

        api = HfApi(library_name="stzoo")
        api.create_repo(to.repo, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=to.repo,
            folder_path=folder,
            revision=to.revision,
            allow_patterns=list(files),
            delete_patterns="*",
            commit_message=message or "Weights from stzoo zoo push",
        )
        there = HubAddress(to.repo, str(commit.oid))
        landed = {entry.path: entry for entry in api.list_repo_tree(there.repo, revision=there.revision)}
    for name in files:
        _compare(folder / name, landed.get(name), there)
    if foreign := set(landed) - set(files) - {".gitattributes"}:
        raise WeightsError(
            f"the commit also holds '{min(foreign)}'", where=str(there), todo="remove it, and push again"
        )
    return Pushed(there, files)


def _compare(path: Path, landed: object, there: HubAddress) -> None:
    """Refuse a file that did not land as it was sent: sha256 of large files, git's digest of the others."""
    large = getattr(landed, "lfs", None)
    own, theirs = (git_digest_of, getattr(landed, "blob_id", "")) if large is None else (sha256_of, large.sha256)
    if own(path) != theirs:
        raise WeightsError(
            f"'{path.name}' did not land as it was sent",
            where=str(there),
            todo="push again; nobody should load this commit",
        )
