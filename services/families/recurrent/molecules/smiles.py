"""Owns SMILES as a sequence of tokens: how a string is cut, and the vocabulary. Knows no chemistry, never sees a net.

A token is an atom, a bond, a branch's bracket or a ring's number: `Cl` and `Br` are one, and so is what stands in
square brackets (Weininger 1988, doi:10.1021/ci00057a005).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import ByteLevel
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split

from services.nn.text.tokenizer import Vocabulary
from shared.errors import InvalidRequest

BOS, EOS = 0, 1
_SPECIAL = ("<bos>", "<eos>")
_PIECE = r"\[[^\[\]]*\]|Br|Cl|%[0-9]{2}|."
_PATTERN = re.compile(_PIECE, re.DOTALL)


def cut(smiles: str) -> list[str]:
    """The tokens of any string; they join to it again."""
    return _PATTERN.findall(smiles)


def make_tokenizer(tokens: Sequence[str]) -> Tokenizer:
    """A tokenizer of the `tokenizers` library whose ids are BOS, EOS, then `tokens` in their order."""
    ids = {token: i for i, token in enumerate((*_SPECIAL, *tokens))}
    tokenizer = Tokenizer(WordLevel(ids))
    tokenizer.pre_tokenizer = Split(Regex(_PIECE), "isolated")
    tokenizer.decoder = ByteLevel()  # printable ASCII stands for itself in it: the text is the join of the tokens
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in _SPECIAL])
    return tokenizer


class SmilesReader:
    """From SMILES to ids, with a refusal that says which token is not known."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        pieces = {i: vocabulary.token_bytes(i).decode() for i in range(vocabulary.size)}
        self._ids = {piece: i for i, piece in pieces.items() if i not in vocabulary.special_ids}

    @property
    def tokens(self) -> list[str]:
        """What a SMILES may hold."""
        return list(self._ids)

    def read(self, smiles: str, param: str) -> list[int]:
        """Ids of a SMILES, or of the beginning of one. Raises InvalidRequest for a token that the model never saw."""
        ids: list[int] = []
        at = 0
        for token in cut(smiles):
            if token not in self._ids:
                raise InvalidRequest(
                    f"The model knows no '{token[:16]}', at character {at} of '{param}'; it knows: "
                    f"{' '.join(self.tokens)}.",
                    param=param,
                    code="unknown_token",
                )
            ids.append(self._ids[token])
            at += len(token)
        return ids
