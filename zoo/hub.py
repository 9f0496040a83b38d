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

_ADDRESS = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?", re.ASCII)
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
    from huggingface_hub import errors, snapshot_download
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of the HTTP library that it uses


    try:
        return Path(snapshot_download(repo, revision=commit, library_name="stzoo"))
    except errors.GatedRepoError as error:
        raise WeightsError(
            "the repository is gated", where=_page(repo), todo="ask for access on that page, then run 'hf auth login'"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise WeightsError(
            f"the repository has no commit {commit}", where=address, todo=f"see {_page(repo)}/commits/main"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise WeightsError(
            "no such repository, or it is private",
            where=address,
            todo="check the name; for a private repository run 'hf auth login' with a token that may read it",
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise WeightsError(
            "not on this machine, and the Hub can not be reached",
            where=address,
            todo="go online once (and unset HF_HUB_OFFLINE), or copy the repository folder here and load that",
        ) from error
    except HTTPError as error:
        raise WeightsError(
            f"the download failed: {_first_line(error)}", where=address, todo="run again: what is there is kept"
        ) from error
    except OSError as error:
        raise WeightsError(
            f"the cache of the Hub's client can not be written: {error.strerror or error}",
            where=error.filename,
            todo="free some space, or set HF_HOME to another disk",
        ) from error


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
