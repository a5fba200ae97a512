"""The page of a reader in a real browser: its figures are those of the rows, it lives, and anybody can use it.

`scripts/test page` says where things are: RFM_KAFKA, RFM_POSTGRES, RFM_READER, RFM_PRODUCER, RFM_SHOP (the example shop)
and RFM_AXE (axe-core). With RFM_SCREENS, pictures of what the tests look at are written to that folder.
"""

import os
import random
import re
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from urllib.parse import urlencode

from selenium.webdriver.common.keys import Keys

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "python")]

import cdnow  # noqa: E402
from screen import axe, complaints, figures, find, fits, picture, screen, shows, unfold  # noqa: E402
from world import CELLS, MOVES, SEGMENTS, World, wait_for  # noqa: E402

HOSTILE = {
    "script": "<script>document.title='caught'</script>",
    "quotes": "\"quotes' & <b>&amp;</b> '\">",
    "right to left": "\u202e\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f3f4\U000e0067\U000e0062",
    "long": "10 000 characters " + "\u00fc\U0001f600x" * 3327,
}


def random_batch(rng: random.Random, customers: int) -> list[list[float]]:
    """Three columns, of which some have ties, refunds, or very large values."""
    column = lambda: rng.choice([
        lambda: [float(rng.randrange(9)) for _ in range(customers)],
        lambda: [rng.uniform(-50, 1e6) for _ in range(customers)],
        lambda: [rng.lognormvariate(3, 2) for _ in range(customers)],
    ])()
    return [column() for _ in range(3)]


