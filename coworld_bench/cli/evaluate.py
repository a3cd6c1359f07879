"""`evaluate`: play a finished run again."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from coworld_bench.cli.common import Data, Device, Json, Runs, Weights, Workers, of_weights, show
from coworld_bench.errors import UsageError

EPISODES = 10


def evaluate(
    run: Annotated[str, typer.Argument(help="A run's folder, or its name in the store.")],
    episodes: Annotated[int | None, typer.Option(help=f"How many to play.  [default: {EPISODES}]")] = None,
    rollout: Annotated[
        bool,
        typer.Option(
            "--rollout",
            help="Store pictures of one episode instead, as new runs do: rollout.png and rollout.json in the run's "
            "folder, and domains.json where its result says nothing of domains.",
        ),
    ] = False,
    method: Annotated[str | None, typer.Option(help="The file of the run's method, if it is your own.")] = None,
    runs: Runs = None,
    data: Data = None,
    device: Device = "auto",
    workers: Workers = 0,
    weights: Weights = None,
    json: Json = False,
) -> None:
    """Play the final policy of a finished run for more episodes; its stored result stays as it is."""
    from coworld_bench.api import evaluate as evaluate_run
    from coworld_bench.api import rollout as store_rollout

    common: dict[str, Any] = {"method": method, "runs": runs, "data": data, "device": device, "files": of_weights(weights)}
    if rollout:
        if episodes is not None:
            raise UsageError(f"--rollout stores one episode and counts none; leave --episodes {episodes} away")
        found = store_rollout(run, **common)
        text = f"{found['run']}: return {found['return']:.4g} in one episode{words(found['success'])}; see {found['file']}"
    else:
        found = evaluate_run(run, episodes=EPISODES if episodes is None else episodes, workers=workers, **common)
        success = "" if found["success"] is None else f", success {found['success']:.0%}"
        text = f"{found['run']}: {found['mean']:.4g} over {len(found['episodes'])} episodes{success}"
    show(text, found, json)


def words(success: bool | None) -> str:
    return "" if success is None else f", {'success' if success else 'no success'}"
