"""Where the flows are played: one broker, one receiver, one proxy, and workers and producers
of every kind, started when first needed and kept until the end.

A flow is played by a producer and a worker, each of them with or without OpenTelemetry. What
it leaves behind is a `Journey`. Before it is judged, the same flow is played past the proxy:
that tells how often its tasks run and what they come to.
"""

import uuid
from dataclasses import dataclass, replace

from harness import (
    CURRENT,
    DEADLINE,
    Producer,
    Redis,
    Tracehop,
    Worker,
    app_env,
    counted,
    eventually,
    python,
)
from otlp_grpc import Receiver


@dataclass(frozen=True)
class Mode:
    """Who is instrumented, and what they speak."""

    producer: bool = False
    worker: bool = False
    protocol: int = 2
    version: str = CURRENT
    direct: bool = False
    # Its results go straight to Redis, and not the way of the broker.
    apart: bool = False

    def __str__(self):
        words = {True: "traced", False: "plain"}
        name = f"{words[self.producer]}-to-{words[self.worker]}"
        name += f"-protocol-{self.protocol}" if self.protocol != 2 else ""
        name += f"-celery-{self.version}" if self.version != CURRENT else ""
        name += "-apart" if self.apart else ""
        return name + ("-direct" if self.direct else "")

    def installed(self):
        return python(self.version).exists()

    def queue(self):
        kind = "direct" if self.direct else "traced" if self.worker else "plain"
        apart = "-apart" if self.apart else ""
        return f"queue-{kind}-{self.protocol}-{self.version}{apart}"


class Stage:
    """`endpoint` replaces our receiver, `settings` are further variables of the proxy.

    `server` is the broker, `notes` the Redis where tasks note their runs. `celery` are
    settings of every app.
    """

    def __init__(
        self, directory, broker=Redis, grpc=False, endpoint=None, celery=None, **settings
    ):
        self.directory, self.celery = directory, celery or {}
        self.server = broker(directory)
        self.notes = self.server if isinstance(self.server, Redis) else Redis(directory)
        self.receiver = Receiver()
        if grpc:
            settings["OTEL_EXPORTER_OTLP_PROTOCOL"] = "grpc"
            endpoint = endpoint or self.receiver.grpc_endpoint
        endpoint = endpoint or self.receiver.endpoint
        system = self.server.system
        self.hop = Tracehop(directory, self.server.port, endpoint, system=system, **settings)
        self._workers, self._producers, self._direct = {}, {}, {}
        self.journeys = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in [*self._producers.values(), *self._workers.values()]:
            process.signal(15)
        for process in [*self._producers.values(), *self._workers.values(), self.hop]:
            process.close()
        self.server.close()
        self.notes.close()
        self.receiver.close()

    def env(self, mode, traced, broker=None, **settings):
        """The environment of an app in this mode, behind the proxy unless it is direct."""
        url = self.server.url if mode.direct else self.hop.url
        tracing = self.receiver.endpoint if traced else ""
        settings = self.celery | {"task_protocol": mode.protocol} | settings
        if self.server.system == "rabbitmq":
            settings["results"] = self.notes.url if mode.apart else "rpc://"
        return app_env(broker or url, self.notes.url, mode.queue(), tracing, mode.version, **settings)

    def worker(self, mode, broker=None):
        queue = mode.queue()
        if queue not in self._workers:
            env = self.env(mode, mode.worker, broker)
            self._workers[queue] = Worker(
                self.directory, queue.removeprefix("queue-"), self.notes, env, mode.version
            )
        return self._workers[queue]

    def producer(self, mode, broker=None):
        if mode not in self._producers:
            env = self.env(mode, mode.producer, broker)
            self._producers[mode] = Producer(self.directory, str(mode), env, mode.version)
        return self._producers[mode]

    def direct(self, flow, mode, runs):
        """What a flow does without the proxy: how often which task runs, and its value."""
        mode = replace(mode, producer=False, worker=False, direct=True)
        if (flow, mode) not in self._direct:
            tag, answer = self._play(flow, mode, runs)
            self._direct[flow, mode] = counted(self.notes.runs(tag)), answer["value"]
        return self._direct[flow, mode]

    def play(self, flow, mode, runs, recorded=True):
        """Plays a flow whose tasks run `runs` times in all, and waits for its spans, if any."""
        self.worker(mode), self.producer(mode)  # they start while the other ones play
        expected, value = self.direct(flow, mode, runs)
        tag, answer = self._play(flow, mode, runs)
        journey = Journey(self, mode, tag, answer, expected, value, recorded)
        self.journeys.append(journey)
        return journey

    def _play(self, flow, mode, runs):
        self.worker(mode).ready()
        tag = new_tag()
        answer = self.producer(mode).order(flow, tag)
        eventually(
            lambda: len(self.notes.runs(tag)) >= runs and self.done(mode),
            f"{flow}, {mode}: {runs} runs and nothing left in a queue",
        )
        return tag, answer

    def done(self, mode):
        """Whether nothing waits that a worker in this mode would take."""
        if self.server.system == "redis":
            return self.server.idle()
        # Whether the worker has acknowledged everything, RabbitMQ does not tell clients.
        return self.server.waiting(mode.queue()) == 0

    def answer(self):
        """What becomes of a message that nothing happens to."""
        confirms = self.celery.get("broker_transport_options", {}).get("confirm_publish")
        return "confirmed" if confirms or self.server.system == "redis" else "unanswered"


