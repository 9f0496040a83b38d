"""``stzoo zoo``: weights that are found, pulled, verified, locked and published."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from stzoo.cli.app import new_app
from stzoo.cli.tables import echo, table
from stzoo.core.errors import UsageError, nearest
from stzoo.core.specs import ROLES
from stzoo.zoo.catalogue import list_weights

app = new_app("Find, pull, verify, lock and publish weights.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="A name of 'zoo list', a folder, or hf://owner/repo[@REVISION].")]
Names = Annotated[list[str], typer.Argument(help="Names of 'zoo list', folders, or hf://owner/repo[@REVISION].")]
Overwrite = Annotated[bool, typer.Option(help="Replace what is there.")]


@app.command("list")
def list_(
    role: Annotated[str, typer.Option(help="Only weights of models of this role: encoder, imputer, aligner.")] = "",
    tissue: Annotated[str, typer.Option(help="Only of this tissue.")] = "",
    license_: Annotated[str, typer.Option("--license", help="Only under this licence (SPDX).")] = "",
    commercial: Annotated[bool, typer.Option("--commercial", help="Only where commercial use is allowed.")] = False,
    max_mb: Annotated[float | None, typer.Option(help="Only up to this size, MB.")] = None,
    local: Annotated[bool, typer.Option("--local", help="Only what is on this machine.")] = False,
    as_json: Json = False,
) -> None:
    """List the weights that installed plugins offer, and whether they are on this machine."""
    if role not in ("", *ROLES):
        raise UsageError(f"no role '{role}'{nearest(role, ROLES)}", todo=f"roles: {', '.join(ROLES)}")
    known = list_weights()
    entries = [
        entry
        for entry in known
        if role in ("", entry.role)
        and tissue.casefold() in ("", entry.spec.tissue.casefold())
        and license_.casefold() in ("", entry.spec.license.casefold())
        and (not commercial or entry.spec.commercial)
        and (max_mb is None or entry.size_bytes <= max_mb * 1e6)
        and (not local or entry.state == "local")
    ]
    if as_json:
        echo(json.dumps([entry.as_dict() for entry in entries], indent=1, ensure_ascii=False))
        return
    rows = [
        [
            entry.spec.name,
            entry.spec.model,
            entry.role or "-",
            entry.spec.tissue or "-",
            f"{entry.size_bytes / 1e6:.1f} MB" if entry.size_bytes else "-",
            f"{entry.spec.mpp:g}" if entry.spec.mpp else "-",
            entry.spec.license,
            entry.state,
            entry.spec.summary,
        ]
        for entry in entries
    ]
    head = ["weights", "model", "role", "tissue", "size", "µm/px", "license", "state", ""]
    none = "no weights match" if known else "no weights are offered by the installed plugins"
    echo(table(head, rows) if rows else none)


@app.command()
def info(name: Name, as_json: Json = False) -> None:
    """Verify some weights, and show what they are and their model card."""
    from stzoo.core.discovery.manager import default_manager
    from stzoo.core.weights.repository import CARD, open_repository
    from stzoo.zoo.loading import find_adapter
    from stzoo.zoo.resolving import forgetting_damage, resolve

    resolved = resolve(name)
    facts: dict[str, Any] = {"name": resolved.name, "source": resolved.source}
    config = None
    with forgetting_damage(resolved):
        if resolved.foreign:
            facts |= {
                "model": f"{find_adapter(default_manager())} (an image encoder that others published)",
                "sha256": _check(resolved.folder),
            }
        else:
            with open_repository(resolved.folder) as repository:
                facts |= {"model": repository.method, "format_version": repository.format_version}
                facts |= {"dtype": repository.dtype, "sha256": repository.sha256}
                config = repository.config
    listed = {k: v for k, v in asdict(resolved.spec).items() if v and k not in facts} if resolved.spec else {}
    card = (resolved.folder / CARD).read_text(encoding="utf-8") if (resolved.folder / CARD).is_file() else ""
    if as_json:
        echo(json.dumps({**facts, **listed, "config": config, "card": card}, indent=1, ensure_ascii=False))
        return
    for key, value in {**facts, **listed}.items():
        lines = [f"{k}: {v}" for k, v in value.items()] if isinstance(value, dict) else [str(value)]
        echo(f"{key + ':':<16}" + ("\n" + " " * 16).join(lines))
    echo(f"\n{card.rstrip() or '(no model card)'}")


@app.command()
def verify(name: Name) -> None:
    """Check every file of some weights against its digest; the exit code is 1 when one differs."""
    for file, digest in _verify_files(name)[1].items():
        echo(f"ok  {digest}  {file}")


@app.command()
def pull(
    names: Annotated[
        list[str] | None, typer.Argument(help="As 'verify'; by default everything in stzoo.lock.", metavar="[NAME]...")
    ] = None,
) -> None:
    """Download weights and verify them, so that they can be used without a network."""
    from stzoo.zoo.lockfile import LOCK, Lock

    wanted = names or list(Lock.here().weights)
    if not wanted:
        raise UsageError(
            f"nothing to pull: no name, and no {LOCK} here", todo="name some weights, see 'stzoo zoo list'"
        )
    for name in wanted:
        source, digests, size = _verify_files(name)
        echo(f"ok  {source}  {len(digests)} files, {size / 1e6:.1f} MB")


@app.command()
def lock(names: Names) -> None:
    """Write what some weights are now into stzoo.lock: the commit of a branch, bytes and sha256 of every file."""
    from stzoo.zoo.lockfile import LOCK, Lock
    from stzoo.zoo.resolving import forgetting_damage, resolve

    for name in names:
        lock = Lock.here(strict=False)
        found = resolve(name, lock=Lock(lock.path, {}))  # its old entry has no say
        with forgetting_damage(found):
            _check(found.folder)
            lock.add(found.key, found.source, found.files())
        echo(f"{LOCK}: {found.key} is {found.source}")


@app.command()
def export(
    name: Name, out: Annotated[Path, typer.Option(help="NAME.tar to write.")], overwrite: Overwrite = False
) -> None:
    """Write weights into one file, for a machine without a network."""
    from stzoo.zoo.bundles import write_bundle
    from stzoo.zoo.resolving import forgetting_damage, resolve

    resolved = resolve(name)
    with forgetting_damage(resolved):
        write_bundle(resolved, out, overwrite=overwrite)
    echo(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB); on the other machine: stzoo zoo import {out.name}")


@app.command("import")
def import_(
    bundle: Annotated[Path, typer.Argument(help="A file of 'zoo export'.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to make; by default the cache, as if it had been downloaded.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Unpack and verify weights from one file."""
    from stzoo.zoo.bundles import read_bundle

    contents, folder = read_bundle(bundle, out, overwrite=overwrite)
    echo(f"ok  {contents.source}  {len(contents.files)} files")
    echo(f'use it: stzoo.load("{contents.source if out is None else folder}")')


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(help="A repository folder, e.g. OUT/weights of 'stzoo train'.")],
    repo: Annotated[str, typer.Argument(help="owner/repo on the Hub; it is made if it is not there.")],
    private: Annotated[bool, typer.Option(help="Make the repository private, if it is made.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Verify and list what would be published; publish nothing.")] = False,
    message: Annotated[str, typer.Option(help="Message of the commit.")] = "",
) -> None:
    """Publish weights on the Hub, check what landed, and print how to load it."""
    from stzoo.zoo.pushing import push as publish

    done = publish(folder, repo, private=private, dry_run=dry_run, message=message)
    for name, size in done.files.items():
        echo(f"{'would push' if dry_run else 'pushed'}  {size:>12,}  {name}")
    if not dry_run:
        echo(f'use it: stzoo.load("{done.address}")')


