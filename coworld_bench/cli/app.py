"""The app, and what every verb has in common: errors are one sentence on stderr and an exit code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from difflib import get_close_matches
from typing import Annotated

import typer

import coworld_bench
from coworld_bench.cli import (
    anchors,
    bench,
    check,
    claims,
    collect,
    compare,
    data,
    doctor,
    evaluate,
    explain,
    listing,
    logs,
    report,
    retry,
    run,
    status,
    stop,
    store,
    train,
)
from coworld_bench.errors import INTERRUPTED, OK, SOME_FAILED, USAGE, UserError, about_fault, about_file

VERBS: dict[str, Callable[..., int | None]] = {
    "collect": collect.collect,
    "run": run.run,
    "status": status.status,
    "logs": logs.logs,
    "stop": stop.stop,
    "retry": retry.retry,
    "report": report.report,
    "claims": claims.claims,
    "explain": explain.explain,
    "compare": compare.compare,
    "list": listing.list_,
    "doctor": doctor.doctor,
    "train": train.train,
    "evaluate": evaluate.evaluate,
    "anchors": anchors.anchors,
    "bench": bench.bench,
    "check-method": check.check_method,
}
KEPT = "interrupted; what is done is kept, and the same command goes on from there"
KEPT_COLLECTING = "interrupted; what is done is kept, and the same command with --resume (no --force) goes on from there"
UsageMistake: type[Exception] = typer.BadParameter.__bases__[0]  # what typer raises for a malformed command line

app = typer.Typer(
    name="coworld-bench",
    help="Datasets and a benchmark harness for offline visual reinforcement learning with transfer from simulators.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for name, verb in VERBS.items():
    app.command(name)(verb)
app.add_typer(data.app, name="data", help="List, show, check, convert, cut and ship datasets.")
app.add_typer(store.app, name="store", help="Unite and check stores of results.")


def show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"coworld-bench {coworld_bench.__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print it.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Datasets and a benchmark harness for offline visual RL with transfer from simulators."""


def kept(given: list[str]) -> str:
    """What is said of the work that was broken off."""
    return KEPT_COLLECTING if given[:1] == ["collect"] else KEPT


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns an exit code of `coworld_bench.errors`."""
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    given = [word for word in given if word != "--debug"]  # accepted anywhere
    try:
        code = app(args=given, standalone_mode=False)
        if code == INTERRUPTED:  # typer's own answer to Ctrl-C, or a verb's
            return fail(kept(given), INTERRUPTED, debug=False)
        return code if isinstance(code, int) else OK
    except UserError as error:
        return fail(str(error), error.exit_code, debug)
    except UsageMistake as error:
        return fail(with_near_verb(error.format_message(), given), USAGE, debug)  # type: ignore[attr-defined]
    except (KeyboardInterrupt, typer.Abort):
        return fail(kept(given), INTERRUPTED, debug)
    except BrokenPipeError:
        sys.stderr.close()
        return OK
    except OSError as error:
        return fail(about_file(error), SOME_FAILED, debug)
    except Exception as error:
        if debug:
            raise
        return fail(about_fault(error), SOME_FAILED, debug)


def fail(sentence: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"error: {sentence}", file=sys.stderr)
    return code


def with_near_verb(message: str, given: list[str]) -> str:
    """The message, with the nearest verb where the verb does not exist."""
    groups = {"data": data.VERBS, "store": store.VERBS}
    words, verbs = [word for word in given if not word.startswith("-")], [*VERBS, *groups]
    if words and words[0] in groups:
        words, verbs = words[1:], list(groups[words[0]])
    close = get_close_matches(words[0], verbs, n=1) if words and words[0] not in verbs else []
    text = message.strip().rstrip(".")
    return f"{text}; did you mean {close[0]}?" if close and "did you mean" not in text.lower() else text
