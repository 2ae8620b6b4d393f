"""Owns what a test asks for, and of whom: from the options and /v1/models to what every process is told.

Made by one process, so that all ask the same, and files need to be where that one is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from glob import escape
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from loadtests.generator.exchange import Client, Unreachable
from loadtests.generator.options import BadOption, LoadOptions
from loadtests.objectives import Objectives
from loadtests.prompts import Inputs
from loadtests.traffic.trace import Arrival, BadTrace, read_trace
from loadtests.users.asks import Target
from loadtests.users.given import Giver
from loadtests.users.table import MODALITIES
from shared.schemas.common import ModelCard, ModelList

ReadT = TypeVar("ReadT", Inputs, Objectives)


class CannotAsk(Exception):
    """The fleet cannot be asked for what the options say; the message says why."""


class Files(BaseModel):
    """What the files hold that the options name."""

    model_config = ConfigDict(frozen=True)

    inputs: Inputs = Inputs()
    objectives: Objectives = Objectives({})
    trace: tuple[Arrival, ...] = ()

    @classmethod
    def of(cls, options: LoadOptions) -> Files:
        """Raises BadOption."""
        try:
            trace = tuple(read_trace(options.trace)) if options.trace else ()
        except (OSError, BadTrace) as error:
            raise BadOption(f"--trace: {error}") from error
        if options.trace and not trace:
            raise BadOption(f"--trace: {options.trace} holds no request")
        objectives = _read(Objectives, options.objectives, "--objectives") or Objectives({})
        _check_names(objectives.root, "--objectives")
        return cls(inputs=_read(Inputs, options.inputs, "--inputs") or Inputs(), objectives=objectives, trace=trace)


class Plan(BaseModel):
    """What a process is told. `targets` and `weights` are by modality; `weights` are those of mixed users.

    `share` numbers the processes from 0; `trace` is this one's part.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    targets: dict[str, tuple[Target, ...]]
    weights: dict[str, float]
    inputs: Inputs
    objectives: Objectives
    share: int = 0
    trace: tuple[Arrival, ...] = ()


def make_plan(client: Client, options: LoadOptions, files: Files, *, named: Collection[str], is_mixed: bool) -> Plan:
    """Without a share of the trace. `named`: modalities that user classes ask for, beside those of mixed users.

    Raises BadOption, CannotAsk.
    """
    weights = dict(options.weights)
    traced = {each.modality for each in files.trace if each.modality}
    _check_names(weights, "--modalities")
    _check_names(traced, "--trace")
    cards = _cards(client)
    patterns = [*options.patterns, *sorted({escape(each.model) for each in files.trace if each.model})]
    able = {task: _asked(task, cards, patterns) for task in MODALITIES}
    wanted = {*named, *weights, *traced}
    for task in sorted(wanted):
        if not able[task]:
            raise CannotAsk(_nobody(task, cards, options))
    if not weights and _needs_mix(files.trace, is_mixed=is_mixed):
        weights = {task: 1.0 for task, found in able.items() if found and (is_mixed or task in named)}
        if not weights:
            raise CannotAsk(_nobody("any modality", cards, options))
    giver = Giver(client, cards, files.inputs)
    targets = {
        task: tuple(_target(giver, task, card) for card in able[task])
        for task in MODALITIES
        if task in wanted or task in weights
    }
    _check_trace(files.trace, targets)
    return Plan(targets=targets, weights=weights, inputs=files.inputs, objectives=files.objectives)


def _needs_mix(trace: Sequence[Arrival], *, is_mixed: bool) -> bool:
    """Whether anything is drawn from the weights: a trace draws for the lines that name no modality."""
    return any(not each.modality for each in trace) if trace else is_mixed


def _cards(client: Client) -> list[ModelCard]:
    try:
        return ModelList.model_validate_json(client.get("/v1/models")).data
    except Unreachable as error:
        raise CannotAsk(str(error)) from error
    except ValidationError as error:
        raise CannotAsk(
            f"GET /v1/models gave no list of models with their tasks: {error.errors()[0]['msg']}"
        ) from error


def _asked(task: str, cards: Sequence[ModelCard], patterns: Sequence[str]) -> list[ModelCard]:
    """All that the patterns name; without one, the first that is ready, else the first."""
    able = [card for card in cards if task in card.tasks]
    if patterns:
        return [card for card in able if any(fnmatchcase(card.id, pattern) for pattern in patterns)]
    return sorted(able, key=lambda card: card.state != "ready")[:1]


def _nobody(task: str, cards: Sequence[ModelCard], options: LoadOptions) -> str:
    among = f" of --model {options.model}" if options.model else ""
    able = ", ".join(card.id for card in cards if task in card.tasks)
    have = f"these do: {able}" if able else f"the fleet has: {', '.join(card.id for card in cards) or 'no models'}"
    return f"no model{among} does {task}; {have}"


def _target(giver: Giver, task: str, card: ModelCard) -> Target:
    """Raises CannotAsk of a model that makes nothing that it could be asked about."""
    context = card.limits.get("context_length")
    target = Target(model=card.id, context=None if context is None else int(context))
    if not MODALITIES[task].about_given:
        return target
    try:
        return giver.give(task, card, target)
    except Unreachable as error:
        raise CannotAsk(f"{task} of {card.id}: nothing to ask about: {error}") from error


def _check_trace(trace: Sequence[Arrival], targets: Mapping[str, Sequence[Target]]) -> None:
    able = {(task, target.model) for task, found in targets.items() for target in found}
    models = {model for _, model in able}
    for number, each in enumerate(trace, start=2):
        fits = (each.modality, each.model) in able if each.modality else each.model in models
        if each.model and not fits:
            what = each.modality or "anything that is asked for"
            raise CannotAsk(f"--trace, request {number - 1}: {each.model!r} does not do {what}")


def _check_names(names: Collection[str], option: str) -> None:
    if unknown := sorted(set(names) - set(MODALITIES)):
        raise BadOption(f"{option}: modalities are {', '.join(MODALITIES)}; got {', '.join(unknown)}")


def _read(kind: type[ReadT], path: Path | None, option: str) -> ReadT | None:
    if path is None:
        return None
    try:
        return kind.read(path)
    except (OSError, yaml.YAMLError) as error:
        raise BadOption(f"{option}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BadOption(f"{option}: {path}: {where}: {first['msg']}; got {first['input']!r}") from error
