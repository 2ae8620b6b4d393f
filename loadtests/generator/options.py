"""Owns the options of a load test beside Locust's own: their help, and their check.

`python -m loadtests.generator.options` prints the help: Locust's `--help` knows its own options alone.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from locust.argument_parser import LocustArgumentParser
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from loadtests.shapes import SHAPES
from loadtests.traffic.arrivals import KINDS, Kind
from loadtests.traffic.lengths import LENGTHS, Mix

CLOSED = "closed"
SET_ONCE = ("shape", "trace", "summary")
DRAIN_S = 30  # for what is in flight when a test ends: the slowest requests are the last


class BadOption(ValueError):
    """The message says which, and what was wrong."""


def add_options(parser: LocustArgumentParser) -> None:
    """Every value is a plain one: Locust sends them to its workers."""
    parser.set_defaults(stop_timeout=str(DRAIN_S))
    _add_what(parser)
    _add_when(parser)
    _add_results(parser)
    for action in parser._actions:  # Locust's page shows what may change from one test to the next
        if action.dest in LoadOptions.model_fields and action.dest not in SET_ONCE:
            action.include_in_web_ui = True


def _add_what(parser: LocustArgumentParser) -> None:
    add = parser.add_argument_group("What is asked for").add_argument
    add(
        "--modalities",
        default="",
        help="what is asked for, with weights: chat=8,image=1. Default: all that the fleet can answer, alike. User "
        "classes that are named ask for theirs",
    )
    add(
        "--model",
        env_var="CASTALIA_MODEL",
        default="",
        help="who is asked: names or patterns, as digits-* or a,b. Default: of each modality the first that is ready",
    )
    add("--lengths", choices=list(LENGTHS), default="short", help="how long prompts and answers of text are")
    add(
        "--max-tokens",
        type=int,
        default=None,
        help="the longest answer of text asked for; default: as --lengths has it",
    )
    add("--ignore-eos", action="store_true", help="answers of text are as long as was drawn, not as the model likes")
    add("--inputs", default="", metavar="FILE.yaml", help="voices, sounds, prompts of images: see loadtests/prompts.py")
    add("--deadline", type=float, default=None, help="seconds that an answer may take; the gateway is told")
    add("--seed", type=int, default=None, help="of all that is drawn; default: unlike each time")


def _add_when(parser: LocustArgumentParser) -> None:
    add = parser.add_argument_group(
        "When it is asked for",
        "In an open loop (all but closed) a Locust user stands for --per-user requests a second, which are sent on "
        "time whatever became of those before: --users 50 is 50 requests a second.",
    ).add_argument
    add("--arrivals", choices=[*KINDS, CLOSED], default=KINDS[0], help="closed: a user asks, reads, thinks, asks again")
    add("--per-user", type=float, default=1.0, help="requests a second that a user stands for in an open loop")
    add("--burst-size", type=float, default=8.0, help="mean number of requests in a burst, with --arrivals bursts")
    add("--day", type=float, default=600.0, help="seconds that a day takes, with --arrivals diurnal")
    add("--trace", default="", metavar="FILE.csv", help="replay recorded requests: see loadtests/traffic/trace.py")
    add("--max-in-flight", type=int, default=1000, help="of a process; what is due beyond it is counted as unsent")
    add("--shape", choices=list(SHAPES), default=None, help=f"of the load over --run-time, up to --users: {_shapes()}")
    add("--shape-base", type=int, default=None, help="users at the shape's foot; default: a tenth of --users")
    add("--shape-steps", type=int, default=5, help="of --shape step")


def _add_results(parser: LocustArgumentParser) -> None:
    add = parser.add_argument_group("What comes out").add_argument
    add("--objectives", default="", metavar="FILE.yaml", help="what makes an answer good: see loadtests/objectives.py")
    add("--summary", default="", metavar="FILE.json", help="counters and quantiles, of all processes, as one file")


def _shapes() -> str:
    return "; ".join(f"{name}: {shape.__doc__}" for name, shape in SHAPES.items())


def _or_none(value: Any) -> Any:
    """Locust's page sends an empty field as a text."""
    return None if value == "" else value


Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Maybe = BeforeValidator(_or_none)


class LoadOptions(BaseModel):
    """The options, checked. Locust's page sends numbers as texts."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    modalities: str = ""
    model: str = ""
    lengths: Mix = "short"
    max_tokens: Annotated[Count | None, Maybe] = None
    ignore_eos: bool = False
    inputs: Annotated[Path | None, Maybe] = None
    deadline: Annotated[Positive | None, Maybe] = None
    seed: Annotated[int | None, Maybe] = None
    arrivals: Kind | Literal["closed"] = "poisson"
    per_user: Positive = 1.0
    burst_size: Annotated[float, Field(ge=1)] = 8.0
    day: Positive = 600.0
    trace: Annotated[Path | None, Maybe] = None
    max_in_flight: Count = 1000
    shape: Annotated[str | None, Maybe] = None
    shape_base: Annotated[Count | None, Maybe] = None
    shape_steps: Count = 5
    objectives: Annotated[Path | None, Maybe] = None
    summary: Annotated[Path | None, Maybe] = None

    @classmethod
    def of(cls, namespace: Namespace) -> LoadOptions:
        """Raises BadOption."""
        try:
            return cls.model_validate(vars(namespace))
        except ValidationError as error:
            raise BadOption("; ".join(_told(each) for each in error.errors())) from error

    @property
    def weights(self) -> Mapping[str, float]:
        """By modality; empty if none is named. Raises BadOption."""
        parts = [part.strip() for part in self.modalities.split(",") if part.strip()]
        return dict(_weight(part) for part in parts)

    @property
    def patterns(self) -> tuple[str, ...]:
        return tuple(part.strip() for part in self.model.split(",") if part.strip())

    @property
    def kind_of_arrivals(self) -> str:
        return "trace" if self.trace else self.arrivals

    @model_validator(mode="after")
    def _one_source_of_arrivals(self) -> LoadOptions:
        if self.trace and self.shape:
            raise ValueError("--trace says when each request is sent: --shape cannot be given as well")
        return self


def _weight(part: str) -> tuple[str, float]:
    name, _, text = part.partition("=")
    try:
        weight = float(text or 1)
    except ValueError:
        weight = 0.0
    if not 0 < weight < float("inf"):
        raise BadOption(f"--modalities: a weight must be a number over 0; got {part!r}")
    return name.strip(), weight


def _told(error: Mapping[str, Any]) -> str:
    name = "-".join(str(part) for part in error["loc"][:1]).replace("_", "-")
    return f"--{name}: {error['msg']}; got {error['input']!r}" if name else str(error["msg"])


def api_key() -> str | None:
    """From the environment alone: an option would show in the process list and in Locust's page."""
    return os.environ.get("CASTALIA_API_KEY") or None


if __name__ == "__main__":
    parser = LocustArgumentParser(prog="locust -f loadtests/locustfile.py", usage="%(prog)s [options] [UserClass ...]")
    add_options(parser)
    parser.print_help()