@app.command()
def remove(name: Name) -> None:
    """Remove downloaded weights from this machine."""
    from stzoo.zoo.hub import HubAddress, parse
    from stzoo.zoo.hub import remove as forget
    from stzoo.zoo.lockfile import Lock

    entry = Lock.here(strict=False).weights.get(str(parse(name)) if name.startswith("hf://") else name)
    source = entry.source if entry is not None else name
    if not source.startswith("hf://"):
        source = next((one.spec.source for one in list_weights() if one.spec.name == name), source)
    address: HubAddress | None = parse(source) if source.startswith("hf://") else None
    if address is None or not address.pinned:
        raise UsageError(
            f"'{name}' is no download of a commit",
            todo="packaged weights go with their package (pip uninstall); a folder is yours to delete",
        )
    echo(f"removed {address} ({forget(address) / 1e6:.1f} MB)")


def _check(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file of some weights, checked where there is a manifest."""
    from stzoo.core.weights.repository import verify as check
    from stzoo.zoo.foreign import digests_of, is_checkpoint

    if is_checkpoint(folder):  # of others: checked when it was downloaded, by the digests of the Hub
        return {file: entry["sha256"] for file, entry in digests_of(folder).items()}
    return check(folder)


def _verify_files(name: str) -> tuple[str, dict[str, str], int]:
    """Return source, digests and bytes of some weights; a branch is written to the lock file."""
    from stzoo.zoo.lockfile import Lock
    from stzoo.zoo.resolving import forgetting_damage, resolve

    lock = Lock.here()
    resolved = resolve(name, lock=lock)
    with forgetting_damage(resolved):
        digests = _check(resolved.folder)
    resolved.remember(lock)
    return resolved.source, digests, sum((resolved.folder / file).stat().st_size for file in digests)
