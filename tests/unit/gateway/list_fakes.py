"""A fleet with a service of lists, and a script that answers them: items as a replica writes them."""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncGenerator
from functools import singledispatch
from typing import Any

import httpx
from pydantic import BaseModel

from shared.calls import Call
from shared.config.models import FleetConfig
from shared.events import Accepted, Finished, Item, RowEvent
from shared.schemas.audio import AudioGenerationRequest, SpeechRequest
from shared.schemas.embeddings import Embedding, EmbeddingRequest
from shared.schemas.forecasts import Forecast, ForecastRequest, QuantilePath
from shared.schemas.images import ImageRequest
from shared.schemas.items import ItemsCall
from shared.schemas.levels import Level, LevelGenerationRequest
from shared.schemas.molecules import Molecule, MoleculeGenerationRequest
from shared.schemas.music import MusicGenerationRequest, Tune
from shared.schemas.reconstructions import Reconstruction, ReconstructionRequest
from shared.schemas.records import RecordGenerationRequest, RecordRow
from shared.schemas.scores import Score, ScoreRequest
from tests.unit.gateway.audio_fakes import sound
from tests.unit.gateway.fakes import MODEL, FakeDispatcher, Gateway, make_gateway, report, speak
from tests.unit.gateway.image_fakes import FLEET_WITH_IMAGES, PAINTER, draw

SCORES, EMBEDDINGS, RECONSTRUCTIONS = "/v1/scores", "/v1/embeddings", "/v1/reconstructions"
RECORDS, LEVELS, FORECASTS = "/v1/records/generations", "/v1/levels/generations", "/v1/forecasts"
MOLECULES, MUSIC = "/v1/molecules/generations", "/v1/music/generations"
MANY = 10_000
PERSON = {"age": 40, "note": "x"}
SERIES = {"values": [1.0, 2.0]}
APPRAISER = "appraiser"
UNITS = 2.5  # of each item
MESSAGES = 20
COLUMNS = b'{"columns":[{"name":"age","type":"integer","minimum":0,"maximum":99},{"name":"note","type":"category"}]}'
NOTES = ("plain", 'said "so"', "one, two", "first\nsecond", "naïve ☃", None)
TASKS = ("score", "embedding", "reconstruction", "record", "level", "molecule", "music", "forecast", "sound", "speech")
FLEET_WITH_LISTS = FleetConfig.model_validate(
    {
        "services": [
            *(service.model_dump(mode="json", exclude_unset=True) for service in FLEET_WITH_IMAGES.services),
            {
                "name": "lists",
                "family": "plugin",
                "models": [
                    {"id": APPRAISER, "source": "file:///nowhere", "sampler": "nowhere:Sampler", "tasks": TASKS}
                ],
            },
        ]
    }
)


@singledispatch
def thing(body: object, row: int) -> BaseModel:
    """The item of a row, which tells the row by a number in it."""
    raise TypeError(body)


@thing.register
def _(body: ScoreRequest, row: int) -> BaseModel:
    return Score(index=0, metric=body.metric or "log_likelihood", kind="exact", value=-1.5 * row, seed=body.seed)


@thing.register
def _(body: EmbeddingRequest, row: int) -> BaseModel:
    vector = [0.5 * row, -1.0]
    packed = base64.b64encode(struct.pack("<2f", *vector)).decode()
    return Embedding(index=0, embedding=packed if body.encoding_format == "base64" else vector)


@thing.register
def _(body: ReconstructionRequest, row: int) -> BaseModel:
    return Reconstruction(index=0, error=0.1 * row, record={"age": row})


@thing.register
def _(body: RecordGenerationRequest, row: int) -> BaseModel:
    return RecordRow(index=0, record={"age": row, "note": NOTES[row % len(NOTES)]}, seed=row)


@thing.register
def _(body: LevelGenerationRequest, row: int) -> BaseModel:
    return Level(
        index=0, text="#@#", width=3, height=1, well_formed=False, playable="unknown", attempts=1, seed=row, b64_json=""
    )


@thing.register
def _(body: MoleculeGenerationRequest, row: int) -> BaseModel:
    return Molecule(index=0, smiles="C(" * row + "C", valid=row == 0, qed=None if row else 0.5, attempts=1, seed=row)


@thing.register
def _(body: MusicGenerationRequest, row: int) -> BaseModel:
    return Tune(
        index=0,
        genre=body.genre or "reel",
        key=body.key or "G",
        meter="4/4",
        bars=body.bars,
        tempo=body.tempo or 100,
        seconds=0.5 * row,
        valid=True,
        seed=row,
        abc="X:1\nK:G\nG|]\n",
    )


@thing.register
def _(body: ForecastRequest, row: int) -> BaseModel:
    values = [float(i) for i in range(body.horizon or len(body.times or ()))]
    path = QuantilePath(level=0.5, values=values)
    return Forecast(index=0, times=body.times or values, mean=values, quantiles=[path], samples=1, seed=row)


def item(body: ItemsCall, row: int) -> Item:
    is_drawn = isinstance(body, RecordGenerationRequest)
    written = thing(body, row).model_dump_json(exclude={"index"}).encode()
    return Item(written, tokens=0 if is_drawn else 1, head=COLUMNS if is_drawn and row == 0 else b"")


def done(body: ItemsCall, row: int) -> list[RowEvent]:
    return [RowEvent(row, item(body, row)), RowEvent(row, Finished("stop", UNITS))]


async def appraise(call: Call) -> AsyncGenerator[list[RowEvent], None]:
    """The last row ends first. In one message, or where events are to be sent on in several."""
    body: ItemsCall = call.body  # type: ignore[assignment]
    rows = list(reversed(range(body.rows)))
    together = max(1, body.rows // MESSAGES)
    parts = [rows[at : at + together] for at in range(0, len(rows), together)]
    batches = [[RowEvent(0, Accepted(body.rows))], *([e for row in part for e in done(body, row)] for part in parts)]
    if call.flush_s is None:
        yield [event for batch in batches for event in batch]
        return
    for batch in batches:
        yield batch


async def answer(call: Call) -> AsyncGenerator[list[RowEvent], None]:
    """As a model of each kind would."""
    body = call.body
    script = appraise if isinstance(body, ItemsCall) else draw if isinstance(body, ImageRequest) else speak
    if isinstance(body, SpeechRequest | AudioGenerationRequest):
        script = sound
    async for batch in script(call):
        yield batch


def list_dispatcher() -> FakeDispatcher:
    """All models are loaded."""
    loaded = {"chat": MODEL, "images": PAINTER, "lists": APPRAISER}
    known = {service: [report(model, service=service)] for service, model in loaded.items()}
    return FakeDispatcher(answer, known=known)


def list_gateway(**options: Any) -> Gateway:
    return make_gateway(list_dispatcher(), **{"fleet": FLEET_WITH_LISTS, **options})


def asked(**fields: Any) -> dict[str, Any]:
    return {"model": APPRAISER, **fields}


async def post(gateway: Gateway, path: str, body: dict[str, Any], **options: Any) -> httpx.Response:
    async with gateway.client() as client:
        return await client.post(path, json=body, **options)
