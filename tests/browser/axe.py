"""Owns asking axe-core what keeps people out of a page. `tests/browser/install` puts its one file where it is read."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from playwright.sync_api import Page

AXE = Path("/var/cache/castalia/axe-core-4.14.1/axe.min.js")


class AxeMissing(Exception):
    def __init__(self) -> None:
        super().__init__(f"found no {AXE}: sudo tests/browser/install")


@cache
def _script() -> str:
    if not AXE.is_file():
        raise AxeMissing
    return AXE.read_text()


def violations(page: Page) -> list[str]:
    """By all of its rules. The script comes by the debugger: the page's policy would refuse a tag."""
    page.evaluate(_script())
    found = page.evaluate("async () => (await axe.run()).violations")
    return [f"{each['id']}: {each['help']}: {[node['target'] for node in each['nodes']]}" for each in found]
