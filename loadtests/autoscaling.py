"""`python -m loadtests.autoscaling`: how many replicas a service gets for recorded arrivals, and what that costs.

A simulation (see `autoscaling_sim.py`): it takes seconds, needs no fleet, and gives the same figures every time. A
replica takes 40 s to start and serves 4 requests a second, 16 at once; there are none at first, and at most 8.

Our policy scales on predicted wait, with the defaults of `replicas` in models.yaml. It is compared with Ray Serve's
own, which scales on ongoing requests: with Ray's delays (30 s up, 600 s down), and with the delays that ours has.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from loadtests import autoscaling_arrivals as recorded
from loadtests import autoscaling_policies as policies
from loadtests.autoscaling_sim import Run, Service, Simulation

REPORTS = Path(__file__).parent / "reports"
POLICIES = {
    "predicted wait": policies.predicted_wait,
    "ongoing requests": policies.ongoing_requests,
    "ongoing requests, quick": policies.ongoing_requests_quickly,
}
REST_S = 900  # nothing arrives: long enough for every policy to come to rest
PEAK_S = 60  # no policy is asked to follow what is over sooner than a replica starts


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one policy and one trace. `cost` is replica-seconds over those that the work alone takes at full batches."""

    requests: int
    wait_p50_s: float
    wait_p95_s: float
    late: float  # the share that waited longer than the target, or was refused
    cost: float
    most: int
    overshoot: int  # the most replicas wanted, over what the busiest minute needs
    turns: int  # changes of direction, each of which starts or stops replicas for nothing if they are many
    ends_at: int  # replicas after a rest


def simulate(arrivals: Sequence[int], policy: str, service: Service) -> tuple[Figures, Run]:
    run = Simulation(service, POLICIES[policy](service)).play(arrivals, rest_s=REST_S)
    return figures(arrivals, run, service), run


def figures(arrivals: Sequence[int], run: Run, service: Service) -> Figures:
    waits = sorted(run.waits)
    late = sum(wait > policies.DEFAULTS.target_wait_s for wait in waits) + run.refused
    return Figures(
        requests=sum(arrivals),
        wait_p50_s=round(waits[len(waits) // 2], 2),
        wait_p95_s=round(waits[int(0.95 * len(waits))], 2),
        late=round(late / sum(arrivals), 4),
        cost=round(run.replica_s * service.capacity / sum(arrivals), 2),
        most=max(run.wanted),
        overshoot=max(0, max(run.wanted) - needed(arrivals, service)),
        turns=turns(run.wanted),
        ends_at=run.paid[-1],
    )


def needed(arrivals: Sequence[int], service: Service) -> int:
    """Replicas that keep up with the busiest minute."""
    busiest = max(sum(arrivals[at : at + PEAK_S]) for at in range(max(1, len(arrivals) - PEAK_S + 1))) / PEAK_S
    return min(service.most, math.ceil(busiest / service.capacity))


def turns(wanted: Sequence[int]) -> int:
    steps = [after - before for before, after in pairwise(wanted) if after != before]
    return sum((before > 0) != (after > 0) for before, after in pairwise(steps))


def report(found: Mapping[str, Mapping[str, Figures]]) -> str:
    assert __doc__ is not None
    target = policies.DEFAULTS.target_wait_s
    lines = [
        f"# Autoscaling\n\n{__doc__.strip()}\n",
        f"Wait is from arrival to the start of a request's work; late is the share over {target:g} s or refused.",
        "Cost is replica-seconds over the least that the work could take. Overshoot is the most replicas wanted over",
        "what the busiest minute needs; turns are changes of direction.\n",
        "| arrivals | policy | p50 wait, s | p95 wait, s | late | cost | most | overshoot | turns | after a rest |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for trace, by_policy in found.items():
        lines += [
            f"| {trace} | {policy} | {each.wait_p50_s:g} | {each.wait_p95_s:g} | {each.late:.1%} | {each.cost:g} "
            f"| {each.most} | {each.overshoot} | {each.turns} | {each.ends_at} |"
            for policy, each in by_policy.items()
        ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write-arrivals", action="store_true", help="draw the recorded arrivals again, and stop")
    parser.add_argument("--out", type=Path, default=REPORTS, help="folder of autoscaling.md and autoscaling.json")
    options = parser.parse_args()
    if options.write_arrivals:
        recorded.write()
        return 0
    service = Service()
    found: dict[str, dict[str, Figures]] = {}
    for trace in recorded.SHAPES:
        found[trace] = {policy: simulate(recorded.read(trace), policy, service)[0] for policy in POLICIES}
        print(f"{trace}: {', '.join(f'{policy} {each.wait_p95_s:g} s' for policy, each in found[trace].items())}")
    text = report(found)
    (options.out / "autoscaling.md").write_text(text)
    plain = {trace: {policy: asdict(each) for policy, each in row.items()} for trace, row in found.items()}
    (options.out / "autoscaling.json").write_text(json.dumps({"service": asdict(service), **plain}, indent=2) + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
