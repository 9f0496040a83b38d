"""Weights from the Hub: pinned to a commit, verified before anything is made of them.

The official client downloads, resumes, and finds tokens, mirrors (``HF_ENDPOINT``) and the cache (``HF_HOME``). It does
not check the content of what it downloads: :func:`stzoo.core.weights.manifest.verify` does, on its snapshot.
Checkpoints of others have no manifest; their files are checked against the digests by which the Hub names them.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stzoo.core.errors import WeightsError
from stzoo.core.runtime.digests import git_digest_of, sha256_of
from stzoo.core.weights.manifest import MANIFEST, DamagedError, check_layout

_ADDRESS = re.compile(r"hf://(?P<repo>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>[\w./-]+))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CHECKPOINT = ("*.safetensors", "*.json", "merges.txt")


@dataclass(frozen=True)
class HubAddress:
    """A repository of the Hub and its commit, branch or tag."""

    repo: str
    revision: str = "main"

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit, which can not change."""
        return _COMMIT.fullmatch(self.revision) is not None

    def __str__(self) -> str:
        """Return the address as a user writes it."""
        return f"hf://{self.repo}@{self.revision}"


def parse(address: str) -> HubAddress:
    """Split ``hf://owner/repo[@revision]``; without a revision the branch ``main`` is meant.

    Raises
    ------
    WeightsError
        The address is malformed.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise WeightsError(f"'{address}' is not a Hub address", todo="write hf://owner/repo@COMMIT")
    return HubAddress(match["repo"], match["revision"] or "main")


def parse_address(address: str) -> HubAddress:
    """Split ``hf://owner/repo@COMMIT``.

    Raises
    ------
    WeightsError
        The address is malformed, or names a branch or tag, which can change under the user.
    """
    found = parse(address)
    if not found.pinned:
        named = f"'{found.revision}' is a branch or tag" if "@" in address else "no revision is named"
        raise WeightsError(
            f"{named}; what it points to can change, so results could not be reproduced",
            where=address,
            todo=f"write hf://{found.repo}@ and the 40 hexadecimal digits of a commit, from "
            f"{_page(found.repo)}/commits/main",
        )
    return found


def at_commit(address: HubAddress) -> HubAddress:
    """Ask the Hub which commit a branch or tag stands for now.

    Raises
    ------
    WeightsError
        No such repository or revision, no access, or no network.
    """
    if address.pinned:
        return address
    with explaining(address):
        from huggingface_hub import HfApi

        return HubAddress(
            address.repo, str(HfApi(library_name="stzoo").model_info(address.repo, revision=address.revision).sha)
        )


def is_ours(address: HubAddress) -> bool:
    """Say whether a repository holds weights of stzoo; without a manifest it is a checkpoint of others.

    Raises
    ------
    WeightsError
        As :func:`fetch`.
    """
    if find_cached(str(address)) is not None:
        return True
    return (_download(address, only=[MANIFEST]) / MANIFEST).exists()


def find_cached(address: str) -> Path | None:
    """Return the snapshot of an address when all of it is on this machine; the network is not asked."""
    snapshot = snapshot_folder(parse_address(address))
    try:
        check_layout(snapshot)
    except WeightsError:  # nothing there, or a download that was cut: the client will complete it
        return None
    return snapshot


def snapshot_folder(address: HubAddress) -> Path:
    """Return where the Hub's client keeps a commit."""
    from huggingface_hub import constants

    name = f"models--{address.repo.replace('/', '--')}"
    return Path(constants.HF_HUB_CACHE) / name / "snapshots" / address.revision


def fetch(address: str) -> Path:
    """Return the local snapshot of a Hub address, downloading what is not there; its digests are not checked yet.

    Raises
    ------
    WeightsError
        No such repository or commit, no access, no network, no space, or files that no repository may hold.
    """
    known = find_cached(address)
    if known is not None:
        return known
    snapshot = _download(parse_address(address))
    try:
        check_layout(snapshot)
    except DamagedError:
        forget(snapshot)
        raise
    return snapshot


def fetch_checkpoint(address: str) -> Path:
    """Return the local folder of a checkpoint that others published (CLIP, PLIP, DINO): tensors, configs, tokenizer.

    Downloads safetensors, JSON files and ``merges.txt`` at the top of the repository, nothing else: no pickle, no code.

    Raises
    ------
    WeightsError
        As :func:`fetch`; or the repository has no safetensors, or a file is not the one that was published.
    """
    snapshot = _download(parse_address(address), only=_CHECKPOINT)
    if not any(snapshot.glob("*.safetensors")):
        raise WeightsError(
            "the repository has no safetensors file; pickled weights are never opened",
            where=address,
            todo="look for a commit that adds one among its pull requests, or convert it where you trust it",
        )
    for path in sorted(snapshot.iterdir()):
        if not _is_published(path):
            forget(snapshot)
            raise DamagedError(
                f"{path.name} is not the file that was published (its digest differs)",
                where=address,
                todo="the download is removed: run again",
            )
    return snapshot