class Journey:
    """What was left behind by a flow: its runs and the spans of all who took part."""

    def __init__(self, stage, mode, tag, answer, expected, value, recorded):
        self.mode, self.tag, self.id, self.value = mode, tag, answer["id"], answer["value"]
        self.expected_runs, self.expected_value = expected, value
        self.runs = stage.notes.runs(tag)
        self.messages = {message_of(run): run for run in self.runs}
        self.answer = stage.answer()
        self._receiver = stage.receiver
        self.asked_at, self.published_at = answer["asked_at"], answer["published_at"]
        if not recorded:
            return
        ids = {run["id"] for run in self.runs}
        self.sends = self._spans(len(self.messages), lambda spans: legs(spans, "send", ids))
        # Each run is what came of one delivery.
        self.receives = self._spans(len(self.runs), lambda spans: legs(spans, "receive", ids))
        count = len(self.runs) if mode.worker else 0
        self.run_spans = self._spans(count, lambda spans: run_spans(spans, ids))

    def _spans(self, count, found):
        self._receiver.wait(lambda spans: len(found(spans)) >= count, DEADLINE)
        spans = found(self._receiver.spans())
        assert len(spans) == count, f"{count} spans expected, not {spans}"
        return spans

    def send(self, message):
        """The one send span of this message."""
        found = [span for span in self.sends if message_of_span(span) == message]
        assert len(found) == 1, f"one send span of {message} expected, not {found}"
        return found[0]

    def sends_of(self, task_id):
        """The send spans of all attempts of a task."""
        return [span for span in self.sends if span.attributes["messaging.message.id"] == task_id]

    def deliveries(self, message):
        """The receive spans of this message, each with the run that came of it."""
        receives = [span for span in self.receives if message_of_span(span) == message]
        runs = [run for run in self.runs if message_of(run) == message]
        assert len(receives) == len(runs), f"one receive span for each of {runs}, not {receives}"
        return list(zip(sorted(receives, key=lambda span: span.end), runs))

    def published(self, span):
        """The app's own span of the publication that this hop is about, if there is one."""
        for other in self._receiver.spans():
            if other.span_id == span.parent_id and other.name.startswith("apply_async/"):
                return other
        return None


def message_of(run):
    """Names the message by which a task ran: redeliveries share it, retries do not."""
    return run["task"], run["id"], run["retries"]


def message_of_span(span):
    said = span.attributes
    return said["celery.task_name"], said["messaging.message.id"], said["celery.retries"]


def legs(spans, leg, ids=None, service="tracehop"):
    """The proxy's spans of one leg, "send", "receive" or "process"; of these tasks, if not of all."""
    mine = [span for span in spans if span.service == service]
    mine = [span for span in mine if span.attributes["messaging.operation.type"] == leg]
    return [span for span in mine if ids is None or span.attributes["messaging.message.id"] in ids]


def run_spans(spans, ids):
    """An instrumented worker's own spans of these tasks."""
    mine = [span for span in spans if span.name.startswith("run/")]
    return [span for span in mine if span.attributes["messaging.message.id"] in ids]


def new_tag():
    """A text that occurs in the arguments of a flow's tasks and nowhere else."""
    return f"secret-{uuid.uuid4()}"