class Figures(unittest.TestCase):
    """Numbers on the page equal SQL over `segments`."""

    def equal(self, shown: str | None, computed, where) -> None:
        if computed is None:
            self.assertIn(shown, (None, ""), where)
        else:
            self.assertAlmostEqual(float(shown), float(computed), delta=1e-9 * max(1.0, abs(float(computed))), msg=str(where))

    def check_batch(self, world: World, driver, batch: int, before: int | None) -> None:
        driver.get(f"{world.address}/?batch={batch}")
        seen = figures(driver)
        [(customers,)] = world.rows("SELECT customers FROM batches WHERE id = %(batch)s", batch=batch)
        self.assertEqual((seen["batch"], seen["customers"]), (str(batch), str(customers)))
        cells = {score: row for score, *row in world.rows(CELLS, batch=batch)}
        self.assertEqual(len(seen["cells"]), 25)
        for score, cell in seen["cells"].items():
            segment, count, *means = cells.get(score, (cell["segment"], 0, None, None, None))
            self.assertEqual((cell["segment"], cell["customers"]), (segment, str(count)), (batch, score))
            self.equal(cell["share"], count / customers, (batch, score))
            for name, mean in zip(("recency", "frequency", "monetary"), means):
                self.equal(cell[name], mean, (batch, score, name))
        segments = {segment: row for segment, *row in world.rows(SEGMENTS, batch=batch)}
        earlier = {segment: row for segment, *row in world.rows(SEGMENTS, batch=before)} if before else {}
        self.assertLessEqual(set(segments), set(seen["segments"]))
        for segment, row in seen["segments"].items():
            count, change, share, shift, recency, frequency, monetary, monetary_share = row
            now = segments.get(segment, (0, 0.0, None, None, 0.0, 0.0))
            for shown, computed in zip((count, share, recency, frequency, monetary, monetary_share), now):
                self.equal(shown, computed, (batch, segment))
            then = earlier.get(segment, (0, 0.0)) if before else (None, None)
            self.equal(change, None if before is None else now[0] - then[0], (batch, segment, "change"))
            self.equal(shift, None if before is None else now[1] - then[1], (batch, segment, "shift"))

    def check_areas(self, world: World, driver, batches: list[int]) -> None:
        """Each area begins and ends where the sums of the shares above it do."""
        driver.get(f"{world.address}/?batch={batches[-1]}")
        areas = figures(driver)["areas"]
        self.assertTrue(areas)
        tops = [0.0] * len(batches)
        shares = [{segment: row[1] for segment, *row in world.rows(SEGMENTS, batch=batch)} for batch in batches]
        for title, path in areas:
            name = title.split(":")[0]
            points = [tuple(map(float, point.split())) for point in path[1:-1].split("L")]
            upper, lower = points[: len(batches)], points[len(batches):][::-1]
            bottoms = [top + share.get(name, 0.0) for top, share in zip(tops, shares)]
            for (_, y), top in zip(upper, tops):
                self.assertAlmostEqual(y / 400, top, delta=0.001, msg=name)
            for (_, y), bottom in zip(lower, bottoms):
                self.assertAlmostEqual(y / 400, bottom, delta=0.001, msg=name)
            tops = bottoms
        self.assertTrue(all(abs(top - 1) < 1e-9 for top in tops))

    def check_moves(self, world: World, driver, before: int, after: int) -> None:
        driver.get(f"{world.address}/?{urlencode({'batch': after, 'since': before})}")
        head, *rows = figures(driver)["matrix"]
        none = {"(new)": None, "(gone)": None}
        seen = {(none.get(row[0], row[0]), none.get(column, column)): int(count)
                for row in rows for column, count in zip(head[1:-1], row[1:-1]) if count != "·"}
        self.assertEqual(seen, {(a, b): count for a, b, count in world.rows(MOVES, before=before, after=after)})

    def check_all(self, world: World, batches: list[int], moves: bool) -> None:
        with screen() as driver:
            for before, batch in zip([None, *batches], batches):
                self.check_batch(world, driver, batch, before)
            self.check_areas(world, driver, batches[-60:])
            for before, after in [(batches[0], batches[-1]), (batches[-2], batches[-1])] if moves else []:
                self.check_moves(world, driver, before, after)
            self.assertEqual(complaints(driver), [])

    def test_random_batches(self):
        seed = random.randrange(2**31)
        rng = random.Random(seed)
        world = World("figures")
        self.addCleanup(world.close)
        for day in range(1, 9):
            customers = rng.choice([1, 7, 100, 3000])
            ids = [str(i) for i in rng.sample(range(customers * 2), customers)]
            world.send(f"2026-01-{day:02}T00:00:00Z", random_batch(rng, customers), ids)
        with self.subTest(seed=seed):
            self.check_all(world, world.batches(8), moves=True)

    def test_cdnow(self):
        world = World("cdnow")
        self.addCleanup(world.close)
        cache = Path(__file__).parents[2] / "target" / "python" / "cdnow"
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "orders.csv")
            cdnow.orders(cache).to_csv(file, index=False)
            columns = "customer=customer_id,time=date,amount=dollar_value"
            world.produce("--orders", str(file), "--orders-columns", columns, "--as-of", cdnow.MONTHS)
        self.check_all(world, world.batches(18), moves=True)

    def test_the_shop(self):
        world = World("shop")
        self.addCleanup(world.close)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "orders.csv")
            with open(file, "w", encoding="utf-8") as out:
                shop = [os.environ["RFM_SHOP"], "--customers", "8000" if "RFM_PICTURE" in os.environ else "2000", "--from", "2024-01-01", "--to", "2026-01-01"]
                subprocess.run(shop, stdout=out, check=True)
            world.produce("--orders", str(file), "--as-of", "2024-02-01..2026-01-01/1mo")
        batches = world.batches(24)
        self.check_all(world, batches, moves=True)
        if path := os.environ.get("RFM_PICTURE"):
            with screen() as driver:
                driver.get(f"{world.address}/?{urlencode({'since': batches[-13]})}")
                shows(driver, batches[-1])
                picture(driver, path)


