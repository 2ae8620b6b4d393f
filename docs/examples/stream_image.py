"""Watch an image become sharp, then draw a part of it anew: with OpenAI's own client.

    .venv/bin/castalia up
    .venv/bin/pip install openai
    .venv/bin/python docs/examples/stream_image.py "red heart" --output ./heart

writes preview-1.png to preview-3.png and image.png, then edited.png, of which a mask keeps the left half.
"""

from __future__ import annotations

import argparse
import base64
import io
from pathlib import Path

from openai import OpenAI
from PIL import Image, ImageChops


def main() -> None:
    options = arguments()
    options.output.mkdir(parents=True, exist_ok=True)
    client = OpenAI(base_url=f"{options.url}/v1", api_key=options.api_key)
    picture = draw(client, options.model, options.prompt, options.seed, options.output)
    edit(client, options.model, options.edit, picture, options.output)


def draw(client: OpenAI, model: str, prompt: str, seed: int, folder: Path) -> bytes:
    """Generate with previews, each of which is what the model thinks, so far, that the image will be."""
    events = client.images.generate(
        model=model, prompt=prompt, stream=True, partial_images=3, extra_body={"seed": seed, "steps": 20}
    )
    picture = b""
    for event in events:
        data = base64.b64decode(event.b64_json)
        extra = event.model_extra or {}  # what Castalia adds to OpenAI's fields
        if event.type == "image_generation.partial_image":
            path = folder / f"preview-{event.partial_image_index + 1}.png"
            print(f"{path}: after step {extra['step']} of {extra['steps']}")
        else:
            path, picture = folder / "image.png", data
            print(f"{path}: seed {extra['seed']}, sha256 {extra['sha256']}")
        path.write_bytes(data)
    return picture


def edit(client: OpenAI, model: str, prompt: str, picture: bytes, folder: Path) -> None:
    """Draw the right half anew, and check that not one pixel of the left half changed."""
    before = Image.open(io.BytesIO(picture)).convert("RGB")
    left = (0, 0, before.width // 2, before.height)
    mask = Image.new("RGBA", before.size, (0, 0, 0, 0))  # transparent: may change
    mask.paste((0, 0, 0, 255), left)
    answer = client.images.edit(
        model=model, prompt=prompt, image=("image.png", picture), mask=("mask.png", png(mask)), extra_body={"seed": 1}
    )
    (edited,) = answer.data or ()
    data = base64.b64decode(edited.b64_json or "")
    path = folder / "edited.png"
    path.write_bytes(data)
    after = Image.open(io.BytesIO(data)).convert("RGB")
    change = ImageChops.difference(before, after)
    if change.crop(left).getbbox() is not None:
        raise SystemExit("the masked half changed")
    print(f"{path}: the kept half is the same, pixel by pixel; changed within {change.getbbox()}")


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Generate an image with previews, then edit half of it.")
    parser.add_argument("prompt", nargs="?", default="red heart")
    parser.add_argument("--edit", default="green apple", help="what to draw in the right half")
    parser.add_argument("--model", default="emoji-diffusion")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--output", type=Path, default=Path())
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--api-key", default="none")
    return parser.parse_args()


if __name__ == "__main__":
    main()
