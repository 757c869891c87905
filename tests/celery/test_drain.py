"""A graceful stop loses no task, although an app's delivery spans several connections: what is
taken by one is put away by another."""

import json
import signal
import threading
import time
from functools import partial

import redis
from celery import Celery

from harness import (
    APP,
    CURRENT,
    Process,
    RabbitMQ,
    Redis,
    Tracehop,
    Worker,
    app_env,
    eventually,
    free_port,
    python,
    url_of,
)
from stage import new_tag

RESTARTS = 20
WORKERS = 8


def test_a_task_that_is_pushed_while_the_proxy_stops_reaches_an_idle_worker(tmp_path, figure):
    """Eight workers, each with a proxy of its own; half of them acknowledge late."""
    with Redis(tmp_path) as server:
        scenes = [Idle(tmp_path, server, number) for number in range(WORKERS)]
        try:
            for scene in scenes:
                scene.worker.ready()
            eventually(lambda: blocked(server) == WORKERS, "every worker waits for a task")
            for scene in scenes:
                scene.hop.signal(signal.SIGTERM)
            time.sleep(0.15)
            for scene in scenes:
                scene.push()
            for scene in scenes:
                scene.restart()
            ran = lambda: [scene for scene in scenes if server.runs(scene.tag)]  # noqa: E731
            try:
                eventually(lambda: len(ran()) == WORKERS, "every task has run")
            finally:
                figure(f"pushed while the proxy stops: {WORKERS - len(ran())} of {WORKERS} lost")
        finally:
            for scene in scenes:
                scene.close()


class Idle:
    """A worker that has nothing to do, behind a proxy of its own."""

    def __init__(self, directory, server, number):
        self.server, self.tag, self.queue = server, new_tag(), f"queue-{number}"
        self.hop = None
        self.start = partial(proxy, directory, server.port, name=f"tracehop-{number}", port=free_port())
        self.hop = self.start()
        settings = {"task_acks_late": number % 2 == 0}
        env = app_env(self.hop.url, server.url, self.queue, results=server.url, **settings)
        solo = ["-P", "solo", "--without-mingle", "--without-gossip"]
        self.worker = Worker(directory, f"idle-{number}", server, env, options=solo)

    def push(self):
        with Celery(broker=self.server.url) as app:
            app.send_task("add", (1, 2), {"tag": self.tag}, queue=self.queue)

    def restart(self):
        assert self.hop.stop() == 0
        self.hop.close()
        self.hop = self.start()

    def close(self):
        self.worker.kill()
        self.worker.close()
        self.hop.close()


def blocked(server):
    return server.client.info("clients")["blocked_clients"]


def test_twenty_restarts_under_load_lose_nothing_and_leave_no_more_than_killed_connections(
    tmp_path, figure
):
    with Redis(tmp_path) as server, RabbitMQ(tmp_path) as rabbit, Redis(tmp_path, "notes") as notes:
        ports = {"port": free_port(), "results_port": free_port()}
        start = partial(proxy, tmp_path, rabbit.port, system="rabbitmq", results=server, **ports)
        hop = start()
        results = url_of("redis", ports["results_port"])
        with (
            Load(tmp_path, "proxied", server, results, notes, 1) as on_redis,
            Load(tmp_path, "proxied", rabbit, hop.url, notes, 2) as on_rabbit,
        ):
            for _ in range(RESTARTS):
                on_redis.goes_on()
                on_rabbit.goes_on()
                assert hop.stop() == 0
                hop.close()
                hop = start()
            proxied = outcome(on_redis, on_rabbit)
        hop.close()
        server.client.flushall()

        with (
            Load(tmp_path, "direct", server, server.url, notes, 3) as on_redis,
            Load(tmp_path, "direct", rabbit, rabbit.url, notes, 4) as on_rabbit,
        ):
            on_rabbit.goes_on()
            killing = threading.Thread(target=rabbit.ctl, args=("eval", KILL_CONNECTIONS))
            killing.start()
            for _ in range(RESTARTS):
                on_redis.goes_on()
                server.client.client_kill_filter(_type="normal", skipme=True)
            killing.join()
            direct = outcome(on_redis, on_rabbit)
        for name, figures in ("restarts", proxied), ("times all connections killed", direct):
            figure(f"{RESTARTS} {name}: " + ", ".join(f"{k} {v}" for k, v in figures.items()))
        assert proxied["lost on Redis"] == proxied["lost on RabbitMQ"] == 0
        assert proxied["left in unacked"] <= direct["left in unacked"]


