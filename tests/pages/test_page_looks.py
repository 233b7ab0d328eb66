"""The pages in a real Chromium: themes, contrast and telephones, and what nobody can make them do."""

from __future__ import annotations

import http.server
import re
import threading
from typing import Any

import numpy as np
import pytest
from kit.browsing import NEEDS_BROWSER
from kit.made_pages import CASES, EVIL

pytestmark = NEEDS_BROWSER


def test_theme_follows_the_system_until_the_reader_chooses(reader, pages):
    from selenium.webdriver.support.ui import WebDriverWait

    def ground() -> int:
        colour = reader.run("return getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in re.findall(r"\d+", colour)[:3])

    def system(value: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": value}]
        reader.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def button_says(words: str) -> None:
        # The page hears of the system's change a moment after it is drawn anew.
        WebDriverWait(reader.browser, 5, 0.02).until(lambda _: reader.text("#theme") == words)

    for name in ("board", "run"):
        reader.open(pages[name])
        system("light")
        assert ground() > 700
        button_says("Dark theme")
        system("dark")
        assert ground() < 100
        button_says("Light theme")
        reader.one("#theme").click()
        assert ground() > 700
        reader.one("#theme").click()
        assert ground() < 100
        system("light")
        assert ground() < 100
        reader.check_quiet()


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.1."""
    parts = np.array([float(part) for part in re.findall(r"[\d.]+", colour)[:3]]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_text_and_marks_stand_out_in_both_themes(reader, pages):
    reader.open(pages["board"])
    reader.select("unet, early")
    for theme in ("light", "dark"):
        reader.run("document.documentElement.dataset.theme = arguments[0]", theme)
        ground = luminance(reader.run("return getComputedStyle(document.body).backgroundColor"))
        wanted = [
            (".muted", "color", 4.5),
            ("td", "color", 4.5),
            (".sort", "color", 4.5),
            (".tie", "color", 4.5),
        ]
        # The marks of early, hybrid and late fusion in the legend: circle, square, triangle.
        wanted += [(f".legend svg {shape}.mark", "fill", 3.0) for shape in ("circle", "rect", "path")]
        for selector, what, least in wanted:
            code = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
            own = luminance(reader.run(code, selector, what))
            contrast = (max(own, ground) + 0.05) / (min(own, ground) + 0.05)
            assert contrast >= least, (theme, selector, contrast)


def test_a_telephone_scrolls_tables_not_the_page(reader, pages):
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    for name in ("board", "run"):
        reader.open(pages[name])
        reader.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
        reader.browser.get(pages[name])
        assert reader.run("return innerWidth") == 360
        assert reader.overflow() <= 0
        if name == "board":
            # Rank, name and score are in sight without scrolling the table.
            assert (
                reader.run("return document.querySelector('.board .dsc').getBoundingClientRect().right") < 350
            )
            reader.run(
                "document.querySelectorAll('#table-1 .board input').forEach((box, i) => i < 2 && box.click())"
            )
            assert len(reader.all("#table-1 .detail .mark.difference")) == len(CASES)
            assert reader.overflow() <= 0
            box = reader.one("#table-1 .scroll")
            assert reader.run("return arguments[0].scrollWidth > arguments[0].clientWidth", box)
        widest = reader.run(
            "return Math.max(...[...document.querySelectorAll('.plot svg')].map((one) => one.clientWidth))"
        )
        assert 250 < widest <= 360
    reader.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_names_of_others_are_text_and_nothing_else(reader, pages):
    from selenium.common.exceptions import NoAlertPresentException

    for name in ("board", "run"):
        reader.open(pages[name])
        if name == "board":
            assert f"{EVIL}, early" in reader.rows()
            reader.run("document.querySelector('#table-1 .board input[aria-label*=img]').click()")
            assert EVIL in reader.text("#table-1 .detail h3")
        else:
            assert EVIL in reader.text("h1")
            assert EVIL in reader.text("tbody")
        assert reader.all("img[onerror]") == []
        assert reader.all("img:not([src^='data:'])") == []
        with pytest.raises(NoAlertPresentException):
            _ = reader.browser.switch_to.alert.text
        reader.check_quiet()


def test_the_policy_lets_nothing_out_and_no_other_code_in(reader, pages):
    hits: list[str] = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hits.append(self.path)
            self.send_response(200)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()

        def log_message(self, *words: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"http://127.0.0.1:{server.server_port}"
    try:
        reader.open(pages["board"])
        reader.browser.set_script_timeout(10)
        outcome = reader.browser.execute_async_script(
            """
            const [host, done] = arguments;
            const said = [];
            addEventListener("securitypolicyviolation", (event) => said.push(event.effectiveDirective));
            const image = new Image();
            const tried = () => fetch(host + "/fetch").then(() => "out", () => "refused");
            image.onerror = image.onload = () => tried().then((word) => {
              const script = document.createElement("script");
              script.textContent = "window.intruder = true";
              document.body.append(script);
              const style = document.createElement("link");
              style.rel = "stylesheet";
              style.href = host + "/style.css";
              document.head.append(style);
              setTimeout(() => done([word, window.intruder === true, said.sort()]), 200);
            });
            image.src = host + "/image.png";
            """,
            host,
        )
        assert outcome[:2] == ["refused", False]
        assert {"connect-src", "img-src", "script-src-elem", "style-src-elem"} <= set(outcome[2])
        assert hits == []
        # The server does answer one who may ask.
        import urllib.request

        urllib.request.urlopen(f"{host}/control", timeout=5).close()
        assert hits == ["/control"]
    finally:
        server.shutdown()
        server.server_close()
        reader.browser.get_log("browser")
