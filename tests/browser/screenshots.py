"""Makes README's pictures of a running fleet: `python -m tests.browser.screenshots --url URL --out docs/pictures`.

Seeds, the examples picked and how far the images have sharpened are fixed; what depends on the machine's pace is not.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Mapping
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser

from tests.browser.chromium import DESKTOP, PHONE, Theme, chromium, visit
from tests.browser.playground import Playground

THEMES: tuple[Theme, ...] = ("light", "dark")
SCALES = {PHONE: 2.0, DESKTOP: 1.0}  # pixels of the picture for one of the page
QUALITY = 75
SETTLE_MS = 500
CHAT = "smollm2-135m-instruct"
SEVEN = [(0.3, 0.25), (0.7, 0.25), (0.55, 0.5), (0.45, 0.8)]
# Holds drawings back after eight previews: two of each of four images.
HOLD = """
const ask = fetch;
globalThis.fetch = async (path, options) => {
  const response = await ask(path, options);
  if (path !== "/v1/images/generations") return response;
  let previews = 8;
  let last = 0;
  const hold = new TransformStream({
    transform(piece, pieces) {
      for (const [at, byte] of piece.entries()) {
        if (byte === 10 && last === 10 && --previews === 0) {
          pieces.enqueue(piece.subarray(0, at + 1));
          return new Promise(() => {});
        }
        last = byte;
      }
      pieces.enqueue(piece);
    },
  });
  return new Response(response.body.pipeThrough(hold), response);
};
"""
ASK = """(bodies) => bodies.forEach((body) => fetch("/v1/completions", {
  method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) }))"""
SHOW_RESULT = "() => document.querySelector('[data-testid=output]')?.scrollIntoView()"
SAME_EXAMPLE = "Math.random = () => 0.35;"


def chat(playground: Playground) -> None:
    playground.open(CHAT, "chat", seed=1)
    for question in ("What is the capital of France?", "Name three rivers of that country."):
        playground.at("message").fill(question)
        playground.run()
    playground.at("tokens").first.locator("span").nth(5).hover()


def sharpening(playground: Playground) -> None:
    playground.page.add_init_script(HOLD)
    playground.open("emoji-diffusion", "image", seed=7)
    playground.at("prompt").fill("red heart")
    playground.at("run").click()
    playground.page.wait_for_function(
        "() => document.querySelectorAll('[data-testid=image][alt*=\"after step\"]').length === 4"
    )


def likelihood(playground: Playground) -> None:
    playground.open("digits-flow", "score")
    playground.paint(SEVEN)
    playground.wait()


def music(playground: Playground) -> None:
    playground.open("dances-gru", "music", seed=3, bars=8, n=1)
    playground.run()


def molecules(playground: Playground) -> None:
    playground.open("molecules-lstm", "molecule", seed=1)
    playground.run()


def levels(playground: Playground) -> None:
    """The first of them, which is on the stage, can be solved."""
    playground.open("sokoban-pixelcnn", "level", seed=10)
    playground.run()


def forecast(playground: Playground) -> None:
    playground.page.add_init_script(SAME_EXAMPLE)
    playground.open("forecast-lstm", "forecast", seed=1)
    playground.at("example").click()
    playground.page.wait_for_function("() => !document.querySelector('[name=series]').value.startsWith('20\\n')")
    playground.run()


def fleet(playground: Playground) -> None:
    """With a little to do, so that the charts show something."""
    playground.open(CHAT, "chat")
    playground.at("nav-fleet").click()
    playground.at("services").wait_for()
    for chats in (1, 2, 4, 3, 1, 5, 6, 4, 2, 3):
        playground.page.evaluate(ASK, [{"model": CHAT, "prompt": "Once", "max_tokens": 24, "seed": 1}] * chats)
        playground.page.wait_for_timeout(2000)


PICTURES: Mapping[str, Callable[[Playground], None]] = {
    "chat": chat,
    "image": sharpening,
    "likelihood": likelihood,
    "music": music,
    "molecules": molecules,
    "levels": levels,
    "forecast": forecast,
    "fleet": fleet,
}


def take(browser: Browser, url: str, name: str, theme: Theme, width: int) -> bytes:
    """What the screen shows, as WebP."""
    context = visit(browser, theme=theme, width=width, scale=SCALES[width])
    page = context.new_page()
    PICTURES[name](Playground(page, url))
    if width == PHONE:
        page.evaluate(SHOW_RESULT)
    page.wait_for_timeout(SETTLE_MS)
    picture = Image.open(io.BytesIO(page.screenshot(animations="disabled")))
    context.close()
    packed = io.BytesIO()
    picture.convert("RGB").save(packed, "webp", quality=QUALITY, method=6)
    return packed.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="where the fleet is")
    parser.add_argument("--out", type=Path, required=True, help="the folder for the pictures")
    parser.add_argument("--only", nargs="*", choices=PICTURES, default=list(PICTURES), help="some of the tabs")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    total = 0
    with chromium() as browser:
        for name in arguments.only:
            take(browser, arguments.url, name, "light", DESKTOP)  # wakes the model
            for theme in THEMES:
                for width in (PHONE, DESKTOP):
                    data = take(browser, arguments.url, name, theme, width)
                    (arguments.out / f"{name}-{theme}-{width}.webp").write_bytes(data)
                    total += len(data)
    print(f"{total / 1e6:.2f} MB in {arguments.out}")  # noqa: T201


if __name__ == "__main__":
    main()
