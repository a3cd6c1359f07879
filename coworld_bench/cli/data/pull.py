"""`data pull`: a dataset from a URL."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from coworld_bench.cli.common import Data, Json, show
from coworld_bench.cli.watching import watching

Url = Annotated[str, typer.Argument(metavar="URL", help="Its folder, at s3://, gs://, hf://, https:// or file://.")]


def pull_(
    url: Url,
    name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="suite/task/quality to keep it as.  [default: its own]")
    ] = None,
    fingerprint: Annotated[
        str | None, typer.Option(metavar="HEX", help="Refuse, before anything is fetched, a dataset with another one.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace another dataset of this name.")] = False,
    data: Data = None,
    json: Json = False,
) -> None:
    """Fetch a dataset; a pull that broke off goes on where it stopped, and every file is compared with its SHA-256."""
    from coworld_bench.data.shipping import pull

    with watching("pull", quiet=json) as observe:
        done = pull(url, data, name, fingerprint, force, observe)
    told = (
        f"{done.files} files, {done.bytes_moved / 1e6:.1f} MB fetched in {done.wall_s:.1f} s, "
        f"{done.bytes_skipped / 1e6:.1f} MB were here"
        if done.bytes_moved
        else f"nothing to fetch, these episodes are here already ({done.files} files)"
    )
    show(f"{done.dataset_id}: {told}\nfingerprint {done.fingerprint}\n{done.folder}", {"schema": 1, **asdict(done)}, json)