class Use(unittest.TestCase):
    """What people do with the page."""

    @classmethod
    def setUpClass(cls):
        cls.world = World("use")
        cls.addClassCleanup(cls.world.close)
        rng = random.Random(3)
        cls.sent = 0
        for population in (None, "Köln & Süd", "zebra"):
            for day in range(1, 4):
                cls.world.send(f"2026-01-{day:02}T00:00:00Z", random_batch(rng, 300), [str(i) for i in range(300)], population)
                cls.sent += 1
        cls.world.batches(cls.sent)

    def newest(self, population: str | None) -> int:
        query = "SELECT id FROM batches WHERE population IS NOT DISTINCT FROM %(population)s ORDER BY as_of DESC LIMIT 1"
        [(id,)] = self.world.rows(query, population=population)
        return id

    def send(self, as_of: str, population: str | None = None) -> int:
        columns = random_batch(random.Random(as_of), 300)
        self.world.send(as_of, columns, [str(i) for i in range(50, 350)], population)
        type(self).sent += 1
        self.world.batches(self.sent)
        return self.newest(population)

    def test_a_new_snapshot_appears_within_two_seconds_without_reloading(self):
        with screen() as driver:
            driver.get(self.world.address)
            shows(driver, self.newest(None))
            driver.execute_script("window.mark = 'not reloaded'; document.getElementById('cell-54').focus();")
            driver.execute_script("window.scrollTo(0, 300)")
            took = []
            for day in range(10, 15):
                batch = self.send(f"2026-01-{day}T00:00:00Z")
                begun = time.monotonic()
                shows(driver, batch)
                took.append(time.monotonic() - begun)
            print(f"from the commit to the page: {max(took):.2f} s at most of {len(took)}")
            # (Of a machine that is busy, only the median is judged, and the deadline stretches.)
            if (median := sorted(took)[len(took) // 2]) >= 2:
                allowed = subprocess.run(["scripts/slowness", "2"], check=True, capture_output=True, text=True).stdout
                self.assertLess(median, float(allowed))
            self.assertEqual(driver.execute_script("return window.mark"), "not reloaded")
            self.assertEqual(driver.switch_to.active_element.get_attribute("id"), "cell-54", "the focus stays")
            self.assertEqual(driver.execute_script("return Math.round(window.scrollY)"), 300, "the place stays")
            news = find(driver, "#news[role=status]")
            batch = self.send("2026-01-15T00:00:00Z")
            wait_for("a word for those who hear the page", lambda: "New: " in news.get_attribute("textContent"))
            self.assertLessEqual(news.size["width"] * news.size["height"], 1, "nobody else has it before the figures")
            wait_for("silence", lambda: not news.get_attribute("textContent"))
            shows(driver, batch)
            self.assertEqual(complaints(driver), [])

    def test_a_list_that_has_the_focus_does_not_hold_new_figures_back_unless_it_may_be_open(self):
        with screen() as driver:
            driver.get(f"{self.world.address}/?population=zebra")
            shows(driver, self.newest("zebra"))
            # By script: an open list of this browser takes all keys.
            driver.execute_script("document.getElementById('batch').focus()")
            shows(driver, self.send("2026-04-01T00:00:00Z", "zebra"))
            self.assertEqual(driver.switch_to.active_element.get_attribute("id"), "batch", "the focus stays")
            before = figures(driver)["batch"]
            driver.execute_script("document.getElementById('batch').dispatchEvent(new PointerEvent('pointerdown', {bubbles: true}))")
            began = time.monotonic()
            batch = self.send("2026-04-02T00:00:00Z", "zebra")
            stored = time.monotonic()
            shows(driver, batch)
            if stored - began < 5:
                self.assertGreater(time.monotonic() - began, 8, f"the list with {before} closes")
            driver.execute_script("const list = document.getElementById('batch'); list.focus();"
                                  "list.dispatchEvent(new PointerEvent('pointerdown', {bubbles: true})); list.blur()")
            batch = self.send("2026-04-03T00:00:00Z", "zebra")
            begun = time.monotonic()
            shows(driver, batch)
            self.assertLess(time.monotonic() - begun, 6, "the list has been left")

    def test_an_older_snapshot_stays_when_a_new_one_comes(self):
        with screen() as driver:
            [(older,)] = self.world.rows("SELECT id FROM batches WHERE population = 'zebra' ORDER BY as_of LIMIT 1")
            driver.get(f"{self.world.address}/?population=zebra&batch={older}")
            shows(driver, older)
            batch = self.send("2026-02-01T00:00:00Z", "zebra")
            wait_for("the new one in the list", lambda: str(batch) in [
                option.get_attribute("value") for option in driver.find_elements("css selector", "#batch option")], 30)
            shows(driver, older)
            # In one step: between finding and clicking it, the link may be exchanged.
            driver.execute_script("document.querySelector('#choose a').click()")
            shows(driver, batch)

    def test_population_snapshot_and_movements_are_chosen_with_the_keyboard_alone_and_without_scripts(self):
        for scripts in (True, False):
            with self.subTest(scripts=scripts), screen(scripts=scripts) as driver:
                driver.get(self.world.address)
                active = lambda: driver.switch_to.active_element
                press = lambda *keys: active().send_keys(*keys)

                def go_to(id: str):
                    for _ in range(80):
                        driver.switch_to.active_element.send_keys(Keys.TAB)
                        if active().get_attribute("id") == id:
                            return
                    self.fail(f"the Tab key does not lead to {id}")

                find(driver, "body").send_keys(Keys.TAB)
                self.assertEqual(active().get_attribute("class"), "skip")
                go_to("population")
                press("K")
                press(Keys.TAB)
                press(Keys.ENTER)
                wait_for("Köln", lambda: "population=K" in driver.current_url)
                self.assertIn("Köln & Süd", find(driver, "#overview-title").text)
                go_to("batch")
                press("2026-01-02")
                press(Keys.TAB)
                press(Keys.ENTER)
                wait_for("the older snapshot", lambda: "batch=" in driver.current_url)
                self.assertIn("2026-01-02", find(driver, "#overview-title").text)
                self.assertIn("Köln & Süd", find(driver, "#overview-title").text)
                go_to("since")
                press(Keys.TAB)
                press(Keys.ENTER)
                wait_for("the movements", lambda: driver.find_elements("css selector", "#matrix table"))
                shown = int(find(driver, "#shown").get_attribute("value"))
                [before] = re.findall(r"since=(\d+)", driver.current_url)
                expected = sum(count for a, _, count in self.world.rows(MOVES, before=int(before), after=shown) if a)
                there = find(driver, "#matrix p data").get_attribute("value")
                self.assertEqual(there, str(expected), "customers of the snapshot before")

    def test_the_meaning_of_the_segments_is_unfolded_with_the_keyboard_and_stays_when_a_new_snapshot_comes(self):
        for scripts in (True, False):
            with self.subTest(scripts=scripts), screen(360, scripts=scripts) as driver:
                driver.get(f"{self.world.address}/?population=zebra")
                details = lambda: find(driver, "#meanings-details")
                self.assertIsNone(details().get_attribute("open"))
                for _ in range(80):
                    driver.switch_to.active_element.send_keys(Keys.TAB)
                    if driver.switch_to.active_element.get_attribute("id") == "meanings-summary":
                        break
                driver.switch_to.active_element.send_keys(Keys.ENTER)
                self.assertIsNotNone(details().get_attribute("open"))
                self.assertIn("RF 54, 55", details().text)
                self.assertTrue(fits(driver))
                if not scripts:
                    continue
                for day in (1, 2):
                    shows(driver, self.send(f"2026-05-0{day}T00:00:00Z", "zebra"))
                    self.assertIsNotNone(details().get_attribute("open"), "it stays open")
                    self.assertEqual(driver.switch_to.active_element.get_attribute("id"), "meanings-summary", "the focus stays")
                driver.switch_to.active_element.send_keys(Keys.ENTER)
                shows(driver, self.send("2026-05-03T00:00:00Z", "zebra"))
                self.assertIsNone(details().get_attribute("open"), "it stays closed")
                self.assertEqual(complaints(driver), [])

    def test_what_is_pressed_while_a_new_snapshot_comes_is_clicked_all_the_same(self):
        from selenium.webdriver import ActionChains
        with screen(1600) as driver:
            driver.get(f"{self.world.address}/?population=zebra")
            summary = find(driver, "#meanings-summary")
            driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", summary)
            ActionChains(driver).click_and_hold(summary).perform()
            newest = self.send("2026-05-04T00:00:00Z", "zebra")
            asked = lambda: driver.execute_script("return performance.getEntriesByType('resource').length")
            before = asked()
            wait_for("the page to ask twice", lambda: asked() >= before + 2)
            ActionChains(driver).release().perform()
            self.assertIsNotNone(find(driver, "#meanings-details").get_attribute("open"))
            shows(driver, newest)
            self.assertEqual(complaints(driver), [])

    def test_a_cell_says_its_means_at_the_pointer_and_by_keyboard(self):
        for width in (1600, 360):
            with self.subTest(width=width), screen(width) as driver:
                driver.get(f"{self.world.address}/?population=zebra")
                tip = find(driver, "#tip-33")
                self.assertFalse(tip.is_displayed())
                driver.execute_script("document.getElementById('cell-33').focus()")
                self.assertTrue(tip.is_displayed())
                self.assertIn("Means: recency", tip.text)
                driver.switch_to.active_element.send_keys(Keys.ARROW_UP)
                self.assertEqual(driver.switch_to.active_element.get_attribute("id"), "cell-43")
                driver.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
                self.assertTrue(find(driver, "#tip-44").is_displayed())
                from selenium.webdriver import ActionChains
                cell = find(driver, "#cell-11")
                driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", cell)
                ActionChains(driver).move_to_element(cell).perform()
                self.assertTrue(find(driver, "#tip-11").is_displayed())
                self.assertFalse(find(driver, "#tip-44").is_displayed(), "one at a time")

    def test_a_choice_that_was_not_sent_yet_survives_a_new_snapshot(self):
        with screen() as driver:
            driver.get(f"{self.world.address}/?population=zebra")
            select = find(driver, "#population")
            select.send_keys("K")
            driver.execute_script("document.activeElement.blur()")
            batch = self.send("2026-03-01T00:00:00Z", "zebra")
            shows(driver, batch)
            self.assertEqual(find(driver, "#population").get_attribute("value"), "Köln & Süd")

    def test_a_reader_that_is_gone_is_said_and_its_figures_stay(self):
        world = World("gone")
        world.send("2026-01-01T00:00:00Z", random_batch(random.Random(1), 10))
        [batch] = world.batches(1)
        with screen() as driver:
            driver.get(world.address)
            shows(driver, batch)
            world.close()
            wait_for("a word", lambda: "does not answer" in find(driver, "#news").text)
            self.assertEqual(figures(driver)["batch"], str(batch))


class Texts(unittest.TestCase):
    """Text from outside is text."""

    def test_hostile_names(self):
        with tempfile.NamedTemporaryFile("w", suffix=".map", encoding="utf-8") as map:
            map.write("[12]. <script>document.title='caught'</script>\n[34]. \"a' & \u202eb\n5. " + "best\U0001f600" * 2000 + "\n")
            map.flush()
            world = World("texts", "--segment-map", map.name)
        self.addCleanup(world.close)
        for number, name in enumerate(HOSTILE.values()):
            for day in (1, 2):
                world.send(f"2026-01-{day:02}T00:00:00Z", random_batch(random.Random(number), 50), [f"<i>{i}" for i in range(50)], name)
        batches = world.batches(2 * len(HOSTILE))
        for width in (360, 1600):
            with screen(width) as driver:
                driver.get(world.address)
                wait_for("all populations", lambda: len(driver.find_elements("css selector", "#population option")) == len(HOSTILE))
                values = [option.get_attribute("value") for option in driver.find_elements("css selector", "#population option")]
                for value in values:
                    with self.subTest(width=width, name=value[:30]):
                        driver.get(f"{world.address}/?{urlencode({'population': value})}")
                        before, after = world.rows(
                            "SELECT id FROM batches WHERE population = (SELECT population FROM batches WHERE id = %(batch)s) ORDER BY as_of",
                            batch=figures(driver)["batch"])
                        driver.get(f"{world.address}/?{urlencode({'population': value, 'since': before[0]})}")
                        seen = figures(driver)
                        self.assertEqual(len(seen["segments"]), 3)
                        self.assertTrue(seen["matrix"])
                        self.assertNotIn("caught", driver.title)
                        self.assertEqual(driver.find_elements("css selector", "main script, main b, main i, main img"), [])
                        name = find(driver, "#overview-title bdi").text
                        self.assertTrue(any(hostile.startswith(name.rstrip("…")) for hostile in HOSTILE.values()), name)
                        unfold(driver)
                        self.assertTrue(fits(driver))
                        self.assertEqual(axe(driver), [])
                        self.assertEqual(complaints(driver), [])
        self.assertEqual(len(batches), 2 * len(HOSTILE))


class Looks(unittest.TestCase):
    """At both widths and in both schemes: nothing is wider than the window, and axe-core finds nothing."""

    def look(self, name: str, address: str) -> None:
        for width in (360, 1600):
            for dark in (False, True):
                with self.subTest(name=name, width=width, dark=dark), screen(width, dark) as driver:
                    driver.get(address)
                    wait_for("the page", lambda: driver.find_elements("css selector", "#snapshot section"))
                    if folder := os.environ.get("RFM_SCREENS"):
                        height = driver.execute_script("return document.documentElement.scrollHeight")
                        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
                        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
                        driver.save_screenshot(f"{folder}/{name}-{width}-{'dark' if dark else 'light'}.png")
                    self.assertTrue(fits(driver), "something is wider than the window")
                    if width == 1600:
                        hidden = driver.execute_script(
                            "const box = document.querySelector('#segments .scroll'); return box ? box.scrollWidth - box.clientWidth : 0")
                        self.assertLessEqual(hidden, 0, "a column of the segments is hidden")
                    self.assertEqual(axe(driver), [])
                    if unfold(driver):
                        if folder := os.environ.get("RFM_SCREENS"):
                            find(driver, "#meanings").screenshot(f"{folder}/{name}-meanings-{width}-{'dark' if dark else 'light'}.png")
                        self.assertTrue(fits(driver), "the meaning of a segment is wider than the window")
                        self.assertEqual(axe(driver), [])
                    self.assertEqual(complaints(driver), [])

    def test_from_no_snapshot_to_sixty(self):
        world = World("looks")
        self.addCleanup(world.close)
        wait_for("the tables", lambda: "took partition" in world.said())
        self.look("empty", world.address)
        rng = random.Random(7)
        rows = [(f"C{i}", rng.randrange(365), 1 + int(rng.expovariate(0.4)), rng.lognormvariate(4, 1)) for i in range(4000)]
        for week in range(60):
            # Customers come, buy and stay away.
            rows = [(id, 0 if (buys := rng.random() < 0.08 + 0.01 * (f > 3)) else r + 7, f + buys, m + buys * rng.lognormvariate(3, 1))
                    for id, r, f, m in rows if r < 700] + [(f"N{week}-{i}", rng.randrange(7), 1, rng.lognormvariate(3, 1)) for i in range(60)]
            columns = [[float(row[place]) for row in rows] for place in (1, 2, 3)]
            as_of = time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime(1735689600 + week * 604800))
            world.send(as_of, columns, [row[0] for row in rows])
            if week == 0:
                world.batches(1)
                self.look("one", f"{world.address}/?x")
        batches = world.batches(60)
        self.look("sixty", f"{world.address}/?{urlencode({'since': batches[-13]})}")
        for population in ("Berlin", "Köln & Süd"):
            world.send("2026-05-01T00:00:00Z", [column[:500] for column in columns], [row[0] for row in rows][:500], population)
        world.batches(62)
        self.look("three", f"{world.address}/?{urlencode({'population': 'Berlin'})}")
        self.look("older", f"{world.address}/?batch={batches[20]}&since={batches[2]}")
        for second in ("00.25", "00.750001"):
            world.send(f"2026-05-02T12:00:{second}Z", [column[:500] for column in columns], None, "nameless")
        earlier, _ = world.batches(64)[-2:]
        self.look("nameless", f"{world.address}/?{urlencode({'population': 'nameless', 'since': earlier})}")


if __name__ == "__main__":
    unittest.main(verbosity=2)
