"""`data convert`: datasets in other formats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coworld_bench.cli.common import Data, Force, Json, Options, show
from coworld_bench.config import parse_options
from coworld_bench.errors import UsageError

KINDS = "minari, npz, vd4rl84, d4rl or lerobot"


def convert_(
    source: Annotated[str, typer.Argument(metavar="DATASET|PATH", help="A dataset, or with --from files of a format.")],
    to: Annotated[str | None, typer.Option("--to", metavar="FORMAT", help=f"Write the dataset as {KINDS}.")] = None,
    origin: Annotated[str | None, typer.Option("--from", metavar="FORMAT", help="Read files of such a format.")] = None,
    name: Annotated[
        str | None, typer.Option(help="What files become: suite/task/quality, with a preset. Exports of ours know theirs.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The folder to write, for minari that of its datasets.")] = None,
    data: Data = None,
    force: Force = False,
    json: Json = False,
    option: Options = None,
) -> None:
    """Write a dataset in another format, or make a dataset of files in one, without loss."""
    options = parse_options(option or [])
    if (to is None) == (origin is None):
        raise UsageError(f"say what to do: --to FORMAT writes a dataset, --from FORMAT reads one ({KINDS})")
    if to is not None and (name is not None or options):
        raise UsageError("--name and -o say what files of another format are; they go with --from")
    from coworld_bench.data.converting import export_dataset, import_dataset
    from coworld_bench.data.formats import find_format

    if to is not None:
        folder = export_dataset(source, to, out, data=data, force=force)
        document = {"format": to, "folder": str(folder), "lacks": find_format(to).lacks}
        show(f"{folder}\n{to}: {find_format(to).lacks}", {"schema": 1, **document}, json)
    else:
        made = import_dataset(Path(source), str(origin), name, options=options, data=data, out=out, force=force)
        left_out = made.card.get("provenance", {}).get("imported", {}).get("left_out", [])
        text = f"{made.id}: {made.episodes} episodes, mean return {made.returns.mean():.4g}\n{made.folder}"
        known = {"dataset_id": made.id, "folder": str(made.folder), "episodes": made.episodes, "left_out": left_out}
        lost = f"\nleft out: {', '.join(left_out)}" if left_out else ""
        show(text + lost, {"schema": 1, **known, "fingerprint": made.fingerprint}, json)
