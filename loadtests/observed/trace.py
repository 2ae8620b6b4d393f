"""Owns whether the trace of one streamed chat is whole and right: its spans, beside what the client measured itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from loadtests.observed.collector import Span
from loadtests.saturated import Goal

CHAT = "/v1/chat/completions"
CLIENT, REQUEST, TRY, CALL = "client", "request", "try", "call"
PREPARE, QUEUE, PREFILL, STEPS, ENCODE = "prepare", "queue", "prefill", "steps", "encode"
IN_TURN = (PREPARE, QUEUE, PREFILL, STEPS)  # each begins where the one before ends
# Bounds, in milliseconds.
EDGE_MS = 5.0  # between parts that follow each other, and by how much one may reach out of its whole
AROUND_MS = 50.0  # of a call: what is none of its parts
CLIENT_MS = 100.0  # HAProxy, sockets, and the client itself, which shares its cores with the fleet


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as its client saw it. `sent` is in seconds since the epoch, the others count from there."""

    trace: str
    span: str  # the client's own
    model: str
    sent: float
    first_s: float
    whole_s: float
    tokens: int

    @property
    def traceparent(self) -> str:
        return traceparent(self.trace, self.span)


@dataclass(frozen=True, slots=True)
class Role:
    """What a trace has one span for. `parent` is another role, or the client."""

    service: str
    kind: str
    parent: str


_PART = Role("castalia-replica", "internal", CALL)
ROLES: Mapping[str, Role] = {
    REQUEST: Role("castalia-gateway", "server", CLIENT),
    TRY: Role("castalia-gateway", "client", REQUEST),
    CALL: Role("castalia-replica", "server", TRY),
    **dict.fromkeys((*IN_TURN, ENCODE), _PART),
}


def traceparent(trace: str, span: str) -> str:
    """Of a trace that is sampled."""
    return f"00-{trace}-{span}-01"


def by_role(spans: Sequence[Span], model: str) -> tuple[dict[str, Span], list[str]]:
    """The spans of a trace by what they stand for, and what is missing or too much."""
    names = {REQUEST: f"POST {CHAT}", TRY: f"chat {model}", CALL: f"chat {model}"}
    found: dict[str, Span] = {}
    faults: list[str] = []
    left = list(spans)
    for name, role in ROLES.items():
        wanted = (role.service, role.kind, names.get(name, name))
        own = [span for span in left if (span.service, span.kind, span.name) == wanted]
        left = [span for span in left if span not in own]
        if len(own) == 1:
            found[name] = own[0]
        else:
            faults.append(f"{len(own)} spans are a {name} ({', '.join(wanted)}); there should be one")
    return found, [*faults, *(f"a span that nobody knows: {span.service}, {span.name}" for span in left)]


def kinship_faults(found: Mapping[str, Span], asked: Asked) -> list[str]:
    """Spans whose parent is another than it should be, or of another trace."""
    ids = {CLIENT: asked.span, **{name: span.id for name, span in found.items()}}
    wrong = [name for name, span in found.items() if span.parent != ids.get(ROLES[name].parent)]
    strange = [name for name, span in found.items() if span.trace != asked.trace]
    return [
        *(f"the parent of {name} is not {ROLES[name].parent}" for name in wrong),
        *(f"{name} is of another trace" for name in strange),
    ]


def goals(found: Mapping[str, Span], asked: Asked) -> Iterator[Goal]:
    """What the durations of a whole trace have to keep."""
    request, call = found[REQUEST], found[CALL]
    inside = [(span, found[ROLES[name].parent]) for name, span in found.items() if name != REQUEST]
    outside = max(max(whole.began - span.began, span.ended - whole.ended) for span, whole in inside)
    yield _most("a span reaches out of its parent, ms", 1e3 * max(0.0, outside), EDGE_MS)
    parts = [found[name] for name in IN_TURN]
    gaps = [abs(after.began - before.ended) for before, after in pairwise(parts)]
    yield _most("between one part of the call and the next, ms", 1e3 * max(gaps), EDGE_MS)
    around = abs(call.seconds - sum(part.seconds for part in parts))
    yield _most(f"the call less {', '.join(IN_TURN)}, ms", 1e3 * around, AROUND_MS)
    yield _most("the client's time less the request's, ms", 1e3 * abs(asked.whole_s - request.seconds), CLIENT_MS)
    told_s = float(request.attributes.get("gen_ai.response.time_to_first_chunk", 0.0))
    yield _most("the client's time to first text less the request's, ms", 1e3 * abs(asked.first_s - told_s), CLIENT_MS)
    late = asked.sent + asked.first_s - found[PREFILL].ended
    yield _most("from the end of prefill to the client's first text, ms", 1e3 * abs(late), CLIENT_MS)
    counted = int(request.attributes.get("gen_ai.usage.output_tokens", 0))
    yield _most("the client's tokens less the request's", abs(asked.tokens - counted), 0)


def _most(name: str, got: float, bound: float) -> Goal:
    return Goal(f"trace: {name}", got, bound, is_least=False)
