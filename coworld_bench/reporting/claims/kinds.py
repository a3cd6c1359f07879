"""The kinds of claims: what each asks for, as values."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictFloat, StrictInt, model_validator

from coworld_bench.plans import Plan
from coworld_bench.tasks import find_task


def as_list(given: Any) -> Any:
    """A single name as a list of one."""
    return [given] if isinstance(given, str) else given


Name = Annotated[str, Field(min_length=1)]
Names = Annotated[tuple[Name, ...], BeforeValidator(as_list), Field(min_length=1)]
Positive = Annotated[StrictFloat, Field(gt=0)]


class Kind(BaseModel):
    """What a claim of one kind asks for. `unit` is what it is about unless the claim says otherwise: each cell by itself,
    or the average of all."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def methods(self, plan: Plan) -> tuple[str, ...]:
        """Every method whose numbers it needs."""
        raise NotImplementedError

    @property
    def unit(self) -> str:
        return "cells"


class Rank(Kind):
    """`method` has this rank among the plan's methods, less those of `apart_from`; 1 is the best."""

    method: Name
    rank: Annotated[StrictInt, Field(ge=1)] = 1
    apart_from: Annotated[tuple[Name, ...], BeforeValidator(as_list)] = ()

    def methods(self, plan: Plan) -> tuple[str, ...]:
        return (self.method, *self.rivals(plan), *self.apart_from)

    def rivals(self, plan: Plan) -> tuple[str, ...]:
        return tuple(method for method in plan.methods if method != self.method and method not in self.apart_from)


class Above(Kind):
    """Each of `method` is above each of `than`."""

    method: Names
    than: Names

    def methods(self, plan: Plan) -> tuple[str, ...]:
        return (*self.method, *self.than)


class Comparable(Kind):
    """`method` is within `margin` of `to`, a share of the latter."""

    method: Name
    to: Name
    margin: Positive = 0.1

    def methods(self, plan: Plan) -> tuple[str, ...]:
        return self.method, self.to


class Gain(Kind):
    """`method` gains `percent` over `over`. `tolerance` is in percentage points, for printed numbers."""

    method: Name
    over: Name
    percent: Positive
    tolerance: Positive = 0.05

    def methods(self, plan: Plan) -> tuple[str, ...]:
        return self.method, self.over

    @property
    def unit(self) -> str:
        return "average"


class Value(Kind):
    """The numbers of methods. `tolerance` is in their unit, for printed ones; `margin` is a share, for ours."""

    stated: Annotated[dict[Name, StrictFloat], Field(min_length=1)]
    tolerance: Positive = 1.0
    margin: Positive = 0.1

    def methods(self, plan: Plan) -> tuple[str, ...]:
        return tuple(self.stated)

    @property
    def unit(self) -> str:
        return "average"


class Gap(Kind):
    """The predicted less the realised value of `method` is over 0, under it, or close to it: within a share of the realised
    value."""

    method: Name
    sign: Literal["over", "under", "close"]
    within: Positive = 0.25

    def methods(self, plan: Plan) -> tuple[str, ...]:
        return (self.method,)


class Chosen(Kind):
    """The source that `method` takes, by target."""

    stated: Annotated[dict[Name, Name], Field(min_length=1)]
    method: Name = "coworld_multi"

    @model_validator(mode="before")
    @classmethod
    def _full_names(cls, given: Any) -> Any:
        stated = given.get("stated")
        if not isinstance(stated, dict) or not all(isinstance(source, str) for source in stated.values()):
            return given
        return {**given, "stated": {find_task(target).id: find_task(source).id for target, source in stated.items()}}

    def methods(self, plan: Plan) -> tuple[str, ...]:
        return (self.method,)


KINDS: dict[str, type[Kind]] = {
    "rank": Rank, "above": Above, "comparable": Comparable, "gain": Gain, "value": Value, "gap": Gap, "chosen": Chosen,
}  # fmt: skip
