"""What the tests start and stop: Redis, RabbitMQ, tracehop, Celery's workers and producers.

Every part is a real process on a free port of the loopback interface. Nothing waits for a
while: `eventually` waits for a fact, and fails when DEADLINE passes without it.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections import Counter
from pathlib import Path

import amqp
import redis

ROOT = Path(__file__).resolve().parents[2]
APP = Path(__file__).resolve().parent / "app"
BINARY = Path(os.environ.get("HOP_BINARY", ROOT / "target/debug/tracehop"))
LAUNCHER = ROOT / "deploy/demo/rabbitmq.sh"
VENVS = ROOT / ".cache/venv"
DEADLINE = 30.0
# Processes without a terminal, a proxy or settings of the machine they run on.
CLEAN = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}


def eventually(fact, what, seconds=DEADLINE):
    """Waits until `fact()` is true and returns it."""
    deadline = time.monotonic() + seconds
    pause = 0.005
    while True:
        found = fact()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A child in a process group of its own, with its output in a file."""

    def __init__(self, name, command, directory, env=None, **options):
        self.name = name
        self.log = Path(directory) / f"{name}.log"
        self._output = open(self.log, "ab")
        self.child = subprocess.Popen(
            [str(word) for word in command],
            env=CLEAN | (env or {}),
            stdout=options.pop("stdout", self._output),
            stderr=self._output,
            start_new_session=True,
            **options,
        )

    @property
    def pid(self):
        return self.child.pid

    def running(self):
        return self.child.poll() is None

    def signal(self, number):
        self.child.send_signal(number)

    def kill(self):
        """SIGKILL for the process and its children."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.child.wait()

    def stop(self, seconds=DEADLINE):
        """SIGTERM; returns the exit code, or fails when it takes longer than `seconds`."""
        if self.running():
            self.signal(signal.SIGTERM)
        return self.child.wait(seconds)

    def close(self):
        try:
            self.stop(10)
        except subprocess.TimeoutExpired:
            pass
        self.kill()
        self._output.close()

    def tail(self):
        return f"--- {self.name}\n" + self.log.read_text(errors="replace")[-4000:]

    def resident_bytes(self):
        return self._memory("VmRSS")

    def peak_bytes(self):
        return self._memory("VmHWM")

    def _memory(self, which):
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"{which}:\s+(\d+) kB", status)[1]) * 1024

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Redis(Process):
    """A server of our own; `durable` writes every command to disk before it is answered."""

    system = "redis"

    def __init__(self, directory, name="redis", port=None, durable=False, options=()):
        self.port = port or free_port()
        self.url = url_of(self.system, self.port)
        home = Path(directory) / name
        home.mkdir(exist_ok=True)
        command = ["redis-server", "--port", self.port, "--bind", "127.0.0.1", "--dir", home]
        command += ["--save", "", "--maxclients", 30000, "--loglevel", "warning"]
        command += ["--appendonly", "yes" if durable else "no", "--appendfsync", "always"]
        super().__init__(name, [*command, *options], directory)
        self.client = redis.Redis(port=self.port, decode_responses=True)
        eventually(self._answers, "Redis answers PING")

    def _answers(self):
        if not self.running():
            raise AssertionError("Redis ended:\n" + self.tail())
        try:
            return self.client.ping()
        except redis.RedisError:
            return False

    def runs(self, tag):
        """What the tasks with this tag noted, in order."""
        return [json.loads(each) for each in self.client.lrange(f"runs:{tag}", 0, -1)]

    def waiting(self, queue):
        """How many messages wait in a queue, but for those that a worker has."""
        return self.client.llen(queue)

    def unsettled(self, queue):
        """How many messages workers have taken and not acknowledged, of whichever queue."""
        return self.client.hlen("unacked")

    def idle(self):
        """Whether no message waits in a queue or at a worker."""
        queues = [key for key in self.client.scan_iter("queue-*")]
        return not queues and not self.client.exists("unacked")


class RabbitMQ(Process):
    """A server of our own. What is still in `directory` from one before it is there again."""

    system = "rabbitmq"

    def __init__(self, directory, name="rabbitmq", port=None, options=()):
        self.port = port or free_port()
        self.url = url_of(self.system, self.port)
        self.home = Path(directory) / name
        self.home.mkdir(exist_ok=True)
        super().__init__(name, [LAUNCHER, "serve", self.home, self.port, *options], directory)
        eventually(self._answers, "RabbitMQ takes connections", 120)

    def _answers(self):
        if not self.running():
            raise AssertionError("RabbitMQ ended:\n" + self.tail())
        try:
            with self.connect():
                return True
        except OSError:
            return False

    def connect(self, port=None, **options):
        """A connection past the proxy, or to the given port; without heartbeats."""
        options = {"connect_timeout": DEADLINE} | options
        connection = amqp.Connection(f"127.0.0.1:{port or self.port}", **options)
        connection.connect()
        return connection

    def ctl(self, *words):
        """What `rabbitmqctl` prints."""
        command = [LAUNCHER, "ctl", self.home, "--quiet", *words]
        command = [str(word) for word in command]
        done = subprocess.run(command, env=CLEAN, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def queues(self, what="messages"):
        """A number of each queue: what waits there or at a consumer, if not told otherwise."""
        lines = self.ctl("list_queues", "--no-table-headers", "name", what).splitlines()
        return {name: int(count) for name, count in (line.split("\t") for line in lines)}

    def waiting(self, queue):
        """How many messages wait in a queue, but for those that a consumer has."""
        with self.connect() as connection:
            try:
                return connection.channel().queue_declare(queue, passive=True).message_count
            except amqp.NotFound:
                return 0

    def unsettled(self, queue):
        """How many messages workers have taken and not acknowledged."""
        return self.queues("messages_unacknowledged").get(queue, 0)

    def idle(self):
        """Whether no message waits in a queue or at a worker."""
        return not any(count for name, count in self.queues().items() if name.startswith("queue-"))


class Tracehop(Process):
    """The proxy under test, in front of `upstream` (a port, or a URL), exporting to `endpoint`.

    `results` is a Redis for which it has another route.
    """

    def __init__(
        self,
        directory,
        upstream,
        endpoint,
        name="tracehop",
        system="redis",
        port=None,
        results=None,
        **env,
    ):
        self.port, self.admin = port or free_port(), free_port()
        self.url = url_of(system, self.port)
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "TRACEHOP_ADMIN_LISTEN": f"127.0.0.1:{self.admin}",
        }
        if results:
            port = free_port()
            self.results_url = url_of("redis", port)
            settings["TRACEHOP_ROUTES_RESULTS_LISTEN"] = f"127.0.0.1:{port}"
            settings["TRACEHOP_ROUTES_RESULTS_UPSTREAM"] = results.url
        listen = ["--listen", f"127.0.0.1:{self.port}"]
        upstream = upstream if isinstance(upstream, str) else url_of(system, upstream)
        listen += ["--upstream", upstream]
        super().__init__(name, [BINARY, "run", *listen], directory, settings | env)
        eventually(self._ready, "tracehop is ready")

    def _ready(self):
        if not self.running():
            raise AssertionError("tracehop ended:\n" + self.tail())
        try:
            return self.get("/readyz") is not None
        except OSError:
            return False

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=5) as answer:
            return answer.read().decode()

    def metric(self, name, **labels):
        """The sum over all series of `name` that carry these labels."""
        total = 0.0
        for line in self.get("/metrics").splitlines():
            series, _, value = line.rpartition(" ")
            found, _, rest = series.partition("{")
            if found == name and all(f'{key}="{label}"' in rest for key, label in labels.items()):
                total += float(value)
        return total


def python(version):
    """The interpreter that has this version of Celery."""
    return VENVS / f"celery-{version}/bin/python"


CURRENT = "5.7"
# The current one, with the SDKs of Sentry and Datadog.
SDKS = "vendors"


def url_of(system, port):
    """The URL that makes Celery connect there."""
    return {
        "redis": f"redis://127.0.0.1:{port}/0",
        "rabbitmq": f"amqp://guest:guest@127.0.0.1:{port}//",
    }[system]


def app_env(broker, redis_url, queue, tracing="", version=CURRENT, results="", **settings):
    """The environment of the app under test; see app/tasks.py."""
    broadcast = settings.pop("broadcast", "")
    path = [APP, APP / "shim"] if version == "4.4" else [APP]
    return {
        "PYTHONPATH": ":".join(str(each) for each in path),
        "BROKER": broker,
        "RESULTS": results or broker,
        "REDIS": redis_url,
        "QUEUE": queue,
        "TRACING": tracing,
        "SETTINGS": json.dumps(settings),
        "BROADCAST": broadcast,
        "C_FORCE_ROOT": "1",
    }


class Worker(Process):
    """A worker with two pool processes; `ready` waits until it takes tasks."""

    def __init__(self, directory, name, notes, env, version=CURRENT, options=()):
        self.host = f"{name}@test"
        self._notes = notes
        command = [python(version), "-m", "celery", "-A", "tasks", "worker", "-c", 2]
        command += ["-n", self.host, "-l", "INFO", *options]
        super().__init__(f"worker-{name}", command, directory, env, cwd=APP)

    def ready(self):
        eventually(self._ready, f"{self.name} is ready")
        return self

    def _ready(self):
        if not self.running():
            raise AssertionError("the worker ended:\n" + self.tail())
        return self._notes.client.exists(f"ready:{self.host}")


class Producer(Process):
    """A process that publishes what it is told to; see app/producer.py."""

    def __init__(self, directory, name, env, version=CURRENT):
        command = [python(version), APP / "producer.py"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        super().__init__(f"producer-{name}", command, directory, env, cwd=APP, **pipes)

    def order(self, flow, tag, **more):
        """Has a flow published and, unless `wait=False`, waits for its result."""
        self.start(flow, tag, **more)
        return self.answer()

    def start(self, flow, tag, **more):
        self.child.stdin.write(json.dumps({"flow": flow, "tag": tag} | more) + "\n")
        self.child.stdin.flush()

    def answer(self):
        line = self.child.stdout.readline()
        answer = json.loads(line) if line else {"error": "the producer ended"}
        if "error" in answer:
            raise AssertionError(f"{answer['error']}\n{self.tail()}")
        return answer

    def close(self):
        self.child.stdin.close()
        super().close()
        self.child.stdout.close()


def counted(runs):
    """How often each task ran, by name, attempt and the app's own header; but for those that
    look again and again whether something has happened."""
    noted = [run for run in runs if run["task"] != "celery.chord_unlock"]
    return Counter((run["task"], run["retries"], run["tenant"]) for run in noted)


def missing_tools():
    """What must be installed before any of this works, in words."""
    if not BINARY.exists():
        yield f"{BINARY} is not built"
    if not shutil.which("redis-server"):
        yield "redis-server is not installed"
    if not shutil.which("rabbitmq-server"):
        yield "rabbitmq-server is not installed"
    for program in ("chromium", "chromedriver"):
        if not shutil.which(program):
            yield f"{program} is not installed"
    for version in (CURRENT, SDKS):
        if not python(version).exists():
            yield f"{python(version)} does not exist"
