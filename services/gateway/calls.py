"""Owns the step from an HTTP request to an errand, and from its events to an HTTP response, for every call alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.bodies import read_body
from services.gateway.carrier import Errand, Target
from services.gateway.disconnects import unless_gone
from services.gateway.event_stream import EventStream, count_tokens, note_work
from services.gateway.headers import Wishes
from services.gateway.planner import Ask, Planner
from services.gateway.record import Record, record_of
from services.gateway.state import GatewayState
from services.gateway.stream_writer import SSE, Framing
from services.gateway.text_wire import Transcript
from services.gateway.wire import Counts, StreamWire
from shared.errors import DeadlineExceeded
from shared.events import RowEvent
from shared.tracing import about_call

BodyT = TypeVar("BodyT", bound=BaseModel)


class Desk:
    """Takes requests in and sends answers out."""

    def __init__(self, state: GatewayState) -> None:
        self._state = state
        self._planner = Planner(state)

    async def read(
        self, request: Request, model: type[BodyT], *, limit: int | None = None, files: Set[str] = frozenset()
    ) -> tuple[BodyT, Wishes]:
        """The checked body, and what the headers ask for. Raises what `read_body` does.

        `limit` is in bytes, `CASTALIA_MAX_BODY` if None; `files` are the fields that a form may send as files.
        """
        settings = self._state.settings
        wishes = Wishes.of(request.headers, longest_s=settings.timeout_s)
        body = await read_body(
            request,
            model,
            limit=settings.max_body if limit is None else limit,
            timeout_s=wishes.deadline_s,
            patience_s=settings.body_timeout_s,
            budget=self._state.bodies,
            files=files,
        )
        return body, wishes

    async def admit(
        self,
        request: Request,
        body: BaseModel,
        wishes: Wishes,
        *,
        model: str,
        task: str,
        stream: bool,
        is_bulky: bool = False,
    ) -> Errand:
        """Say no early, or route the call and charge its tenant.

        Raises ModelNotFound, ModelNotAllowed, PriorityNotAllowed, UnsupportedTask, DeadlineExceeded if the body took
        all the time, InvalidRequest for a bad session, RateLimited, and Overloaded if the answer is predicted to come
        too late from every target.

        A bulky answer's pieces are sent one by one as they are encoded: together they may exceed what a message holds.
        """
        state, record = self._state, record_of(request.scope)
        tenant, table = record.tenant, state.table
        tenant.check_model(model)
        priority = tenant.priority(wishes.priority)
        deadline_s = self._left_s(record, wishes, stream=stream)
        ask = Ask(
            record.request_id,
            request.headers,
            tenant,
            priority,
            model,
            task,
            body,
            deadline_s,
            stream,
            is_bulky,
            record.span.traceparent,
        )
        plan = self._planner.plan(ask, table)
        if record.span.is_recorded:
            record.span.note({**about_call(task, model), "gen_ai.request.stream": stream})
        record.model = plan.routes[0].model.id
        if not record.is_batch_line:
            cost = self._planner.cost(ask, plan.routes[0])
            record.charge = await state.limiter.take(tenant, request_id=record.request_id, units=cost)
            record.limit_headers = record.charge.headers
        errand = await self._planner.errand(ask, plan, table)
        self._planner.mirror(ask, plan)
        return errand

    def _left_s(self, record: Record, wishes: Wishes, *, stream: bool) -> float:
        """Seconds until the deadline: the least of what client, tenant and gateway allow. Raises DeadlineExceeded.

        Nobody waits for a line of a batch: the tenant's own limit is for those who do.
        """
        longest_s = None if record.is_batch_line else record.tenant.longest_s
        whole_s = wishes.within_s(stream=stream)
        whole_s = whole_s if longest_s is None else min(whole_s, longest_s)
        deadline_s = whole_s - (self._state.tempo.clock() - record.started)
        if deadline_s <= 0:
            raise DeadlineExceeded(f"The request took its whole deadline of {whole_s:g} seconds to arrive.")
        return deadline_s

    async def gather(self, request: Request, errand: Errand, take: Callable[[Sequence[RowEvent]], None]) -> None:
        """Run a plain call to its end, then give its events to `take`. Raises what `Carrier.carry` does, or ClientGone.

        They are held back until then: a target that fails on the way leaves nothing to the one that stands in for it.
        What there is of a call that failed is given too.
        """
        record = record_of(request.scope)
        held: list[Sequence[RowEvent]] = []

        async def sink(batch: Sequence[RowEvent]) -> None:
            held.append(batch)

        def began(target: Target) -> None:
            record.model = target.call.model
            held.clear()

        try:
            await unless_gone(request.receive, self._state.carrier.carry(errand, sink, began=began, restarts=True))
        finally:
            for batch in held:
                note_work(record, batch)
                take(batch)

    async def transcript(self, request: Request, errand: Errand, *, choices: int) -> Transcript:
        """Run a plain text call to its end; its tokens are counted even if it fails."""
        transcript = Transcript(choices)
        await self.collect(request, errand, transcript.take, transcript.counts)
        return transcript

    async def collect(
        self, request: Request, errand: Errand, take: Callable[[Sequence[RowEvent]], None], counts: Counts
    ) -> None:
        """`gather`, and note what `counts` says in the end, even if the call fails."""
        try:
            await self.gather(request, errand, take)
        finally:
            count_tokens(record_of(request.scope), counts)

    def event_stream(
        self, errand: Errand, wire: Callable[[str], StreamWire], counts: Counts, *, framing: Framing = SSE
    ) -> Response:
        """`wire` makes what writes the answer of a model, which is known by its id once it begins."""
        return EventStream(self._state, errand, wire, counts, framing)


def answered_by(request: Request) -> str:
    """The model that answers, or did: of a route, one of its targets or fallbacks."""
    return record_of(request.scope).model or ""


def json_answer(body: bytes) -> Response:
    """A whole answer that is written already."""
    return Response(body, media_type="application/json")
