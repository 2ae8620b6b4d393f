"""Owns what operations share whose answer is a list: half of them stream it as lines, the others want it whole."""

from __future__ import annotations

from loadtests.generator.answers import Lines, WholeList
from loadtests.users.asks import Ask, Thing, Wish
from shared.schemas.items import ItemsCall


def ask_for_list(request: ItemsCall) -> Ask:
    return Ask(request, Lines(request.rows) if request.stream else WholeList("data", request.rows))


def some_given(wish: Wish, *, most: int) -> list[Thing]:
    """One to `most` of the things that the model may be asked about; each may come again."""
    return wish.rng.choices(wish.target.given, k=wish.rng.randint(1, most))
