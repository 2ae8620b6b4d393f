"""Owns images at the border of a family: from a client's `data:` URL to pixels, and from pixels to a file's bytes.

Pixels are uint8 arrays (H, W, C), C being 1, 3 or 4. Never fetches anything: `data:` is the only kind of URL.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
import struct
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from shared.errors import InvalidRequest
from shared.events import ImageDelta
from shared.schemas.images import ImageOutput

Pixels = NDArray[np.uint8]
Format = Literal["png", "jpeg", "webp"]

MAX_BYTES = 8 * 2**20  # of one encoded image
MAX_PIXELS = 16 * 2**20  # of one decoded image, checked on its header
MAX_SIDE = 8192  # resizing a line of millions of pixels would hold up the process for seconds
MAX_SCANS = 100  # of a JPEG; encoders make some ten
MAX_VOLUME = 32 * 2**20  # pixels of all images of one answer: the gateway holds them at once
_TYPES = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}
_FORMATS = list(_TYPES.values())
_STILLS = {"MPO": "JPEG"}  # many cameras write a JPEG with a second view behind it: the first is the picture
_ORIENTATION = 0x0112  # the EXIF tag; 1 is upright
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_DATA_URL = re.compile(r"data:(?P<type>[\w.+/-]*);base64,", re.ASCII)
_JPEG, _SCAN = b"\xff\xd8", b"\xff\xda"  # markers; image data never holds the second


@dataclass(frozen=True, slots=True)
class Writing:
    """How a row's image is written; `quality` is of jpeg and webp, 0 to 100."""

    format: Format
    quality: int

    @classmethod
    def of(cls, request: ImageOutput) -> Writing:
        return cls(request.output_format, 90 if request.output_compression is None else request.output_compression)


@dataclass(frozen=True, slots=True)
class ImageChunk:
    """What a sampler gives: pixels uint8 (H, W, C) on the CPU. The rest as in `shared.events.ImageDelta`."""

    pixels: Pixels
    writing: Writing
    seed: int
    step: int
    steps: int
    is_preview: bool
    prompt_tokens: int = 0


def encode_chunk(chunk: ImageChunk) -> ImageDelta:
    """Write the image. Takes milliseconds, and more for large images: run it on a worker thread."""
    height, width = chunk.pixels.shape[:2]
    data = encode_image(chunk.pixels, chunk.writing)
    return ImageDelta(
        data=data,
        sha256=hashlib.sha256(data).hexdigest(),
        format=chunk.writing.format,
        width=width,
        height=height,
        seed=chunk.seed,
        step=chunk.step,
        steps=chunk.steps,
        is_preview=chunk.is_preview,
        prompt_tokens=chunk.prompt_tokens,
    )


def encode_image(pixels: Pixels, writing: Writing) -> bytes:
    """The file's bytes. jpeg knows no alpha: it is laid on white."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    buffer = io.BytesIO()
    match writing.format:
        case "png":
            image.save(buffer, "PNG")
        case "jpeg":
            on_white(image).save(buffer, "JPEG", quality=writing.quality)
        case "webp":
            image.save(buffer, "WEBP", quality=writing.quality)
    return buffer.getvalue()


def on_white(image: Image.Image) -> Image.Image:
    """RGB (or L as it is); what is transparent becomes white."""
    if image.mode in ("L", "RGB"):
        return image
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """A client's image whose header alone was read. `size` is (width, height) as stored: not turned upright yet."""

    data: bytes
    size: tuple[int, int]
    param: str

    @classmethod
    def of(cls, url: str, param: str) -> EncodedImage:
        """The image of a `data:` URL.

        Raises InvalidRequest with code `invalid_image` and the given `param`: not a data URL, not base64, another type
        than PNG, JPEG or WebP or than the URL says, over MAX_BYTES, over MAX_PIXELS, animated, or broken.
        """
        declared, data = _split(url, param)
        with _refusing(param), Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _check_header(image, declared, param)
            _check_scans(data, param)
            return cls(data, image.size, param)

    def decode(self) -> Image.Image:
        """Upright, in mode L, RGB or RGBA with 8 bits a channel, without metadata. Takes 8 bytes a pixel at its peak.

        Raises InvalidRequest with code `invalid_image` if the pixels are damaged.
        """
        with _refusing(self.param), Image.open(io.BytesIO(self.data), formats=_FORMATS) as image:
            image.load()
            return _plain(_upright(image))


def decode_image(url: str, param: str) -> Image.Image:
    """The image of a `data:` URL: header and pixels at once. Raises InvalidRequest as `EncodedImage` does."""
    return EncodedImage.of(url, param).decode()


@contextmanager
def _refusing(param: str) -> Generator[None]:
    """Whatever Pillow raises of a client's bytes becomes a refusal."""
    try:
        yield
    except UnidentifiedImageError:
        raise _bad("is no PNG, JPEG or WebP image", param) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _bad(f"may have at most {MAX_PIXELS} pixels; got more", param) from None
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, TypeError, LookupError, AttributeError) as error:
        raise _bad("is damaged and cannot be decoded", param) from error


