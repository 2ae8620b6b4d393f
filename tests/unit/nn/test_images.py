"""Images at the border: what is refused before a pixel is decoded, what a picture becomes, what is written."""

from __future__ import annotations

import base64
import hashlib
import io
import struct
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo

from services.nn import images
from services.nn.images import (
    EncodedImage,
    ImageChunk,
    Writing,
    check_volume,
    decode_image,
    encode_chunk,
    encode_image,
    mask_of,
    preview_steps,
    refuse_options,
    to_pixels,
    to_unit,
)
from shared.errors import InvalidRequest
from shared.schemas.images import ImageGenerationRequest

RED, BLUE, CLEAR = (255, 0, 0), (0, 0, 255), (0, 0, 0, 0)


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def url_of(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def refused(url: str) -> str:
    """The message of the refusal, whose code and param are always the same."""
    with pytest.raises(InvalidRequest) as caught:
        decode_image(url, "image")
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, "invalid_image", "image")
    return caught.value.message


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *parts: bytes, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG by hand: a header of any size, then these chunks."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(parts) + chunk(b"IEND", b"")


SQUARE = Image.new("RGB", (4, 4), RED)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://example.com/cat.png", "nothing is fetched"),
        ("file:///etc/passwd", "nothing is fetched"),
        ("data:image/png,abc", "base64"),
        ("", "data: URL"),
        ("data:image/gif;base64,R0lGODlhAQABAAAAACw=", "image/png, image/jpeg, image/webp"),
        ("data:image/svg+xml;base64,PHN2Zy8+", "must be one of"),
        ("data:image/png;base64,####", "not valid base64"),
        ("data:image/png;base64,QUJD", "is no PNG, JPEG or WebP image"),
        ("data:image/png;base64,", "is no PNG, JPEG or WebP image"),
        (url_of(file_of(SQUARE, "GIF"), ""), "is no PNG, JPEG or WebP image"),
        (url_of(file_of(SQUARE, "JPEG")), "says that it is image/png, but is JPEG"),
    ],
)
def test_what_is_no_picture_in_a_data_url_is_refused(url: str, words: str) -> None:
    assert words in refused(url)


def test_a_picture_over_the_limit_of_bytes_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", 100)
    assert "at most 100 bytes" in refused(url_of(b"x" * 200))


@pytest.mark.parametrize(("width", "height"), [(5000, 5000), (12_000, 12_000), (2**31 - 1, 2**31 - 1)])
def test_huge_dimensions_are_refused_by_the_header_alone(width: int, height: int) -> None:
    assert f"at most {images.MAX_PIXELS} pixels" in refused(url_of(png(width, height)))


def test_a_bomb_of_pixels_is_refused_by_the_header_alone() -> None:
    rows = zlib.compress(bytes(60_000_000), 9)  # 60 kB that would become 60 MB
    assert "pixels" in refused(url_of(png(5000, 4000, chunk(b"IDAT", rows))))


@pytest.mark.parametrize("size", [(8193, 1), (1, 2**24)])
def test_a_long_line_of_pixels_is_refused_by_the_header_alone(size: tuple[int, int]) -> None:
    assert "8192" in refused(url_of(file_of(Image.new("1", size))))


def test_a_jpeg_of_very_many_scans_is_refused_before_it_is_decoded() -> None:
    data = file_of(Image.new("RGB", (32, 32), RED), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert "scans" in refused(url_of(data[:-2] + 200 * scan + data[-2:], "image/jpeg"))


@pytest.mark.parametrize("key", ["transparency", "xmp", "exif", "icc_profile"])
def test_texts_named_as_metadata_are_left_behind(key: str) -> None:
    texts = PngInfo()
    texts.add_text(key, "surprise")
    texts.add_itxt("xmp", "surprise")
    picture = decode_image(url_of(file_of(Image.new("RGB", (4, 4), RED), pnginfo=texts)), "image")
    assert (picture.mode, picture.getpixel((0, 0)), picture.info) == ("RGB", RED, {})


def test_a_bomb_of_text_is_refused() -> None:
    text = chunk(b"zTXt", b"Comment\x00\x00" + zlib.compress(bytes(80_000_000), 9))
    data = chunk(b"IDAT", zlib.compress(bytes(4 * 13)))
    assert "damaged" in refused(url_of(png(4, 4, text, data)))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = file_of(Image.fromarray(noise), kind)
    message = refused(url_of(data[: int(len(data) * share)], ""))
    assert "damaged" in message or "is no PNG" in message


def test_flipped_bytes_never_raise_anything_but_a_refusal() -> None:
    rng = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "WEBP"):
        whole = file_of(SQUARE.resize((16, 16)), kind)
        for _ in range(60):
            data = bytearray(whole)
            data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
            with suppress(InvalidRequest):
                decode_image(url_of(bytes(data), ""), "image")