def outcome(on_redis, on_rabbit):
    return {
        "lost on Redis": on_redis.finish(),
        "left in unacked": on_redis.server.unsettled(on_redis.queue),
        "run twice on Redis": on_redis.doubled(),
        "lost on RabbitMQ": on_rabbit.finish(),
        "run twice on RabbitMQ": on_rabbit.doubled(),
        "workers started again": on_redis.crashes + on_rabbit.crashes,
    }


class Load:
    """A producer at full speed and a worker, with notes in a database of their own."""

    def __init__(self, directory, name, server, url, notes, database):
        name = f"{name}-{server.system}"
        self.server, self.queue, self.crashes = server, f"queue-{name}", 0
        self.url = f"redis://127.0.0.1:{notes.port}/{database}"
        self.client = redis.Redis.from_url(self.url, decode_responses=True)
        env = app_env(url, self.url, self.queue, results=self.url)
        alone = ["--without-mingle", "--without-gossip"]
        self.start_worker = partial(Worker, directory, name, self, env, options=alone)
        self.worker = self.start_worker().ready()
        command = [python(CURRENT), APP / "load.py", 600, 200]
        self.producer = Process(f"load-{name}", command, directory, env, cwd=APP)

    def goes_on(self):
        """Waits until more tasks are published and executed."""
        before, published = self.executed(), len(self.confirmed())
        eventually(lambda: self.executed() > before, f"{self.queue}: tasks are executed")
        eventually(lambda: len(self.confirmed()) > published, f"{self.queue}: tasks are published")

    def finish(self):
        """Ends the load. How many tasks are lost: neither run nor left for a later worker."""
        self.producer.stop()
        try:
            eventually(self.is_done, f"{self.queue}: every task has run")
        except AssertionError:
            return len(self.missing())
        return 0

    def is_done(self):
        return self.executed() and not self.server.waiting(self.queue) and not self.missing()

    def missing(self):
        return self.confirmed() - self.client.smembers("executed-ids") - self.left()

    def left(self):
        if self.server.system != "redis":
            return set()
        entries = self.server.client.hvals("unacked")
        return {json.loads(entry)[0]["headers"]["id"] for entry in entries}

    def confirmed(self):
        lines = [line.split() for line in self.producer.log.read_text().splitlines()]
        return {line[1] for line in lines if line[0] == "ok" and len(line) == 2}

    def executed(self):
        # Some versions of kombu fail where the broker is away when they put messages back.
        if not self.worker.running():
            self.worker.close()
            self.worker, self.crashes = self.start_worker(), self.crashes + 1
        return int(self.client.get("executed") or 0)

    def doubled(self):
        return self.executed() - self.client.scard("executed-ids")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.producer.close()
        self.worker.kill()
        self.worker.close()


def proxy(directory, upstream, name="tracehop", results_port=None, **options):
    """A proxy that exports nothing, so that it ends when its connections have."""
    if results_port:
        options["TRACEHOP_ROUTES_RESULTS_LISTEN"] = f"127.0.0.1:{results_port}"
    return Tracehop(directory, upstream, "", name, TRACEHOP_TELEMETRY_EXPORT="false", **options)


KILL_CONNECTIONS = f"""
[begin
    [rabbit_networking:close_connection(Pid, "killed") || Pid <- rabbit_networking:connections()],
    timer:sleep(1000)
end || _ <- lists:seq(1, {RESTARTS})].
"""
