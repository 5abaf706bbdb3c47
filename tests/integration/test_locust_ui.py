"""Locust's web UI in a real browser: a scenario is chosen, changed, watched and stopped."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright

from .servers import BrokerServer
from .test_simulator import Simulator, Tap, start, tap

__all__ = ["tap"]

CHANGES = (
    "stages.0.seconds=3; stages.1.seconds=5m; "
    "events=[{at: morning+2s, kind: drop, share: 0.5}]; wear.cars=2"
)
_SHOWN_MS = 20_000


def chromium() -> str:
    """The machine's browser."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.fail("No browser is on the PATH. On Debian: apt-get install chromium")


@pytest.fixture
async def simulator(
    own_mosquitto: BrokerServer, tap: Tap, tmp_path: Path
) -> AsyncIterator[Simulator]:
    running = await start(own_mosquitto, tmp_path / "simulator", clock="0/0/1")
    yield running
    await running.http.close()
    for one in (running.master, *running.workers):
        one.stop()


@pytest.fixture
async def page(simulator: Simulator) -> AsyncIterator[Page]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox"]
        )
        page = await browser.new_page(viewport={"width": 1500, "height": 900})
        await page.goto(f"http://{simulator.settings.web_host}:{simulator.settings.web_port}/")
        yield page
        await browser.close()


async def shown(page: Page, tab: str, *texts: str) -> str:
    """The text of a tab, once it shows everything that is asked for."""
    await page.get_by_role("tab", name=tab, exact=True).click()
    for text in texts:
        await page.get_by_text(text).first.wait_for(timeout=_SHOWN_MS)
    body: str = await page.inner_text("body")
    return body


async def test_a_scenario_is_chosen_changed_and_watched_in_the_browser(
    simulator: Simulator, page: Page
) -> None:
    await page.get_by_text("Custom parameters").click()
    await page.locator("select[name=scenario]").select_option("rush-hour")
    await page.locator("input[name=scenarioCars]").fill("40")
    await page.locator("input[name=scenarioRamp]").fill("40")
    await page.locator("input[name=scenarioSet]").fill(CHANGES)

    # What workers were started with cannot change, and the page says so.
    await page.locator("input[name=scenarioQos]").fill("0")
    await page.get_by_role("button", name="Start").click()
    await page.get_by_text("publish.qos is 0, but the workers were started with 1").wait_for()
    await page.locator("input[name=scenarioQos]").fill("")
    await page.get_by_role("button", name="Start").click()

    await simulator.until(lambda fleet: (fleet["scenario"] or {}).get("stage") == "morning")
    await shown(page, "Stages", "night", "morning", "drop: 0.5 of the fleet", "40")
    assert "happened" in await page.inner_text("body")
    await shown(page, "Fleet", "Lost connections", simulator.settings.brokers[0])
    await shown(page, "Delivery", "Waiting in cars")
    await shown(page, "Latency", "p99.99", "due → PUBACK", "wanted → CONNACK", "generator's lag")
    await shown(page, "Faults", "coolant_leak")

    # Cars and interval can change while it is played.
    await page.get_by_role("button", name="Edit").click()
    await page.get_by_text("Custom parameters").click()
    for field in ("scenarioQos", "scenarioSet", "scenarioRamp"):
        await page.locator(f"input[name={field}]").fill("")
    await page.locator("input[name=scenarioCars]").fill("45")
    await page.locator("input[name=scenarioInterval]").fill("1s")
    await page.get_by_role("button", name="Update").click()
    fleet = await simulator.until(lambda fleet: fleet["connected"] == 45 and fleet["acked"] > 100)
    assert fleet["interval_s"] == 1

    await page.get_by_role("button", name="Stop").click()
    fleet = await simulator.until(
        lambda fleet: fleet["stopped"] and fleet["latency"]["puback"]["n"] == fleet["acked"]
    )
    scenario = fleet["scenario"]
    assert (scenario["done"], scenario["stopped"]) == (False, True)
    assert [one["name"] for one in scenario["stages"]] == ["ramp", "night", "morning"]
    assert [one["kind"] for one in scenario["events"]] == ["faults", "drop", "change"]
    assert fleet["valid"]
    assert fleet["disconnects"] > 0