def _split(url: str, param: str) -> tuple[str, bytes]:
    head = _DATA_URL.match(url[:128])
    if head is None:
        raise _bad("must be a data: URL in base64, as data:image/png;base64,...; nothing is fetched", param)
    declared = head["type"].lower()
    if declared not in (*_TYPES, "", "application/octet-stream"):
        raise _bad(f"must be one of {', '.join(_TYPES)}", param)
    if (len(url) - head.end()) * 3 // 4 > MAX_BYTES + 2:
        raise _bad(f"may have at most {MAX_BYTES} bytes; got more", param)
    try:
        data = base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise _bad("is not valid base64", param) from None
    return declared, data


def _check_header(image: Image.Image, declared: str, param: str) -> None:
    kind = _STILLS.get(image.format or "", image.format)
    if declared in _TYPES and kind != _TYPES[declared]:
        raise _bad(f"says that it is {declared}, but is {kind}", param)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _bad(f"may have at most {MAX_PIXELS} pixels; got {width}x{height}", param)
    if max(width, height) > MAX_SIDE:
        raise _bad(f"may be at most {MAX_SIDE} pixels wide and high; got {width}x{height}", param)
    if kind == image.format and getattr(image, "n_frames", 1) > 1:  # only the kinds that can move have the attribute
        raise _bad("must be a still image; this one moves", param)


def _check_scans(data: bytes, param: str) -> None:
    """A progressive JPEG is decoded once for each scan, and 40 bytes make one."""
    scans = data.count(_SCAN) if data.startswith(_JPEG) else 0
    if scans > MAX_SCANS:
        raise _bad(f"may have at most {MAX_SCANS} scans; got {scans}", param)


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF says; the image itself if that says nothing, or cannot be read."""
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # Pillow's parser raises about anything for what a client made up
        return image
    return image if turn is None else image.transpose(turn)


def _plain(image: Image.Image) -> Image.Image:
    """Pixels alone: EXIF, profiles and comments stay behind."""
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow's own conversion would cut off at 255
        image = Image.fromarray((np.asarray(image, dtype=np.uint32) >> 8).astype(np.uint8))
    transparency = image.info.get("transparency")
    image.info.clear()  # a text of that name may stand in for it, or for metadata that Pillow would copy
    if isinstance(transparency, bytes | int | tuple):
        image.info["transparency"] = transparency
    has_alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    mode = "RGBA" if has_alpha else "L" if image.mode in ("1", "L") else "RGB"
    plain = image.convert(mode)
    plain.info.clear()
    return plain


def _bad(what: str, param: str) -> InvalidRequest:
    return InvalidRequest(f"The image in '{param}' {what}.", param=param, code="invalid_image")


def mask_of(image: Image.Image) -> Image.Image:
    """OpenAI's masks as mode L, 255 where the image may change: where it is transparent, or black without alpha."""
    values = image.getchannel("A") if image.mode == "RGBA" else image.convert("L")
    return values.point([255] * 128 + [0] * 128)


def unequal_mask(image: tuple[int, int], mask: tuple[int, int]) -> InvalidRequest:
    """The refusal of a mask that is not as large as its image; both are (width, height)."""
    message = f"The mask must be as large as the image, {image[0]}x{image[1]}; got {mask[0]}x{mask[1]}."
    return InvalidRequest(message, param="mask", code="invalid_image")


def closed_mask() -> InvalidRequest:
    """The refusal of a mask that keeps all of its image."""
    message = "The mask lets nothing change: it is transparent, or black without alpha, nowhere."
    return InvalidRequest(message, param="mask", code="invalid_image")


def to_unit(image: Image.Image, *, size: tuple[int, int], channels: int) -> Tensor:
    """float32 (C, H, W) in [-1, 1], resized to (width, height); transparency becomes white."""
    # Resized first: what follows copies, and a client's image may be large.
    resized = image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)
    plain = on_white(resized).convert("L" if channels == 1 else "RGB")
    pixels = torch.from_numpy(np.array(plain, dtype=np.float32)) / 127.5 - 1  # (H, W) or (H, W, C)
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()


def to_pixels(batch: Tensor) -> list[Pixels]:
    """uint8 (H, W, C) arrays of float images (B, C, H, W) in [-1, 1]; what is outside is cut off. Copies to the CPU."""
    scaled = ((batch.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return list(scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy())


def refuse_options(given: frozenset[str], known: Sequence[str], model: str) -> None:
    """Raises InvalidRequest for the first sampling option that the model does not have."""
    for name in sorted(given - set(known)):
        raise InvalidRequest(f"Model '{model}' has no option '{name}'.", param=name, code="unsupported_parameter")


def preview_steps(count: int, steps: int) -> frozenset[int]:
    """After which of `steps` steps a preview is due: `count` of them, evenly spread, never the last step.

    With three of 20: after steps 5, 10 and 15.
    """
    return frozenset(
        min(steps - 1, max(1, round(steps * (i + 1) / (count + 1)))) for i in range(count if steps > 1 else 0)
    )


def check_volume(count: int, width: int, height: int, param: str) -> None:
    """Raises InvalidRequest for `param` where several images of this size have over MAX_VOLUME pixels together."""
    most = max(1, MAX_VOLUME // (width * height))
    if count > most:
        raise InvalidRequest(f"{param} may be at most {most} for images of {width}x{height}; got {count}.", param=param)
