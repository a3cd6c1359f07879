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
    from coworld_bench.checking.checks import FAILED, check_methods

    failed, documents = 0, []
    for method, findings in check_methods(methods, options, device):
        found = []
        if not json:
            typer.echo(method)
        for finding in findings:
            found.append(vars(finding))
            failed += finding.state == FAILED
            if not json:
                typer.echo(f"  {finding.state:<12} {finding.check}: {finding.said}")
        documents.append({"method": method, "checks": found})
    if json:
        show("", {"schema": 1, "kept": not failed, "methods": documents}, json)
    return SOME_FAILED if failed else OK
