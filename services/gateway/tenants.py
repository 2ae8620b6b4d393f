"""Owns what a tenant is and may do. Never sees a key, a clock or a store."""

from __future__ import annotations

from dataclasses import dataclass

from shared.calls import Priority
from shared.errors import ModelNotAllowed, OperatorOnly, PriorityNotAllowed


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who pays, and what for. None is no limit. `ceiling` is the best priority that its requests may ask for.

    `weight` is its share where tenants compete. Units are each model's own measure of work (ARCHITECTURE.md). An
    operator may read the figures of all tenants.
    """

    name: str
    weight: float = 1.0
    ceiling: Priority = Priority.INTERACTIVE
    models: frozenset[str] | None = None
    requests_per_minute: int | None = None
    units_per_minute: int | None = None
    concurrency: int | None = None
    units_per_month: int | None = None
    longest_s: float | None = None
    is_operator: bool = False

    def check_model(self, model: str) -> None:
        """`model` is what the client asks for: a model or a route. Raises ModelNotAllowed."""
        if not self.may_use(model):
            raise ModelNotAllowed(f"Tenant '{self.name}' may not use model '{model}'.", param="model")

    def check_operator(self) -> None:
        """Raises OperatorOnly."""
        if not self.is_operator:
            raise OperatorOnly("Only the key of an operator lets in here.")

    def may_use(self, model: str) -> bool:
        return self.models is None or model in self.models

    def priority(self, asked: Priority | None) -> Priority:
        """The priority of a request; not asking is `default`, or the ceiling below it. Raises PriorityNotAllowed."""
        if asked is None:
            return max(Priority.DEFAULT, self.ceiling)
        if asked < self.ceiling:
            raise PriorityNotAllowed(asked=asked.name.lower(), ceiling=self.ceiling.name.lower())
        return asked


ANYONE = Tenant("default", is_operator=True)  # whoever calls a gateway that asks for no key
