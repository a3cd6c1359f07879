"""`check-method`: whether a method keeps the contract."""

from __future__ import annotations

from typing import Annotated

import typer

from coworld_bench.cli.common import Device, Json, Options, show
from coworld_bench.config import parse_options
from coworld_bench.errors import OK, SOME_FAILED


def check_method(
    methods: Annotated[list[str], typer.Argument(metavar="METHOD...", help="Files of your own, or shipped names.")],
    device: Device = "auto",
    json: Json = False,
    option: Options = None,
) -> int:
    """Check in seconds, on a tiny dataset of toy/point, that a method does what the harness counts on."""
    options = parse_options(option or [])
    from coworld_bench.checking import FAILED, check_methods

    documents = []
    for method, findings in check_methods(methods, options, device):
        if not json:
            typer.echo(method)
        found = []
        for finding in findings:
            found.append(finding)
            if not json:
                typer.echo(f"  {finding.state:<12} {finding.check}: {finding.said}")
        documents.append({"method": method, "kept": FAILED not in [each.state for each in found], "checks": found})
    kept = all(document["kept"] for document in documents)
    if json:
        words = [document | {"checks": [vars(each) for each in document["checks"]]} for document in documents]
        show("", {"schema": 1, "kept": kept, "methods": words}, json)
    return OK if kept else SOME_FAILED