def file_with_exif(kind: str) -> bytes:
    """Every kind of EXIF value: texts, fractions, dates, and folders of their own for camera and place."""
    image = Image.new("RGB", (9, 7), RED)
    exif = image.getexif()
    exif.update({0x0112: 6, 0x010E: "desc", 0x011A: 72.0, 0x0132: "2020"})
    exif.get_ifd(0x8769).update({0x829A: 0.01, 0x8827: 100, 0x9003: "2020:01:01", 0xA002: 9})
    exif.get_ifd(0x8825).update({1: "N", 2: (1.0, 2.0, 3.0)})
    return file_of(image, kind, exif=exif)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # its word for damaged EXIF
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_damaged_exif_never_raises_anything_but_a_refusal(kind: str) -> None:
    rng, whole = np.random.default_rng(0), file_with_exif(kind)
    at = whole.index(b"MM\0*") if b"MM\0*" in whole else whole.index(b"II*\0")
    for _ in range(600):
        data = bytearray(whole)
        data[at + int(rng.integers(200))] ^= 1 << int(rng.integers(8))
        if kind == "PNG":  # or else the chunk's checksum is all that is tested
            data = bytearray(_checksummed(bytes(data)))
        with suppress(InvalidRequest):
            decode_image(url_of(bytes(data), ""), "image")


def _checksummed(data: bytes) -> bytes:
    at, parts = 8, [data[:8]]
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        parts.append(chunk(data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    return b"".join(parts)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_means_nothing_leaves_the_picture_as_it_is(value: int) -> None:
    image = Image.new("RGB", (8, 4), RED)
    exif = image.getexif()
    exif[0x0112] = value
    assert decode_image(url_of(file_of(image, "PNG", exif=exif)), "image").size == (8, 4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_turns_as_pillow_turns(orientation: int) -> None:
    image = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6))
    exif = image.getexif()
    exif[0x0112] = orientation
    data = file_of(image, "PNG", exif=exif)
    with Image.open(io.BytesIO(data)) as stored:
        turned = ImageOps.exif_transpose(stored)
    decoded = decode_image(url_of(data), "image")
    assert (decoded.size, decoded.tobytes()) == (turned.size, turned.tobytes())


def test_a_header_is_read_without_decoding_a_pixel() -> None:
    encoded = EncodedImage.of(url_of(png(4000, 4000, chunk(b"IDAT", b"no pixels"))), "image")
    assert encoded.size == (4000, 4000)
    with pytest.raises(InvalidRequest, match="damaged"):
        encoded.decode()


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_picture_that_moves_is_refused(kind: str) -> None:
    data = file_of(SQUARE, kind, save_all=True, append_images=[Image.new("RGB", (4, 4), BLUE)])
    assert "must be a still image" in refused(url_of(data, ""))


def test_a_camera_picture_with_a_second_view_is_taken_as_a_jpeg() -> None:
    data = file_of(SQUARE, "MPO", save_all=True, append_images=[Image.new("RGB", (4, 4), BLUE)])
    image = decode_image(url_of(data, "image/jpeg"), "image")
    assert _near(image.getpixel((1, 1)), RED)


@pytest.mark.parametrize("media_type", ["image/png", "IMAGE/PNG", "", "application/octet-stream"])
def test_a_png_is_known_by_its_bytes_where_the_type_is_open(media_type: str) -> None:
    image = decode_image(url_of(file_of(SQUARE), media_type), "image")
    assert (image.mode, image.getpixel((0, 0))) == ("RGB", RED)


def test_sixteen_bits_of_grey_keep_their_brightness() -> None:
    grey = Image.fromarray(np.array([[0, 0x40FF], [0x8000, 0xFFFF]], dtype=np.uint16))
    image = decode_image(url_of(file_of(grey)), "image")
    assert (image.mode, list(image.tobytes())) == ("L", [0, 0x40, 0x80, 0xFF])


def test_sixteen_bits_of_colour_become_eight() -> None:
    rows = zlib.compress(b"\x00" + struct.pack(">3H", 0x4012, 0x8034, 0xFF56))
    image = decode_image(url_of(png(1, 1, chunk(b"IDAT", rows), depth=16)), "image")
    assert (image.mode, image.getpixel((0, 0))) == ("RGB", (0x40, 0x80, 0xFF))


def test_a_palette_with_transparency_keeps_it() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    decoded = decode_image(url_of(file_of(image, transparency=b"\x00\xff")), "image")
    assert decoded.mode == "RGBA"
    assert [decoded.getpixel((x, 0)) for x in (0, 1)] == [(255, 0, 0, 0), (0, 0, 255, 255)]


def test_a_cmyk_jpeg_keeps_its_colour() -> None:
    image = decode_image(url_of(file_of(SQUARE.convert("CMYK"), "JPEG"), "image/jpeg"), "image")
    assert image.mode == "RGB"
    assert _near(image.getpixel((1, 1)), RED)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_exif_turns_the_picture_and_is_left_behind(kind: str) -> None:
    image = Image.new("RGB", (8, 4), RED)
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was held on its side
    exif[0x010E] = "where I live"
    decoded = decode_image(url_of(file_of(image, kind, exif=exif), ""), "image")
    assert decoded.size == (4, 8)
    assert not decoded.info
    assert not decoded.getexif()
    assert b"where I live" not in file_of(decoded)


def test_profiles_and_comments_are_left_behind() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = file_of(SQUARE, "JPEG", icc_profile=profile, comment=b"secret")
    assert not decode_image(url_of(data, "image/jpeg"), "image").info


def test_decoding_on_many_threads_leaves_the_process_as_it_was() -> None:
    urls = [url_of(file_of(SQUARE)), url_of(png(12_000, 12_000)), "data:,"] * 20

    def decode(url: str) -> bool:
        try:
            return decode_image(url, "image").size == (4, 4)
        except InvalidRequest:
            return False

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(decode, urls)) == 20


