"""What is too long to be worth tokenising."""

from __future__ import annotations

from typing import Any

import pytest

from services.nn.text.tokenizer import Vocabulary
from shared.errors import ContextTooLong
from tests.unit.transformer.driver import Loaded
from tests.unit.transformer.test_tasks import chat, completion, prepared


@pytest.mark.parametrize("request_", [completion(prompt=["ab", "q" * 4_000_000]), chat("q" * 4_000_000)])
def test_what_exceeds_the_context_by_its_length_alone_is_refused_untokenised(
    llama: Loaded, request_: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    for name in ("encode", "encode_markup"):
        known = getattr(Vocabulary, name)
        monkeypatch.setattr(
            Vocabulary,
            name,
            lambda self, text, known=known, **how: lengths.append(len(text)) or known(self, text, **how),
        )
    with pytest.raises(ContextTooLong, match=r"256 tokens; got \d{5,} or more \(4000000 characters in the "):
        prepared(llama, request_)
    assert all(length < 1000 for length in lengths)
