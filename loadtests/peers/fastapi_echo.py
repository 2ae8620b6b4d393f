"""Answers at once, behind FastAPI and uvicorn: `PYTHON -m loadtests.peers.fastapi_echo PORT`.

What a request costs before any work is done; a bound for every server that is written in Python. Runs in FastAPI's
environment.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

app = FastAPI()


class Ask(BaseModel):
    input: str


@app.get("/")
async def ready() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/answer")
async def answer(ask: Ask) -> dict[str, list[float]]:
    return {"embedding": [0.25, 0.5]}


@app.post("/stream")
async def stream(ask: Ask) -> StreamingResponse:
    """An event for each letter."""
    return StreamingResponse(events(ask.input), media_type="text/event-stream")


async def events(letters: str) -> AsyncIterator[str]:
    for letter in letters:
        yield f"data: {letter}\n\n"


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