def _is_published(path: Path) -> bool:
    """Say whether a file of a snapshot has the digest by which the Hub names it: sha256, or git's for small files.

    The client's cache keeps it under that name; where it holds copies instead of links, there is nothing to compare.
    """
    name = path.resolve().name
    if not path.is_symlink() or not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", name):
        return True
    return name == (sha256_of(path) if len(name) == 64 else git_digest_of(path))


def _download(address: HubAddress, *, only: Sequence[str] | None = None) -> Path:
    with explaining(address):
        from huggingface_hub import constants, snapshot_download

        folders = None if only is None else "*/*"
        patterns = None if only is None else list(only)
        return Path(
            snapshot_download(
                address.repo,
                revision=address.revision,
                library_name="stzoo",
                allow_patterns=patterns,
                ignore_patterns=folders,
                etag_timeout=constants.HF_HUB_ETAG_TIMEOUT,  # of the list of files as well
            )
        )


@contextmanager
def explaining(address: HubAddress, *, writing: bool = False) -> Iterator[None]:
    """Turn what the Hub's client raises into one message with the next step.

    Parameters
    ----------
    writing
        The client publishes rather than reads.

    Raises
    ------
    WeightsError
        No such repository or revision, no access, no network, no space.
    """
    from huggingface_hub.errors import HFValidationError, HTTPError  # type: ignore[attr-defined]

    try:
        yield
    except HFValidationError as error:
        raise WeightsError(
            f"'{address.repo}' can not be the name of a repository", where=str(address), todo=str(error)
        ) from error
    except (HTTPError, OSError) as error:
        raise _explain(error, address, writing=writing) from error


def _explain(error: Exception, at: HubAddress, *, writing: bool) -> WeightsError:
    """Say what an error of the Hub's client means and what to do next."""
    from huggingface_hub import errors
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    repo, address = at.repo, str(at)
    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, errors.HfHubHTTPError):
        error = error.__cause__  # the Hub did answer; that nothing is cached either is not the point
    if isinstance(error, errors.GatedRepoError):
        todo = "ask for access on that page, then run 'hf auth login'"
        return WeightsError("the repository is gated", where=_page(repo), todo=todo)
    if isinstance(error, errors.RevisionNotFoundError):
        what = "commit" if at.pinned else "branch or tag"
        return WeightsError(f"no {what} {at.revision}", where=address, todo=f"see {_page(repo)}/commits/main")
    status = getattr(getattr(error, "response", None), "status_code", None)
    if writing and status in (401, 403):
        todo = "run 'hf auth login' with a token that may write, and check that the owner is you or your organisation"
        return WeightsError("the Hub lets this account not write there", where=_page(repo), todo=todo)
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403):
        todo = "check the name; for a private repository run 'hf auth login' with a token that may read it"
        return WeightsError("no such repository, or it is private", where=address, todo=todo)
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        todo = "go online once (and unset HF_HUB_OFFLINE), or copy the repository folder here and load that"
        return WeightsError("not on this machine, and the Hub can not be reached", where=address, todo=todo)
    if isinstance(error, errors.HfHubHTTPError | HTTPError):
        what = f"the Hub answered {status}" if status else f"the Hub can not be reached ({_first_line(error)})"
        todo = "later" if status else "when the network, HF_ENDPOINT and the proxy are right"
        return WeightsError(what, where=address, todo=f"run again {todo}: what is there already is kept")
    where, reason = getattr(error, "filename", None), getattr(error, "strerror", None) or error
    todo = "free some space, or set HF_HOME to a disk that you may write to"
    return WeightsError(f"the cache of the Hub's client can not be written: {reason}", where=where, todo=todo)


def remove(address: HubAddress) -> int:
    """Remove a commit from the cache of the Hub's client; what other commits share stays. Return the bytes freed.

    Raises
    ------
    WeightsError
        It is not there.
    """
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        strategy = scan_cache_dir().delete_revisions(address.revision)
    except CacheNotFound:
        strategy = None
    if strategy is None or not strategy.expected_freed_size:
        raise WeightsError("not on this machine, so there is nothing to remove", where=str(address))
    strategy.execute()
    return int(strategy.expected_freed_size)


def forget(snapshot: Path) -> None:
    """Remove a snapshot and the files it links to, so that they are downloaded again."""
    blobs = snapshot.resolve().parent.parent / "blobs"
    for path in snapshot.rglob("*"):
        if path.is_symlink() and path.resolve().parent == blobs:
            path.resolve().unlink(missing_ok=True)
    shutil.rmtree(snapshot, ignore_errors=True)


def _page(repo: str) -> str:
    return f"{os.environ.get('HF_ENDPOINT', 'https://huggingface.co').rstrip('/')}/{repo}"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
