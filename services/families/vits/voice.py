"""Owns a voice's configuration, which lies beside its graph, and the way from phonemes to the graph's ids."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.nn.errors import UnsupportedModel

_PAD, _BEGIN, _END = "_", "^", "$"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)  # what else a voice says is of no use here


class _Audio(_Part):
    sample_rate: int = Field(ge=8000, le=48000)


class _Espeak(_Part):
    voice: str = Field(pattern=r"^[a-z][a-z0-9-]{1,31}$")


class _Inference(_Part):
    noise_scale: float = Field(default=0.667, ge=0, le=4)
    length_scale: float = Field(default=1.0, gt=0, le=4)
    noise_w: float = Field(default=0.8, ge=0, le=4)


class VoiceConfig(_Part):
    """What Piper writes beside a graph, as NAME.onnx.json."""

    audio: _Audio
    espeak: _Espeak
    inference: _Inference = _Inference()
    phoneme_type: Literal["espeak"] = "espeak"
    phoneme_id_map: Mapping[str, Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]]
    num_speakers: Literal[1] = 1

    def ids(self, phonemes: str) -> list[int]:
        """Piper's: a padding follows the beginning and each phoneme; then the end. What has no id is left out."""
        known = self.phoneme_id_map
        pad = known[_PAD]
        out = [*known[_BEGIN], *pad]
        for phoneme in unicodedata.normalize("NFD", phonemes):
            if phoneme in known:
                out += [*known[phoneme], *pad]
        return [*out, *known[_END]]


def find_voice(folder: Path) -> tuple[Path, VoiceConfig]:
    """The only graph of a folder, and its configuration.

    Raises UnsupportedModel: there is none, or several, or its configuration is of another kind of voice.
    """
    graphs = sorted(folder.glob("*.onnx"))
    if len(graphs) != 1:
        raise UnsupportedModel("the voice", f"its folder has {len(graphs)} graphs (*.onnx); expected one")
    path = graphs[0].with_name(f"{graphs[0].name}.json")
    try:
        config = VoiceConfig.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UnsupportedModel("the voice", f"{path.name} is not beside its graph") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise UnsupportedModel(
            "the voice", f"in {path.name}, {'.'.join(map(str, first['loc']))}: {first['msg']}"
        ) from None
    if lacking := {_PAD, _BEGIN, _END, " "} - config.phoneme_id_map.keys():
        raise UnsupportedModel("the voice", f"in {path.name}, phoneme_id_map lacks {sorted(lacking)}")
    return graphs[0], config
