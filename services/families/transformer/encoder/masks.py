"""Owns the one special token that a user's text may hold: the mask, where the model is asked to fill it in."""

from __future__ import annotations

import json
from typing import NamedTuple, cast

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from services.nn.errors import UnsupportedModel
from services.nn.text.tokenizer import Backend, Vocabulary


class MaskedText(NamedTuple):
    """Ids with what the model expects around them, the places of masks among them, and their spans in the text."""

    ids: list[int]
    places: list[int]
    spans: list[tuple[int, int]]


class MaskReader:
    """One model's tokenizer, with the mask made an ordinary word of it. Thread-safe: nothing changes.

    Raises UnsupportedModel for a tokenizer without a mask.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary) -> None:
        text, token = cast("str | None", tokenizer.mask_token), cast("int | None", tokenizer.mask_token_id)
        if text is None or token is None:
            raise UnsupportedModel(type(tokenizer).__name__, "its tokenizer has no mask token")
        self.text, self.token, self._vocabulary = text, token, vocabulary
        spec = json.loads(cast(Backend, tokenizer).backend_tokenizer.to_str())
        for added in spec["added_tokens"]:
            if added["id"] == token:
                added["special"] = False
        self._tokenizer = Tokenizer.from_str(json.dumps(spec))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True

    def read(self, text: str) -> MaskedText:
        """No other special token is read from the text."""
        encoding = self._tokenizer.encode(text, add_special_tokens=True)
        places = [i for i, token in enumerate(encoding.ids) if token == self.token]
        return MaskedText(encoding.ids, places, [encoding.offsets[i] for i in places])

    def piece(self, token: int) -> tuple[str, bool]:
        """A token's text in the midst of others, and whether it goes on with the word before it (WordPiece's ##)."""
        text = self._vocabulary.token_bytes(token).decode(errors="replace")
        continues = text.startswith("##") and len(text) > 2
        return (text[2:] if continues else text), continues

    def fill(self, text: str, spans: list[tuple[int, int]], tokens: list[int]) -> tuple[str, list[int]]:
        """The text with a token's for each span, and where in it each begins."""
        out, end = "", 0
        begins: list[int] = []
        for (start, stop), token in zip(spans, tokens, strict=True):
            out += text[end:start]
            piece, continues = self.piece(token)
            if continues:
                out = out.rstrip()
            elif not out:
                piece = piece.lstrip()
            begins.append(len(out))
            out, end = out + piece, stop
        return out + text[end:], begins
