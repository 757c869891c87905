"""The admin page, as somebody looks at it: real tasks on both brokers, and a real browser."""

import json
import re
import shutil
import threading
import uuid

import pytest
import redis
from axe_core_python.selenium import Axe
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from harness import (
    Producer,
    RabbitMQ,
    Redis,
    Tracehop,
    Worker,
    app_env,
    eventually,
    free_port,
    url_of,
)

VIEWS = ["#/flow", "#/workflows", "#/quality", "#/health"]


class Scene:
    """One proxy with a route to each broker, and what real tasks have left behind in it."""

    def __init__(self, directory):
        self.directory = directory
        self.redis = Redis(directory)
        self.rabbitmq = RabbitMQ(directory)
        self.collector = f"http://127.0.0.1:{free_port()}"  # which is not there
        port = free_port()
        self.hop = Tracehop(
            directory,
            self.redis.port,
            self.collector,
            TRACEHOP_ROUTES_RABBITMQ_LISTEN=f"127.0.0.1:{port}",
            TRACEHOP_ROUTES_RABBITMQ_UPSTREAM=url_of("rabbitmq", self.rabbitmq.port),
            TRACEHOP_SPANS_PROCESS="true",
            TRACEHOP_ADMIN_TRACE_URL="https://traces.example/{trace_id}",
        )
        self.page = f"http://127.0.0.1:{self.hop.admin}/"
        self.processes = []
        urls = {"redis": self.hop.url, "rabbitmq": url_of("rabbitmq", port)}
        apps = {system: self._app(system, url) for system, url in urls.items()}
        for worker, _ in apps.values():
            worker.ready()
        self.ids = {}
        for system, flow, more in (
            ("redis", "chain_with_retry", {}),
            ("redis", "link_error", {}),
            ("redis", "broken_context", {}),
            ("rabbitmq", "chain_with_retry", {}),
            ("rabbitmq", "countdown", {"seconds": 2}),
        ):
            answer = apps[system][1].order(flow, str(uuid.uuid4()), **more)
            self.ids[system, flow] = answer["id"]
        self._send_hostile_names()

    def _app(self, system, url):
        queue = f"queue-{system}"
        results = "rpc://" if system == "rabbitmq" else ""
        env = app_env(url, self.redis.url, queue, results=results)
        worker = Worker(self.directory, system, self.redis, env)
        producer = Producer(self.directory, system, env)
        self.processes += [producer, worker]
        return worker, producer

    def _send_hostile_names(self):
        """A message of a task and for a queue that are called like markup."""
        headers = {"task": MARKUP, "id": str(uuid.uuid4()), "origin": MARKUP, "lang": "py"}
        info = {"exchange": "", "routing_key": MARKUP}
        envelope = {
            "body": "W1tdLCB7fSwge31d",
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": headers,
            "properties": {"delivery_info": info, "delivery_tag": "1", "body_encoding": "base64"},
        }
        with redis.Redis(port=self.hop.port) as client:
            client.lpush(MARKUP, json.dumps(envelope))

    def close(self):
        for process in self.processes:
            process.signal(15)
        for process in [*self.processes, self.hop, self.rabbitmq, self.redis]:
            process.close()


MARKUP = "<img src=x onerror=alert(1)>"


