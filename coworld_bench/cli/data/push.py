"""`data push`: a dataset to a URL."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from coworld_bench.cli.common import Data, Json, show
from coworld_bench.cli.data.show import Name
from coworld_bench.cli.watching import watching


def push_(
    name: Name,
    url: Annotated[str, typer.Argument(metavar="URL", help="Its folder, at s3://, gs://, hf:// or file://.")],
    force: Annotated[bool, typer.Option("--force", help="Replace another dataset that is there.")] = False,
    data: Data = None,
    json: Json = False,
) -> None:
    """Copy a dataset to a store, its manifest last; what is there already with the same content is left."""
    from coworld_bench.data.shipping import push

    with watching("push", quiet=json) as observe:
        done = push(name, url, data, force, observe)
    told = (
        f"{done.files} files, {done.bytes_moved / 1e6:.1f} MB sent in {done.wall_s:.1f} s, "
        f"{done.bytes_skipped / 1e6:.1f} MB were there"
        if done.bytes_moved
        else f"nothing to send, all {done.files} files are there"
    )
    show(f"{done.dataset_id}: {told}\nfingerprint {done.fingerprint}\n{done.url}", {"schema": 1, **asdict(done)}, json)
