"""One request at a time behind FastAPI and uvicorn, streamed: `PYTHON -m loadtests.peers.fastapi_app FOLDER PORT`.

What a plain server does: `model.generate` with the streamer that transformers has for asyncio, under a lock. A bound
for what HTTP costs, and for what batches are worth.

Runs in FastAPI's environment.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator

import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from transformers import AsyncTextIteratorStreamer

from loadtests.peers.batches import Prompt, StaticModel, completion_event, last_events


class Job(BaseModel):
    prompt: str
    max_tokens: int


def make_app(folder: str) -> FastAPI:
    app, model, one = FastAPI(), StaticModel(folder), asyncio.Lock()

    async def events(job: Job) -> AsyncIterator[str]:
        async with one:
            streamer = AsyncTextIteratorStreamer(model.tokenizer, skip_prompt=True)
            making = asyncio.create_task(
                asyncio.to_thread(model.generate, [Prompt(job.prompt, job.max_tokens)], streamer)
            )
            making.add_done_callback(lambda _: streamer.on_finalized_text("", stream_end=True))  # also if it failed
            async for piece in streamer:
                if piece:
                    yield completion_event(piece)
            yield last_events((await making)[0].tokens)

    @app.get("/")
    async def ready() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/v1/completions")
    async def complete(job: Job) -> StreamingResponse:
        return StreamingResponse(events(job), media_type="text/event-stream")

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="of the model")
    parser.add_argument("port", type=int)
    arguments = parser.parse_args()
    uvicorn.run(make_app(arguments.folder), host="127.0.0.1", port=arguments.port, log_level="warning")


if __name__ == "__main__":
    main()
