"""A real Chromium for tests of pages: what a reader does with one, and what it then shows."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

NEEDS_BROWSER = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="no chromium or no chromedriver on PATH; install Debian's packages chromium and chromium-driver",
)

MINUS = "\N{MINUS SIGN}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from selenium import webdriver

    os.environ["SE_OFFLINE"] = "true"  # selenium looks for no driver of its own
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1280,900",
    ):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


class Reader:
    """What a reader does with a page, and what the page then shows."""

    def __init__(self, browser: Any) -> None:
        self.browser = browser

    def open(self, address: str) -> Reader:
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        self.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        self.browser.get_log("browser")
        self.browser.get_log("performance")
        self.browser.get(address)
        if self.run("const kept = localStorage.length; localStorage.clear(); return kept"):
            self.browser.refresh()
        return self

    def run(self, code: str, *values: Any) -> Any:
        return self.browser.execute_script(code, *values)

    def all(self, selector: str) -> list[Any]:
        return self.browser.find_elements("css selector", selector)

    def one(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).textContent", selector))

    def press(self, element: Any) -> None:
        self.run("arguments[0].scrollIntoView({block: 'center', inline: 'start'})", element)
        element.click()

    def rows(self, table: int = 1) -> list[str]:
        """Method and fusion of the rows that are visible, from the top."""
        return self.run(
            "return [...document.querySelectorAll(`#table-${arguments[0]} .board tbody tr`)]"
            ".filter((row) => row.offsetParent !== null).map((row) => row.querySelector('th')).map((head) =>"
            " head.firstChild.textContent + ', ' + head.nextSibling.textContent)",
            table,
        )

    def head(self, name: str) -> Any:
        code = (
            "return [...document.querySelectorAll('#table-1 .board thead th')]"
            ".find((head) => head.textContent === arguments[0])"
        )
        return self.run(code, name)

    def select(self, name: str) -> None:
        self.press(self.one(f"#table-1 input[aria-label='select {name}']"))

    def fact(self, name: str) -> str:
        return self.text(f"#table-1 [data-fact={name}]").replace(MINUS, "-")

    def overflow(self) -> int:
        return int(self.run("return document.documentElement.scrollWidth - innerWidth"))

    def check_quiet(self) -> None:
        """The console is empty, and nothing but the page itself was asked for."""
        assert self.browser.get_log("browser") == []
        asked = [
            message["params"]["request"]["url"]
            for entry in self.browser.get_log("performance")
            if (message := json.loads(entry["message"])["message"])["method"] == "Network.requestWillBeSent"
        ]
        assert asked, "the log of requests is not switched on"
        assert {url for url in asked if not url.startswith("data:")} == {self.browser.current_url}


@pytest.fixture
def reader(browser: Any) -> Reader:
    return Reader(browser)
