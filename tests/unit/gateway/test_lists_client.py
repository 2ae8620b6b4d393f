"""The official client's embeddings, with strict response validation, over a real socket."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import openai
import pytest

from tests.unit.gateway.conftest import Serve
from tests.unit.gateway.fakes import Gateway
from tests.unit.gateway.list_fakes import APPRAISER, list_gateway


@pytest.fixture
def gateway() -> Gateway:
    return list_gateway()


async def test_strict_validation_accepts_embeddings_of_numbers(client: openai.AsyncOpenAI) -> None:
    answer = await client.embeddings.create(model=APPRAISER, input=["a", "b"], encoding_format="float")
    assert [(each.index, each.embedding) for each in answer.data] == [(0, [0.0, -1.0]), (1, [0.5, -1.0])]
    assert (answer.object, answer.model, answer.data[0].object) == ("list", APPRAISER, "embedding")
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (2, 2)


async def test_the_client_asks_for_base64_by_itself_and_reads_it(gateway: Gateway, serve: Serve) -> None:
    # Not strict: the client's own types have numbers alone, and it looks at the text only after it has checked them.
    url = await serve(gateway.app)
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as client:
        answer = await client.embeddings.create(model=APPRAISER, input="a")
        packed = await client.embeddings.create(model=APPRAISER, input="a", encoding_format="base64")
    assert answer.data[0].embedding == [0.0, -1.0]
    text = packed.data[0].embedding
    assert isinstance(text, str)
    assert np.frombuffer(base64.b64decode(text), "<f4").tolist() == [0.0, -1.0]


async def test_images_and_dimensions_go_along(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    picture = "data:image/png;base64,AAAA"
    await client.embeddings.create(model=APPRAISER, input=[picture], dimensions=1, encoding_format="float")
    ((_, call),) = gateway.dispatcher.calls
    assert (call.task, call.body.input, call.body.dimensions) == ("embedding", [picture], 1)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("given", "items"), [([1, 2, 3], [[1, 2, 3]]), ([[1, 2], [3]], [[1, 2], [3]])])
async def test_token_ids_go_along_one_list_an_item(
    client: openai.AsyncOpenAI, gateway: Gateway, given: Any, items: list[list[int]]
) -> None:
    await client.embeddings.create(model=APPRAISER, input=given, encoding_format="float")
    ((_, call),) = gateway.dispatcher.calls
    assert call.body.items == items  # type: ignore[attr-defined]
