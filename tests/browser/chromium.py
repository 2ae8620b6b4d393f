"""Owns how Debian's Chromium is started, and the visits it makes: a theme, a width, a fresh context each."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal

from playwright.sync_api import Browser, BrowserContext, sync_playwright

Theme = Literal["light", "dark"]
PHONE, DESKTOP = 390, 1280  # widths
HEIGHTS = {PHONE: 844, DESKTOP: 900}
PATIENCE_MS = 120_000  # the first request wakes a model


class ChromiumMissing(Exception):
    def __init__(self) -> None:
        super().__init__("found no chromium: sudo tests/browser/install")


@contextmanager
def chromium() -> Generator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        raise ChromiumMissing
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's sandbox refuses root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=as_root)
        try:
            yield browser
        finally:
            browser.close()


def visit(browser: Browser, *, theme: Theme = "light", width: int = DESKTOP, scale: float = 1) -> BrowserContext:
    context = browser.new_context(
        color_scheme=theme, viewport={"width": width, "height": HEIGHTS[width]}, device_scale_factor=scale
    )
    context.set_default_timeout(PATIENCE_MS)
    return context
