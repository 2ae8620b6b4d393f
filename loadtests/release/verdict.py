"""Owns the judgement of a load: its figures beside their bounds, and beside those of the last accepted run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from loadtests.release.profile import Bounds, Profile, Stage
from loadtests.summary import Counters, Group, Summary

ALL = "*"
NOISE_S = 0.02  # a time that is no more than this over the last one is as good
NOISE = 0.005  # the same of a share


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a stage's modality. `bound` None: it is compared with the last run alone."""

    stage: str
    modality: str
    name: str
    got: float
    bound: float | None
    is_least: bool  # the bound is the least that is wanted; else the most
    noise: float
    before: float | None = None
    tolerance: float = 0.0

    @property
    def keeps_bound(self) -> bool:
        if self.bound is None:
            return True
        return self.got >= self.bound if self.is_least else self.got <= self.bound

    @property
    def keeps_up(self) -> bool:
        """With the last accepted run, within the tolerance."""
        if self.before is None:
            return True
        slack = max(self.noise, self.tolerance * abs(self.before))
        return self.got >= self.before - slack if self.is_least else self.got <= self.before + slack

    @property
    def passed(self) -> bool:
        return self.keeps_bound and self.keeps_up

    @property
    def reason(self) -> str:
        """Why it failed; empty if it passed."""
        reasons: list[str] = []
        if math.isnan(self.got):
            return "nothing was measured"
        if not self.keeps_bound:
            reasons.append(f"wanted at {'least' if self.is_least else 'most'} {self.bound:.4g}")
        if not self.keeps_up:
            reasons.append(f"was {self.before:.4g} in the last accepted run, {self.tolerance:.0%} may change")
        return "; ".join(reasons)


def judge(profile: Profile, runs: Mapping[str, Summary], baseline: Mapping[str, Summary]) -> list[Figure]:
    """All figures of all stages; a bounded figure of which there is no measurement fails."""
    return [figure for stage in profile.stages for figure in _of_stage(stage, runs, baseline, profile.tolerance)]


def _of_stage(
    stage: Stage, runs: Mapping[str, Summary], baseline: Mapping[str, Summary], tolerance: float
) -> Iterator[Figure]:
    before = baseline.get(stage.name)
    for modality, bounds in stage.bounds.items():
        last = {} if before is None else {each.name: each for each in _figures(stage.name, modality, bounds, before)}
        for figure in _figures(stage.name, modality, bounds, runs[stage.name]):
            past = last.get(figure.name)
            got_before = None if past is None or math.isnan(past.got) else past.got
            yield replace(figure, before=got_before, tolerance=tolerance)


def _figures(stage: str, modality: str, bounds: Bounds, summary: Summary) -> Iterator[Figure]:
    groups = summary.groups if modality == ALL else summary.of(modality)
    counts = Counters.total(group.counters for group in groups)
    due = counts.sent + counts.unsent
    broken = counts.failed + counts.truncated + counts.late + counts.unsent + counts.in_flight
    shares = (
        ("goodput", counts.good, bounds.goodput, True),
        ("error budget", broken, bounds.error_budget, False),
        ("refused", counts.refused, bounds.refused, False),
    )
    for name, count, bound, is_least in shares:
        if bound is not None:
            yield Figure(stage, modality, name, count / due if due else float("nan"), bound, is_least, NOISE)
    for metric, quantiles in bounds.metrics.items():
        for quantile, bound in quantiles.model_dump(exclude_none=True).items():
            got = _worst(groups, metric, quantile)
            yield Figure(stage, modality, f"{metric} {quantile}", got, bound, False, NOISE_S)


def _worst(groups: Sequence[Group], metric: str, quantile: str) -> float:
    """Of a modality's models; nan of none, which keeps no bound."""
    values = [getattr(group.metrics[metric], quantile) for group in groups if metric in group.metrics]
    return max(values, default=float("nan"))
