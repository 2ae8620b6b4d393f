"""Owns the bytes of images: whole answers, streams, interpolations. Never sees a socket, never decodes a picture.

Bodies are pasted together around the base64 of the pictures, which needs no escaping: a dump would copy and scan it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from shared.events import Finished, ImageDelta, RowEvent

BACKGROUND = "opaque"


class ImageCounts:
    """Counts what a request's images took.

    `prompt` is what the model read of the prompt, once, however many images were made of it; `completion` is none: no
    image is made of tokens. `units` is work, in the model's own unit: denoising steps, say.
    """

    def __init__(self) -> None:
        self.prompt = 0
        self.completion = 0
        self.cached = 0
        self.units = 0.0
        self.any_seen = False

    def note(self, event: ImageDelta | Finished) -> None:
        if isinstance(event, ImageDelta):
            self.any_seen = True
            self.prompt = max(self.prompt, event.prompt_tokens)
        else:
            self.units += event.units

    def usage(self) -> dict[str, object]:
        return usage(self.prompt, self.units)


def usage(prompt_tokens: int, units: float) -> dict[str, object]:
    """OpenAI's `usage` of images; their output tokens are this model's units of work."""
    output = round(units)
    return {
        "input_tokens": prompt_tokens,
        "input_tokens_details": {"text_tokens": prompt_tokens, "image_tokens": 0},
        "output_tokens": output,
        "total_tokens": prompt_tokens + output,
    }


@dataclass(frozen=True, slots=True)
class ImageEnvelope:
    """What an answer says of all its images. `created` is in seconds since the epoch, `kind` names its events."""

    kind: str
    created: int
    model: str


class ImageStream:
    """Writes streamed images: `<kind>.partial_image` for each preview, `<kind>.completed` for each image.

    `index` says which of the `n` images an event is about; `partial_image_index` counts the previews of that image.
    """

    def __init__(self, envelope: ImageEnvelope, counts: ImageCounts) -> None:
        self._envelope = envelope
        self._counts = counts
        self._previews: dict[int, int] = {}
        self._done: dict[int, ImageDelta] = {}

    def encode(self, batch: Sequence[RowEvent]) -> bytes:
        out: list[bytes] = []
        for row, event in batch:
            if isinstance(event, ImageDelta):
                self._counts.note(event)
                if event.is_preview:
                    out.append(self._preview(row, event))
                else:
                    self._done[row] = event  # written with its row's end, which tells the work done
            elif isinstance(event, Finished):
                self._counts.note(event)
                if (image := self._done.pop(row, None)) is not None:
                    out.append(self._completed(row, image, event))
        return b"".join(out)

    def last(self) -> bytes:
        return b""

    def _preview(self, row: int, image: ImageDelta) -> bytes:
        number = self._previews.get(row, 0)
        self._previews[row] = number + 1
        own = {"partial_image_index": number, "step": image.step, "seed": image.seed}
        return self._event("partial_image", row, image, own)

    def _completed(self, row: int, image: ImageDelta, end: Finished) -> bytes:
        own = {**_facts(image), "seed": image.seed, "usage": usage(image.prompt_tokens, end.units)}
        return self._event("completed", row, image, own)

    def _event(self, name: str, row: int, image: ImageDelta, own: Mapping[str, object]) -> bytes:
        fields = {
            "type": f"{self._envelope.kind}.{name}",
            "created_at": self._envelope.created,
            "size": _size(image),
            "quality": "auto",
            "background": BACKGROUND,
            "output_format": image.format,
            "index": row,
            "steps": image.steps,
            **own,
        }
        return b"data: " + _with_picture(fields, image) + b"\n\n"


class Gallery:
    """Gathers all rows of a call for an answer in one piece, which is written once: each image is let go as it is."""

    def __init__(self) -> None:
        self.counts = ImageCounts()
        self._images: dict[int, ImageDelta] = {}

    def take(self, batch: Sequence[RowEvent]) -> None:
        for row, event in batch:
            if isinstance(event, ImageDelta | Finished):
                self.counts.note(event)
            if isinstance(event, ImageDelta) and not event.is_preview:
                self._images[row] = event

    def answer(self, envelope: ImageEnvelope) -> bytes:
        """OpenAI's `ImagesResponse`, with what makes each image again."""
        fields = {"created": envelope.created, "background": BACKGROUND, **self._common()}
        pictures = [
            _with_picture({**_facts(image), "seed": image.seed, "steps": image.steps}, image)
            for _, image in self._drained()
        ]
        return _with_list(fields, "data", pictures)

    def frames(self, envelope: ImageEnvelope) -> bytes:
        """The images as frames of an interpolation; `position` runs from 0 to 1."""
        last = max(1, len(self._images) - 1)
        fields = {
            "object": "interpolation",
            "created": envelope.created,
            "model": envelope.model,
            "seed": self._images[0].seed,  # alike in all frames
            **self._common(),
        }
        pictures = [
            _with_picture({"position": row / last, **_facts(image), "steps": image.steps}, image)
            for row, image in self._drained()
        ]
        return _with_list(fields, "frames", pictures)

    def _drained(self) -> Iterator[tuple[int, ImageDelta]]:
        for row in sorted(self._images):
            yield row, self._images.pop(row)

    def _common(self) -> dict[str, object]:
        first = next(iter(self._images.values()), None)
        shape = {} if first is None else {"output_format": first.format, "size": _size(first)}
        return {**shape, "usage": self.counts.usage()}


def _facts(image: ImageDelta) -> dict[str, object]:
    return {"sha256": image.sha256, "width": image.width, "height": image.height}


def _size(image: ImageDelta) -> str:
    return f"{image.width}x{image.height}"


def _with_picture(fields: Mapping[str, object], image: ImageDelta) -> bytes:
    head = json.dumps(fields, separators=(",", ":"))[:-1]
    return b"".join((head.encode(), b',"b64_json":"', base64.b64encode(image.data), b'"}'))


def _with_list(fields: Mapping[str, object], name: str, items: Sequence[bytes]) -> bytes:
    head = json.dumps(fields, separators=(",", ":"))[:-1]
    return b"".join((head.encode(), f',"{name}":['.encode(), b",".join(items), b"]}"))
