"""Owns the step from what a request asks for to an errand: which targets, in which order. Never sees a response."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile

from pydantic import BaseModel
from starlette.datastructures import Headers

from services.gateway.affinity import affinity_key
from services.gateway.carrier import Errand, Target
from services.gateway.routing import Plan, Route, RoutingTable
from services.gateway.state import GatewayState
from services.gateway.tenants import Tenant
from shared.calls import Call, Priority
from shared.config.routes import Affinity
from shared.errors import Overloaded

KNOW_S = 0.25  # how long an order of targets is worth waiting for, where nothing is known of some of them


@dataclass(frozen=True, slots=True)
class Ask:
    """A checked request. `name` is what it asks for: a model or a route; `deadline_s` what is left, in seconds.

    A bulky answer's pieces are sent one by one as they are encoded: together they may exceed what a message holds.
    """

    request_id: str
    headers: Headers
    tenant: Tenant
    priority: Priority
    name: str
    task: str
    body: BaseModel
    deadline_s: float
    stream: bool
    is_bulky: bool
    traceparent: str | None = None  # of the request's span


class Planner:
    """Plans by the gateway's configuration of the moment, and orders by what the replicas last reported."""

    def __init__(self, state: GatewayState) -> None:
        self._state = state

    def plan(self, ask: Ask, table: RoutingTable) -> Plan:
        """Raises ModelNotFound, UnsupportedTask, and InvalidRequest for a session that has no name."""

        def key_of(kind: Affinity) -> str | None:
            return affinity_key(kind, ask.headers, ask.body, ask.tenant.name)

        return table.plan(ask.name, ask.task, rng=self._state.rng, key_of=key_of)

    def cost(self, ask: Ask, route: Route) -> float:
        """The most that the request can cost there, in the model's own unit."""
        return route.model.cost_bound(ask.body, self._state.board.limits(route.model.id))

    async def errand(self, ask: Ask, plan: Plan, table: RoutingTable) -> Errand:
        """Leave out the targets that are predicted to be late. Raises Overloaded if all are: what the first is told."""
        if len(plan.routes) > 1:
            await self._state.board.know({route.service.name for route in plan.routes}, wait_s=KNOW_S)
        errand = self._errand(ask, plan, table)
        costs = {route.model.id: self.cost(ask, route) for route in plan.routes}
        in_time: list[Target] = []
        refusal: Overloaded | None = None
        for target in errand.targets:
            try:
                self._state.forecast.check(target.service, target.call, costs[target.call.model])
            except Overloaded as late:
                refusal = refusal or late
            else:
                in_time.append(target)
        if refusal is not None and not in_time:
            raise refusal
        first = in_time[0]
        ended = self._state.forecast.sent(first.service, first.call, costs[first.call.model])
        return replace(errand, targets=tuple(in_time), ended=ended)

    def mirror(self, ask: Ask, plan: Plan) -> None:
        """Send the copy that the plan has, if it has one."""
        if plan.mirror is not None:
            flush_s = 0.0 if ask.is_bulky else None
            self._state.mirror.send(self._target(ask, plan.mirror, plan.affinity, flush_s=flush_s))

    def _errand(self, ask: Ask, plan: Plan, table: RoutingTable) -> Errand:
        state, first = self._state, plan.routes[0]
        # A plain answer from a loaded model comes in one message. Otherwise `Accepted` must be seen to come in time.
        is_one_message = (
            not (ask.stream or ask.is_bulky)
            and len(plan.routes) == 1
            and state.board.is_ready(first.service.name, first.model.id)
        )
        flush_s = None if is_one_message else 0.0 if ask.is_bulky else state.settings.flush_ms / 1e3
        targets = [self._target(ask, route, plan.affinity, flush_s=flush_s) for route in plan.routes]
        hold_s = None if is_one_message else state.settings.hold_s
        return Errand(self._ordered(targets), ask.deadline_s, hold_s, partial(self._renewed, ask, table))

    def _renewed(self, ask: Ask, table: RoutingTable) -> Errand | None:
        newer = self._state.table
        return None if newer is table else self._errand(ask, self.plan(ask, newer), newer)

    def _ordered(self, targets: Sequence[Target]) -> tuple[Target, ...]:
        """Put those that are out behind the others, if one of these is ready; wake what is led around by that."""
        board = self._state.board

        def is_out(target: Target) -> bool:
            return board.is_out(target.service, target.call.model)

        if len(targets) < 2:
            return tuple(targets)
        up = [target for target in targets if not is_out(target)]
        if not any(target.is_ready() for target in up):
            return tuple(targets)
        for target in takewhile(is_out, targets):
            if board.is_at_rest(target.service):
                self._state.waker.wake(target.service)
        return (*up, *filter(is_out, targets))

    def _target(self, ask: Ask, route: Route, affinity: str | None, *, flush_s: float | None) -> Target:
        service, model = route.service.name, route.model.id
        call = Call(
            request_id=ask.request_id,
            model=model,
            task=ask.task,
            body=ask.body,
            tenant=ask.tenant.name,
            weight=ask.tenant.weight,
            priority=ask.priority,
            deadline_s=ask.deadline_s,
            flush_s=flush_s,
            affinity=affinity,
            traceparent=ask.traceparent,
        )
        return Target(service, call, partial(self._state.board.is_ready, service, model))