def _near(got: Any, wanted: Sequence[int]) -> bool:
    return all(abs(a - b) <= 6 for a, b in zip(got, wanted, strict=True))


def test_a_mask_is_where_it_is_transparent_or_black() -> None:
    clear = Image.new("RGBA", (2, 1), (9, 9, 9, 255))
    clear.putpixel((1, 0), CLEAR)
    black = Image.new("L", (2, 1), 255)
    black.putpixel((1, 0), 0)
    assert [list(mask_of(image).tobytes()) for image in (clear, black)] == [[0, 255]] * 2


def test_pixels_survive_the_way_to_numbers_and_back() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    unit = to_unit(Image.fromarray(noise), size=(7, 5), channels=3)
    assert (unit.shape, unit.dtype) == ((3, 5, 7), torch.float32)
    assert np.array_equal(to_pixels(unit[None])[0], noise)


def test_transparency_is_laid_on_white_and_other_sizes_are_resized() -> None:
    unit = to_unit(Image.new("RGBA", (8, 8), CLEAR), size=(4, 2), channels=1)
    assert unit.shape == (1, 2, 4)
    assert torch.all(unit == 1)


def test_what_is_out_of_range_is_cut_off_not_wrapped() -> None:
    (pixels,) = to_pixels(torch.tensor([-3.0, 0.0, 3.0]).view(1, 1, 1, 3))
    assert pixels.ravel().tolist() == [0, 128, 255]


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_every_format_is_written_the_same_each_time(kind: Any, channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, channels), dtype=np.uint8)
    first, second = (encode_image(pixels, Writing(kind, 90)) for _ in range(2))
    assert first == second
    with Image.open(io.BytesIO(first)) as image:
        assert (image.format, image.size) == (kind.upper(), (8, 8))


def test_a_png_holds_every_pixel_and_a_lower_quality_makes_a_smaller_jpeg() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(encode_image(pixels, Writing("png", 90)))) as image:
        assert np.array_equal(np.asarray(image), pixels)
    small, large = (len(encode_image(pixels, Writing("jpeg", quality))) for quality in (10, 95))
    assert small < large


def test_a_chunk_becomes_an_event_with_its_own_size_and_hash() -> None:
    pixels = np.zeros((2, 3, 3), dtype=np.uint8)
    delta = encode_chunk(ImageChunk(pixels, Writing("png", 90), 7, 5, 20, is_preview=True, prompt_tokens=4))
    assert delta.sha256 == hashlib.sha256(delta.data).hexdigest()
    assert (delta.width, delta.height, delta.seed, delta.step, delta.steps) == (3, 2, 7, 5, 20)
    assert (delta.is_preview, delta.prompt_tokens, len(delta.sha256)) == (True, 4, 64)


def test_quality_is_what_the_request_asks_for() -> None:
    plain = ImageGenerationRequest(model="m", prompt="x")
    asked = ImageGenerationRequest(model="m", prompt="x", output_format="webp", output_compression=3)
    assert (Writing.of(plain), Writing.of(asked)) == (Writing("png", 90), Writing("webp", 3))


@pytest.mark.parametrize(
    ("count", "steps", "after"),
    [(3, 20, {5, 10, 15}), (0, 20, set()), (3, 1, set()), (1, 2, {1}), (16, 4, {1, 2, 3}), (3, 4, {1, 2, 3})],
)
def test_previews_are_spread_evenly_and_never_the_last_step(count: int, steps: int, after: set[int]) -> None:
    assert preview_steps(count, steps) == after


def test_an_option_that_the_model_does_not_have_is_named() -> None:
    refuse_options(frozenset({"steps"}), ("steps", "solver"), "m")
    with pytest.raises(InvalidRequest, match="'truncation'") as caught:
        refuse_options(frozenset({"steps", "truncation"}), ("steps",), "m")
    assert (caught.value.param, caught.value.code) == ("truncation", "unsupported_parameter")


def test_as_many_pixels_as_the_gateway_can_hold_may_be_asked_for_and_no_more() -> None:
    check_volume(32, 1024, 1024, "n")
    check_volume(1, 9999, 9999, "n")  # one image has bounds of its own
    with pytest.raises(InvalidRequest, match="at most 32 for images of 1024x1024; got 33") as caught:
        check_volume(33, 1024, 1024, "frames")
    assert (caught.value.status, caught.value.param) == (400, "frames")
