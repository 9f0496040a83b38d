"""Weights from the Hub: pinned to a commit, verified before anything is made of them.

The official client downloads, resumes, and finds tokens, mirrors (``HF_ENDPOINT``) and the cache (``HF_HOME``). It does
not check the content of what it downloads: :func:`stzoo.core.manifest.verify` does, on the snapshot in its cache.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from stzoo.core.errors import WeightsError
from stzoo.core.manifest import DamagedError, check_layout

_ADDRESS = re.compile(r"hf://(?P<repo>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>[\w./-]+))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


def parse(address: str) -> tuple[str, str]:
    """Split ``hf://owner/repo@COMMIT`` into repository and commit.

    Raises
    ------
    WeightsError
        The address is malformed, or names a branch or tag, which can change under the user.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise WeightsError(f"'{address}' is not a Hub address", todo="write hf://owner/repo@COMMIT")
    repo, revision = match["repo"], match["revision"]
    if revision is None or not _COMMIT.fullmatch(revision):
        named = f"'{revision}' is a branch or tag" if revision else "no revision is named"
        raise WeightsError(
            f"{named}; what it points to can change, so results could not be reproduced",
            where=address,
            todo=f"write hf://{repo}@ and the 40 hexadecimal digits of a commit, from {_page(repo)}/commits/main",
        )
    return repo, revision


def cached(address: str) -> Path | None:
    """Return the snapshot of an address when all of it is on this machine; the network is not asked."""
    from huggingface_hub import constants

    repo, commit = parse(address)
    snapshot = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}" / "snapshots" / commit
    try:
        check_layout(snapshot)
    except WeightsError:  # nothing there, or a download that was cut: the client will complete it
        return None
    return snapshot


def fetch(address: str) -> Path:
    """Return the local snapshot of a Hub address, downloading what is not there; its digests are not checked yet.

    Raises
    ------
    WeightsError
        No such repository or commit, no access, no network, no space, or files that no repository may hold.
    """
    known = cached(address)
    if known is not None:
        return known
    snapshot = _download(*parse(address), address)
    try:
        check_layout(snapshot)
    except DamagedError:
        forget(snapshot)
        raise
    return snapshot


def _download(repo: str, commit: str, address: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, HTTPError  # type: ignore[attr-defined]

    try:
        return Path(snapshot_download(repo, revision=commit, library_name="stzoo"))
    except HFValidationError as error:
        raise WeightsError(f"'{repo}' can not be the name of a repository", where=address, todo=str(error)) from error
    except (HTTPError, OSError) as error:
        raise _explained(error, repo, commit, address) from error


def _explained(error: Exception, repo: str, commit: str, address: str) -> WeightsError:
    """Say what an error of the Hub's client means and what to do next."""
    from huggingface_hub import errors
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, errors.HfHubHTTPError):
        error = error.__cause__  # the Hub did answer; that nothing is cached either is not the point
    if isinstance(error, errors.GatedRepoError):
        todo = "ask for access on that page, then run 'hf auth login'"
        return WeightsError("the repository is gated", where=_page(repo), todo=todo)
    if isinstance(error, errors.RevisionNotFoundError):
        return WeightsError(f"no commit {commit}", where=address, todo=f"see {_page(repo)}/commits/main")
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403):
        todo = "check the name; for a private repository run 'hf auth login' with a token that may read it"
        return WeightsError("no such repository, or it is private", where=address, todo=todo)
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        todo = "go online once (and unset HF_HUB_OFFLINE), or copy the repository folder here and load that"
        return WeightsError("not on this machine, and the Hub can not be reached", where=address, todo=todo)
    if isinstance(error, errors.HfHubHTTPError | HTTPError):
        what = f"the Hub answered {status}" if status else f"the download failed ({_first_line(error)})"
        return WeightsError(what, where=address, todo="run again later: what is there already is kept")
    where, reason = getattr(error, "filename", None), getattr(error, "strerror", None) or error
    todo = "free some space, or set HF_HOME to a disk that you may write to"
    return WeightsError(f"the cache of the Hub's client can not be written: {reason}", where=where, todo=todo)


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
