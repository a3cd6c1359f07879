"""What `status` tells: plans, what is at work, what went wrong, who drives it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from coworld_bench.bench.drivers import Driver, drivers_at_work
from coworld_bench.bench.overview import Overview, Runs, overview
from coworld_bench.bench.standing import Reader, Standing
from coworld_bench.errors import UsageError
from coworld_bench.plans import Plan, list_plans, load_plan

Pairs = tuple[tuple[str, str], ...]
TROUBLE = ("failed", "lost", "stopped", "interrupted")


@dataclass(frozen=True)
class Snapshot:
    """A store at one moment. `plans` are told whole; `others` hold something and nobody is at work on them; `strays` are
    runs of none of these."""

    store: Path
    plans: tuple[Overview, ...]
    others: tuple[Overview, ...]
    at_work: tuple[Standing, ...]
    trouble: tuple[Standing, ...]
    drivers: tuple[Driver, ...]
    strays: tuple[Standing, ...]

    @property
    def is_over(self) -> bool:
        """Whether no driver works and nothing is left to do."""
        left = any(not plan.is_over for plan in self.plans) if self.plans else bool(self.at_work)
        return not self.drivers and not left

    @property
    def needs(self) -> list[Standing]:
        """What is being made for runs."""
        return [found for found in self.at_work if not found.is_run]

    def left_s(self, plan: Overview) -> float | None:
        return plan.left_s(self.needs)


def take(
    reader: Reader, plans: Sequence[str] = (), preset: str | None = None, options: Mapping[str, str] | None = None
) -> Snapshot:
    """Of these plans, or of all that somebody is at work on and all that the store holds something of."""
    standings, drivers = reader.read(), drivers_at_work(reader.store)
    runs = Runs(standings)
    if plans:
        chosen = [each for name in plans for each in views(named(name, drivers), preset, options, runs, drivers)]
        told = [driver for driver in drivers if any(driver in plan.drivers for plan in chosen)]
        begun = [found for plan in chosen for found in plan.begun]
        return assemble(reader.store, chosen, [], begun + [found for found in standings if not found.is_run and told], told)
    every = [each for plan in known_plans(drivers) for each in views(plan, preset, options, runs, drivers)]
    driven = [each for each in every if each.drivers]
    others = [each for each in every if each.begun and not each.drivers]
    seen = {found.log for each in every for found in each.begun}
    return assemble(reader.store, driven, others, standings, drivers, runs.beside(seen))


def assemble(
    store: Path,
    plans: Sequence[Overview],
    others: Sequence[Overview],
    standings: Iterable[Standing],
    drivers: Sequence[Driver],
    strays: Sequence[Standing] = (),
) -> Snapshot:
    each = tuple({found.log: found for found in standings}.values())
    at_work = sorted((found for found in each if found.state == "running"), key=lambda found: (found.is_run, found.words))
    trouble = sorted((found for found in each if found.state in TROUBLE), key=lambda found: TROUBLE.index(found.state))
    return Snapshot(store, tuple(plans), tuple(others), tuple(at_work), tuple(trouble), tuple(drivers), tuple(strays))


def named(name: str, drivers: Iterable[Driver]) -> Plan:
    """A shipped plan, a file, or what a driver at work calls so. Raises UsageError for others."""
    files = {driver.name: driver.plan for driver in drivers}
    return load_plan(files.get(name, name) if name not in list_plans() else name)


def known_plans(drivers: Iterable[Driver]) -> list[Plan]:
    """The shipped plans, and those that drivers are at work on as far as their files can be read here."""
    found: dict[str, Plan] = {}
    for name in [*list_plans(), *(driver.plan for driver in drivers)]:
        with suppress(UsageError):
            found.setdefault(name, load_plan(name))
    return list(found.values())


def views(
    plan: Plan, preset: str | None, options: Mapping[str, str] | None, runs: Runs, drivers: Iterable[Driver]
) -> list[Overview]:
    """A plan under each preset that it has runs of, and with the options that drivers have."""
    asked: dict[tuple[str, Pairs], list[Driver]] = {}
    for driver in drivers:
        if driver.name == plan.name:
            asked.setdefault((driver.preset, pairs(driver.told.get("options"))), []).append(driver)
    presets = [preset] if preset else runs.presets(plan)
    for name in presets or ([] if asked else ["quick"]):
        asked.setdefault((name, pairs(options)), [])
    wanted = {key: found for key, found in asked.items() if preset in (None, key[0]) and options in (None, dict(key[1]))}
    made = [overview(plan, name, runs, found, dict(given)) for (name, given), found in wanted.items()]
    return [each for each in made if each.begun or each.drivers] or made[:1]


def pairs(options: Mapping[str, str] | None) -> Pairs:
    return tuple(sorted((options or {}).items()))
