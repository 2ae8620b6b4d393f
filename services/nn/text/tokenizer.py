"""Owns text to token ids and back for one model, and the rule that users' text never becomes a special token.

Special tokens are the ones that the tokenizer marks as special. `encode` reads none of them from its text;
`encode_markup` does, and is for text that the model's own chat template wrote.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Protocol, cast

from tokenizers import Tokenizer
from tokenizers.decoders import Decoder
from transformers import PreTrainedTokenizerBase

from services.nn.errors import UnsupportedModel

_MARK = "▁"  # of a space, in pieces of SentencePiece
_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>\Z")


class Backend(Protocol):
    """What is used of a transformers tokenizer that stands on the tokenizers library."""

    @property
    def backend_tokenizer(self) -> Tokenizer: ...


class Vocabulary:
    """One model's tokenizer, which it takes over. Thread-safe: nothing changes after construction.

    `size` is one more than the largest id; `longest` bounds the characters of a text that one token takes. `joins`:
    running text is what `token_bytes` gives, joined.
    Raises UnsupportedModel if the tokenizer has no `tokenizers` form.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.is_fast:
            raise UnsupportedModel(type(tokenizer).__name__, "its tokenizer has no `tokenizers` (tokenizer.json) form")
        self._markup = cast(Backend, tokenizer).backend_tokenizer
        self._markup.no_truncation()
        self._markup.no_padding()
        self._plain = Tokenizer.from_str(self._markup.to_str())
        self._plain.encode_special_tokens = True
        vocabulary = self._plain.get_vocab(with_added_tokens=True)
        self.size = max(vocabulary.values()) + 1
        # transformers names some special tokens (bos, eos ...) that the backend's table may not mark.
        marked = {i for i, token in self._plain.get_added_tokens_decoder().items() if token.special}
        self.special_ids = frozenset(marked | set(tokenizer.all_special_ids))
        pieces = {i: piece for piece, i in vocabulary.items()}
        self._pieces = [pieces.get(i, "") for i in range(self.size)]
        decoder = _as_json(self._plain.decoder)
        self.byte_level = _is_byte_level(decoder)
        self.joins = self.byte_level or _is_sentence_piece(decoder)
        self._bytes = [self._as_bytes(piece) for piece in self._pieces]
        self.longest = max(len(data) for data in self._bytes)

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """Ids of a user's text. `add_special_tokens` adds what the model expects around it, such as BOS."""
        return self._plain.encode(text, add_special_tokens=add_special_tokens).ids

    def encode_markup(self, text: str) -> list[int]:
        """Ids of a text that a chat template wrote: the names of special tokens in it become those tokens."""
        return self._markup.encode(text, add_special_tokens=False).ids

    def special_id(self, text: str) -> int | None:
        """The special token that is written so; None: there is none."""
        ids = self.encode_markup(text)
        return ids[0] if len(ids) == 1 and ids[0] in self.special_ids else None

    def special_spans(self, markup: str) -> list[tuple[int, int, int]]:
        """(start, end, id) of each special token in a template's text, by characters, in order."""
        encoding = self._markup.encode(markup, add_special_tokens=False)
        pairs = zip(encoding.offsets, encoding.ids, strict=True)
        return [(start, end, i) for (start, end), i in pairs if i in self.special_ids]

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Text of ids in [0, size); bytes that are no UTF-8 become U+FFFD."""
        known = [i for i in ids if i < self.size and not (skip_special_tokens and i in self.special_ids)]
        return self._plain.decode(known, skip_special_tokens=False)

    def token_bytes(self, token: int) -> bytes:
        """What a token stands for in running text; empty for an id that has no token (padded vocabularies)."""
        return self._bytes[token] if token < self.size else b""

    def is_raw_byte(self, token: int) -> bool:
        """Whether the token is one byte that its neighbours complete (byte fallback)."""
        return token < self.size and _BYTE_TOKEN.match(self._pieces[token]) is not None

    def _as_bytes(self, piece: str) -> bytes:
        if self.byte_level:
            try:
                return bytes(_BYTE_OF[char] for char in piece)
            except KeyError:  # an added token is written as it is
                return piece.encode()
        if match := _BYTE_TOKEN.match(piece):
            return bytes([int(match[1], 16)])
        return piece.replace(_MARK, " ").encode()


def _as_json(decoder: Decoder | None) -> dict[str, Any] | None:
    return None if decoder is None else json.loads(decoder.__getstate__())


def _is_byte_level(decoder: dict[str, Any] | None) -> bool:
    """Whether decoding is nothing but the byte alphabet's inverse, so that text is the join of tokens' bytes."""
    if decoder is None:
        return False
    if decoder["type"] == "Sequence":
        return len(decoder["decoders"]) == 1 and _is_byte_level(decoder["decoders"][0])
    return decoder["type"] == "ByteLevel"


def _is_sentence_piece(decoder: dict[str, Any] | None) -> bool:
    """Whether decoding writes spaces for marks, reads bytes, and changes nothing else but a text's beginning."""
    match decoder:
        case {"type": "Sequence", "decoders": list(parts)}:
            return all(_is_sentence_piece(part) for part in cast(list[dict[str, Any]], parts))
        case {"type": "Metaspace"}:
            return decoder.get("replacement") == _MARK
        case {"type": "Replace"}:
            return (decoder["pattern"], decoder["content"]) == ({"String": _MARK}, " ")
        case {"type": "Strip"}:
            return decoder["stop"] == 0
        case {"type": "ByteFallback" | "Fuse"}:
            return True
        case _:
            return False


def byte_alphabet() -> dict[str, int]:
    """GPT-2's printable character for each byte (Radford 2019): printable ones stand for themselves."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTE_OF = byte_alphabet()
