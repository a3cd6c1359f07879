"""`data list`: the datasets that are here."""

from __future__ import annotations

from coworld_bench.cli.common import Data, Json
from coworld_bench.cli.listing import list_ as list_anything


def list_(data: Data = None, json: Json = False) -> None:
    """List the datasets that are here, as `list datasets` does."""
    list_anything("datasets", data=data, json=json)
