"""A browser without a window, and what a test sees on the page."""

import io
import json
import os
from contextlib import contextmanager

from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from world import wait_for

# What is on the page, in one question: a browser is asked for each element over HTTP otherwise.
FIGURES = """
const value = (element, what) => { const found = element.querySelector(what); return found ? found.getAttribute("value") : null; };
const exact = (cell) => { const data = cell.querySelector("data"); return data ? data.getAttribute("value") : null; };
return {
    batch: value(document, "#shown"), customers: value(document, "#customers"),
    cells: Object.fromEntries([...document.querySelectorAll("#grid tbody td")].map((cell) => [
        cell.querySelector(".cell").id.slice(5), {
            segment: cell.querySelector(".g").textContent, customers: value(cell, ".n"), share: value(cell, ".s"),
            recency: value(cell, ".r"), frequency: value(cell, ".f"), monetary: value(cell, ".m") }])),
    segments: Object.fromEntries([...document.querySelectorAll("#segments tbody tr")].map((row) => [
        row.querySelector("th").textContent, [...row.querySelectorAll("td")].map(exact)])),
    areas: [...document.querySelectorAll(".areas path")].map((path) => [path.textContent, path.getAttribute("d")]),
    matrix: [...document.querySelectorAll("#matrix tr")].map((row) => [...row.children].map((cell) => exact(cell) ?? cell.textContent)),
};"""


@contextmanager
def screen(width: int = 1600, dark: bool = False, scripts: bool = True, height: int = 1200):
    """A browser of this width."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars",
                 f"--window-size={max(width, 500)},{height}", "--lang=en"):
        options.add_argument(word)
    if not scripts:
        options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    try:
        # A window cannot be as narrow as a telephone.
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                               {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        yield driver
    finally:
        driver.quit()


def figures(driver) -> dict:
    """What the page shows."""
    return driver.execute_script(FIGURES)


def shows(driver, batch: int) -> None:
    """Waits until the page shows a batch."""
    wait_for(f"batch {batch} on the page", lambda: figures(driver)["batch"] == str(batch))


def find(driver, css: str) -> WebElement:
    return driver.find_element(By.CSS_SELECTOR, css)


def unfold(driver) -> bool:
    """Opens what is folded. Whether there is anything."""
    return driver.execute_script("const all = [...document.querySelectorAll('details')];"
                                 "all.forEach((details) => { details.open = true; }); return all.length > 0")


def complaints(driver) -> list[str]:
    """What the browser complained of: errors of scripts, and what the policy of the page forbids."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def axe(driver) -> list[str]:
    """What axe-core finds: rule, and where."""
    with open(os.environ["RFM_AXE"], encoding="utf-8") as source:
        # (The policy of the page does not concern what a debugger executes.)
        driver.execute_script(source.read())
    found = driver.execute_async_script("const done = arguments[0]; axe.run(document, {resultTypes: ['violations']})"
                                        ".then((found) => done(JSON.stringify(found)), (error) => done(JSON.stringify({error: String(error)})))")
    found = json.loads(found)
    assert "error" not in found, found
    return [f"{rule['id']}: {node['target']} {node.get('failureSummary', '')} {node['html'][:120]}"
            for rule in found["violations"] for node in rule["nodes"]]


def picture(driver, path: str) -> None:
    """Saves the top of the page, small enough for a repository."""
    metrics = {"width": 1420, "height": 1330, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    image = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    # (The usual method merges colours of few pixels, such as those of two segments.)
    image.quantize(255, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE).save(path, optimize=True)
    assert os.path.getsize(path) < 150_000, os.path.getsize(path)


def fits(driver) -> bool:
    """Whether nothing is wider than the window."""
    return driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
