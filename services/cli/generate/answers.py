"""Owns reading what a request made, as it comes, to its end. Never sees a file."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from services.cli.client import Client

Body = Mapping[str, object]
Seen = Callable[[int], None]  # is told how many items are done


@dataclass(frozen=True, slots=True)
class Answer:
    """The items of a request in their order, and the model that made them where the answer tells it."""

    items: Sequence[Mapping[str, Any]]
    model: str | None = None


def read_list(client: Client, path: str, body: Body, seen: Seen) -> Answer:
    items: list[dict[str, Any]] = []
    for line in client.lines(path, body):
        items.append(line)
        seen(len(items))
    end = items.pop()
    return Answer(sorted(items, key=itemgetter("index")), str(end["model"]))


def read_sounds(client: Client, path: str, body: Body, seen: Seen) -> Answer:
    """`data` of an item is its file."""
    files: dict[int, bytearray] = defaultdict(bytearray)
    done: dict[int, dict[str, Any]] = {}
    for event in client.events(path, {**body, "stream": True}):
        index = int(event["index"])
        if event["type"] == "audio.generation.delta":
            files[index] += base64.b64decode(event["audio"], validate=True)
        else:
            done[index] = {**event, "data": bytes(files[index])}
            seen(len(done))
    return Answer([done[index] for index in sorted(done)])


def read_file(client: Client, path: str, body: Body, seen: Seen) -> Answer:
    """An answer that is a file itself."""
    item = {"data": b"".join(client.stream(path, body))}
    seen(1)
    return Answer([item])