class Browser:
    """A browser that looks at the page, with words for what a person does there."""

    def __init__(self, directory):
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for option in (
            "headless=new",
            "no-sandbox",
            "disable-gpu",
            "disable-quic",
            "no-first-run",
            "disable-background-networking",
            "disable-component-update",
            "disable-dev-shm-usage",
            "disable-sync",
            f"user-data-dir={directory / 'browser'}",
        ):
            options.add_argument(f"--{option}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
        self.requested = []
        self.said = []
        self.look()

    def look(self, width=1280, dark=False):
        """Sets the width of the screen, and which colours the system is said to prefer."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def open(self, url):
        """Opens it afresh, as a reload does."""
        self._note()
        self.driver.get("about:blank")
        self.driver.get(url)
        return self

    def text(self, selector="main"):
        """What is to be read there, or nothing."""
        script = "return document.querySelector(arguments[0])?.innerText ?? ''"
        return self.driver.execute_script(script, selector)

    def reads(self, *words, at="main"):
        """Waits until all of it is to be read there."""
        eventually(
            lambda: all(word in self.text(at) for word in words),
            f"{words} at {at}; see the end of {self.text()!r}",
        )

    def find(self, selector):
        return eventually(lambda: self.all(selector), f"{selector} in {self.text()!r}")[0]

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def press(self, *keys):
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def tab_to(self, selector):
        """Presses Tab until that is reached."""
        for _ in range(20):
            self.press(Keys.TAB)
            script = "return document.activeElement.matches(arguments[0])"
            if self.driver.execute_script(script, selector):
                return self.driver.switch_to.active_element
        raise AssertionError(f"Tab does not lead to {selector}")

    def requests(self):
        """The address of everything that any page has fetched so far."""
        self._note()
        return self.requested

    def console(self):
        self._note()
        return self.said

    def _note(self):
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.requested.append(message["params"]["request"]["url"])
        self.said += [entry["message"] for entry in self.driver.get_log("browser")]


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    scene = Scene(tmp_path_factory.mktemp("page"))
    yield scene
    scene.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.driver.quit()


def test_the_flow_shows_who_sends_which_queue_and_who_takes_on_both_brokers(browser, scene):
    browser.open(scene.page + "#/flow").reads("queue-redis", "queue-rabbitmq", at=".picture")
    host = json.loads(scene.hop.get("/api/flow"))["producers"][0]["name"]
    assert host in browser.text(".node.is-producer")
    for system in ("redis", "rabbitmq"):
        (queue,) = [node for node in browser.all(".node.is-queue") if f"queue-{system}" in node.text]
        assert system in queue.text and "p95" in queue.text
    assert len(browser.all(".node.is-worker")) >= 1
    # Each edge of the picture is a row of the tables, and tells the quality in a word.
    assert browser.all(".edge.is-invalid") or browser.all(".edge.is-missing")
    browser.reads("Who sends", "missing", "Who takes")
    queue.click()
    browser.reads("Workflows through this queue", at=".aside.chosen")
    assert "node=" in browser.driver.current_url
    browser.open(browser.driver.current_url).reads("queue-rabbitmq", at=".aside.chosen")


@pytest.mark.parametrize("system", ["redis", "rabbitmq"])
def test_a_workflow_is_found_by_the_name_of_a_task_and_shows_its_retry(browser, scene, system):
    browser.open(scene.page + "#/workflows")
    browser.find("input[name=q]").send_keys("flaky")
    browser.find("input[name=queue]").send_keys(f"queue-{system}")
    eventually(lambda: len(browser.all("tbody tr")) == 1, "one workflow is found")
    assert "queue=" in browser.driver.current_url
    browser.find("tbody a").click()
    browser.find(".wf-row")
    eventually(lambda: browser.text("h1 + .mark") == "succeeded", "the workflow has ended")
    rows = [row.text for row in browser.all(".wf-row")]
    assert len(rows) == 4 and sum("retry 1" in row for row in rows) == 1, rows
    assert [row.get_attribute("data-state") for row in browser.all(".wf-row")].count("retried") == 1
    assert browser.all(".bar.is-dwell") and browser.all(".bar.ended-retried")
    trace = browser.text(".ids code")
    (link,) = browser.all(".ids a")
    assert link.get_attribute("href") == f"https://traces.example/{trace}"
    browser.all(".wf-row")[0].click()
    browser.reads("Task id", system, "acknowledged", at=".wf-details")


def test_a_workflow_is_found_by_id_and_state_and_shows_what_failed(browser, scene):
    task = scene.ids["redis", "link_error"]
    browser.open(f"{scene.page}#/workflows?q={task}&state=failed")
    browser.find("tbody a").click()
    row = browser.find('.wf-row[data-state="failed"]')
    assert "failing" in row.text and browser.all(".bar.ended-failed")


def test_the_wait_for_an_eta_is_told_from_the_wait_in_the_queue(browser, scene):
    browser.open(f"{scene.page}#/workflows?q={scene.ids['rabbitmq', 'countdown']}")
    browser.find("tbody a").click()
    browser.find(".wf-track .bar.is-eta, .wf-track .bar.is-delay")
    browser.find(".wf-row").click()
    browser.reads("ETA", at=".wf-details")


def test_a_broken_producer_is_named_with_the_reason_and_the_remedy(browser, scene):
    browser.open(scene.page + "#/quality?kind=invalid")
    browser.reads("add", "queue-redis", "upper_case", "lower case", at='[data-quality="invalid"]')
    assert "missing" not in browser.text(".kind h2")
    browser.find('[data-quality="invalid"] tbody a').click()
    eventually(lambda: len(browser.all("tbody tr")) == 1, "its workflow is found")


def test_the_health_view_tells_of_routes_and_of_a_collector_that_is_not_there(browser, scene):
    browser.open(scene.page + "#/health")
    browser.reads(f"127.0.0.1:{scene.hop.port}", f"127.0.0.1:{scene.rabbitmq.port}", "rabbitmq")
    browser.reads("Needs attention", "do not reach the collector", scene.collector, "failing")
    assert browser.all("nav .is-warning")
    browser.find("input[name=find]").send_keys("spans.process")
    browser.reads("spans.process", "true", "TRACEHOP_SPANS_PROCESS")
    assert len(browser.all("tbody tr")) > 1 and "drain_grace" not in browser.text()


def test_every_reason_that_the_proxy_counts_by_is_told_of_in_words(browser, scene):
    browser.open(scene.page)
    words = browser.driver.execute_async_script(
        "const [answer] = arguments; import('./words.js').then((words) =>"
        "answer([words.FAILURES, words.DROPS].map(Object.keys)))"
    )
    counted = [
        series(scene.hop, "tracehop_connections_failed_total"),
        series(scene.hop, "tracehop_spans_dropped_total"),
    ]
    assert [set(each) for each in words] == counted


def series(hop, metric):
    """The reasons that a metric counts by."""
    return set(re.findall(rf'^{metric}{{.*reason="(\w+)"', hop.get("/metrics"), re.MULTILINE))


def test_what_peers_call_themselves_stays_text(browser, scene):
    for view in ("#/flow", f"#/workflows?q={'%3Cimg'}", "#/quality"):
        browser.open(scene.page + view).reads(MARKUP)
        assert not browser.all("img[src=x]")


def test_every_view_can_be_reached_and_used_by_keyboard(browser, scene):
    browser.open(scene.page).reads("Producers")
    browser.press(Keys.TAB)
    assert browser.driver.switch_to.active_element.text == "Skip to the content"
    browser.tab_to('nav a[href="#/workflows"]').send_keys(Keys.ENTER)
    browser.reads("newest first")
    browser.tab_to("input[name=q]").send_keys("flaky")
    eventually(lambda: len(browser.all("tbody tr")) == 2, "two workflows are found")
    browser.tab_to("tbody a").send_keys(Keys.ENTER)
    browser.find(".wf-row")
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    browser.tab_to(".wf-row")
    assert browser.driver.execute_script(outline) == "solid"
    browser.press(Keys.ENTER)
    browser.reads("Task id", at=".wf-details")
    # Meanwhile the page has followed the proxy, and the focus is where it was.
    before = len(browser.requests())
    eventually(lambda: len(browser.requests()) >= before + 4, "two more rounds of questions")
    assert browser.driver.switch_to.active_element.get_attribute("aria-expanded") == "true"


def test_it_can_be_held_still(browser, scene):
    browser.open(scene.page).reads("Live", at="header")
    browser.find(".liveness").click()
    browser.reads("Paused", at="header")
    browser.find(".liveness").click()
    browser.reads("Live", at="header")


def test_no_view_scrolls_sideways_on_a_narrow_or_a_wide_screen(browser, scene):
    for width in (360, 1600):
        browser.look(width)
        for view in [*VIEWS, f"#/workflows/{some_trace(scene)}"]:
            browser.open(scene.page + view).find("h1")
            wide = "return document.documentElement.scrollWidth <= window.innerWidth"
            assert browser.driver.execute_script(wide), (view, width)
    browser.look()


def test_every_view_is_accessible_in_light_and_dark(browser, scene):
    grounds = set()
    for view in [*VIEWS, f"#/workflows/{some_trace(scene)}"]:
        browser.open(scene.page + view).find("h1")
        for dark, rules in ((False, None), (True, {"runOnly": ["color-contrast"]})):
            browser.look(dark=dark)
            ground = "return getComputedStyle(document.documentElement).backgroundColor"
            grounds.add(browser.driver.execute_script(ground))
            found = Axe().run(browser.driver, options=rules)["violations"]
            assert [(each["id"], each["nodes"][0]["html"]) for each in found] == [], view
    assert len(grounds) == 2
    browser.look()


def test_a_theme_that_was_chosen_stays(browser, scene):
    browser.open(scene.page)
    for _ in range(2):
        browser.find(".theme").click()
    browser.open(scene.page)
    assert browser.driver.execute_script("return document.documentElement.dataset.theme") == "dark"
    browser.find(".theme").click()


def test_nothing_was_fetched_from_elsewhere_and_nothing_complained(browser, scene):
    # The browser's own pages and pictures in data: come from no network.
    fetched = [url for url in browser.requests() if re.match("http|ws", url)]
    assert {url for url in fetched if not url.startswith(scene.page)} == set()
    assert scene.page + "api/flow" in fetched
    assert browser.console() == []


def test_the_page_asks_for_the_token_and_says_when_the_proxy_drains_and_is_gone(browser, scene):
    file = scene.directory / "token"
    file.write_text("a-token-of-the-tests\n")
    settings = {"name": "locked", "TRACEHOP_ADMIN_TOKEN_FILE": str(file)}
    with Tracehop(scene.directory, scene.redis.port, scene.collector, **settings) as locked:
        browser.open(f"http://127.0.0.1:{locked.admin}/").reads("locked")
        browser.find("#token").send_keys("wrong", Keys.ENTER)
        browser.reads("was not taken")
        browser.find("#token").send_keys("a-token-of-the-tests", Keys.ENTER)
        browser.reads("No Celery message has passed yet", f"redis://127.0.0.1:{locked.port}")
        # A client that waits for an answer keeps the proxy from ending at once.
        client = redis.Redis(port=locked.port, socket_timeout=60)
        waiting = threading.Thread(target=lambda: client.blpop("nothing", 60))
        waiting.start()
        eventually(
            lambda: any(each["cmd"] == "blpop" for each in scene.redis.client.client_list()),
            "a client waits for a list",
        )
        locked.signal(15)
        browser.reads("tracehop is draining")
        browser.reads("Draining", at="header")
        scene.redis.client.rpush("nothing", "something")
        waiting.join()
        browser.reads("tracehop does not answer", "It was draining")
        browser.reads("Reconnecting", at="header")


def some_trace(scene):
    """The trace of the chain with a retry."""
    found = json.loads(scene.hop.get(f"/api/traces?q={scene.ids['redis', 'chain_with_retry']}"))
    return found["traces"][0]["trace_id"]
