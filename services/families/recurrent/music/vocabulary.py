"""Owns lexemes and their ids, and the file that holds them: tokenizer.json, a word a lexeme. Never sees a tune."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from services.families.recurrent.music.lexicon import END, is_length, length_ticks
from services.nn.errors import UnsupportedModel
from services.nn.text.detokenizer import TextState


class Lexemes:
    """Which id each lexeme has. Immutable."""

    def __init__(self, names: Sequence[str]) -> None:
        """`names` by id. Raises UnsupportedModel without an end."""
        if END not in names:
            raise UnsupportedModel("the model", "its lexemes have no end: it is no model of tunes")
        self.names = tuple(names)
        self._ids = {name: i for i, name in enumerate(names)}
        self.end = self._ids[END]
        self.lengths = {length_ticks(name): i for i, name in enumerate(names) if is_length(name)}

    @classmethod
    def of(cls, names: Iterable[str]) -> Lexemes:
        """In the order of their names, the end first."""
        return cls([END, *sorted(set(names) - {END})])

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, lexeme: str) -> bool:
        return lexeme in self._ids

    def ids(self, lexemes: Iterable[str]) -> list[int]:
        """Raises KeyError for a lexeme that the model does not know."""
        return [self._ids[lexeme] for lexeme in lexemes]


def write_lexemes(lexemes: Lexemes, path: Path) -> None:
    tokenizer = Tokenizer(WordLevel({name: i for i, name in enumerate(lexemes.names)}, unk_token=END))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(END, special=True)])
    tokenizer.save(str(path))


def read_lexemes_file(path: Path) -> Lexemes:
    vocabulary = Tokenizer.from_file(str(path)).get_vocab()
    return Lexemes(sorted(vocabulary, key=lambda name: vocabulary[name]))


class LexemeDetokenizer:
    """Implements `services.nn.text.detokenizer.Detokenizer`: lexemes by name, a space after each."""

    def __init__(self, lexemes: Lexemes) -> None:
        self._names = lexemes.names

    def start(self, prompt: Sequence[int]) -> TextState:
        return TextState()

    def push(self, state: TextState, token: int) -> tuple[TextState, str]:
        return state, self._names[token] + " "

    def flush(self, state: TextState) -> str:
        return ""
