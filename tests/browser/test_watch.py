"""What the other tests stand on: a page that does what it must not is noticed."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.axe import violations
from tests.browser.chromium import visit
from tests.browser.watch import Watch

MISDEEDS = [
    ("console.error('amiss')", "console error: amiss"),
    ("setTimeout(() => { throw new Error('amiss') })", "uncaught: amiss"),
    ("document.body.append(Object.assign(new Image(), { src: 'http://127.0.0.2:9/' }))", "policy: img-src refused"),
    ("document.body.setAttribute('style', 'color: red')", "policy: style-src-attr refused"),
    ("setTimeout(() => location.assign('http://127.0.0.2:9/'))", "request to another host: http://127.0.0.2:9/"),
    ("fetch('/v1/models/none')", "console error: Failed to load resource"),
]


@contextmanager
def watched(browser: Browser, url: str) -> Generator[tuple[Page, Watch]]:
    context = visit(browser)
    watch = Watch(context, url)
    page = context.new_page()
    page.goto(f"{url}/fleet")
    page.get_by_test_id("services").wait_for()
    yield page, watch
    context.close()


@pytest.mark.parametrize(("script", "problem"), MISDEEDS)
def test_what_a_page_must_not_do_is_noticed(browser: Browser, url: str, script: str, problem: str) -> None:
    with watched(browser, url) as (page, watch):
        assert watch.problems == []
        page.evaluate(f"() => {{ {script} }}")
        page.wait_for_timeout(1000)
    assert any(each.startswith(problem) for each in watch.problems), watch.problems


def test_axe_finds_a_field_without_a_name(browser: Browser, url: str) -> None:
    with watched(browser, url) as (page, _):
        page.evaluate("() => document.querySelector('main').append(document.createElement('input'))")
        assert [found for found in violations(page) if found.startswith("label")]
