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
    # Its results go to Redis, by another route of the proxy, and not the way of the broker.
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

    def worker_name(self):
        """One for all modes that differ in the producer alone."""
        kind = "direct" if self.direct else "traced" if self.worker else "plain"
        apart = "-apart" if self.apart else ""
        return f"{kind}-{self.protocol}-{self.version}{apart}"


class Stage:
    """`endpoint` replaces our receiver, `settings` are further variables of the proxy.

    `server` is the broker, `notes` the Redis where tasks note their runs. `celery` are
    settings of every app. What stands `beside` another stage has a name.
    """

    def __init__(
        self,
        directory,
        broker=Redis,
        grpc=False,
        endpoint=None,
        celery=None,
        name="main",
        beside=None,
        **settings,
    ):
        self.directory, self.celery, self.name = directory, celery or {}, name
        self._beside = beside
        if beside:
            self.server, self.notes = beside.server, beside.notes
        else:
            self.server = broker(directory)
            self.notes = self.server if isinstance(self.server, Redis) else Redis(directory)
        self.receiver = Receiver()
        if grpc:
            settings["OTEL_EXPORTER_OTLP_PROTOCOL"] = "grpc"
            endpoint = endpoint or self.receiver.grpc_endpoint
        self.follows_runs = settings.get("TRACEHOP_SPANS_PROCESS") == "true"
        self.hop = self.proxy(f"tracehop-{name}", endpoint, **settings)
        self._workers, self._producers, self._direct = {}, {}, {}
        self.journeys = []

    def beside(self, name, **options):
        """A proxy of its own in front of the same broker, and apps of its own."""
        return Stage(self.directory, name=name, beside=self, **options)

    def proxy(self, name, endpoint=None, upstream=None, **settings):
        """A proxy in front of the broker, or of another proxy."""
        return Tracehop(
            self.directory,
            upstream or self.server.port,
            endpoint or self.receiver.endpoint,
            name,
            self.server.system,
            results=self.notes if self.server.system == "rabbitmq" else None,
            **settings,
        )

    def queue(self, mode):
        """Where the apps of this mode send to and take from."""
        return f"queue-{self.name}-{mode.worker_name()}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in [*self._producers.values(), *self._workers.values()]:
            process.signal(15)
        for process in [*self._producers.values(), *self._workers.values(), self.hop]:
            process.close()
        if not self._beside:
            self.server.close()
            self.notes.close()
        self.receiver.close()

    def env(self, mode, traced, broker=None, **settings):
        """The environment of an app in this mode, behind the proxy unless it is direct."""
        url = self.server.url if mode.direct else self.hop.url
        tracing = self.receiver.endpoint if traced else ""
        settings = self.celery | {"task_protocol": mode.protocol} | settings
        if self.server.system == "rabbitmq":
            apart = self.notes.url if mode.direct else self.hop.results_url
            settings["results"] = apart if mode.apart else "rpc://"
        queue = self.queue(mode)
        return app_env(broker or url, self.notes.url, queue, tracing, mode.version, **settings)

    def worker(self, mode, broker=None):
        name = mode.worker_name()
        if name not in self._workers:
            env = self.env(mode, mode.worker, broker)
            self._workers[name] = self.new_worker(name, env, mode.version)
        return self._workers[name]

    def new_worker(self, name, env, version=CURRENT, options=()):
        return Worker(self.directory, f"{self.name}-{name}", self.notes, env, version, options)

    def producer(self, mode, broker=None):
        if mode not in self._producers:
            env = self.env(mode, mode.producer, broker)
            self._producers[mode] = self.new_producer(str(mode), env, mode.version)
        return self._producers[mode]

    def new_producer(self, name, env, version=CURRENT):
        return Producer(self.directory, f"{self.name}-{name}", env, version)

    def direct(self, flow, mode, runs):
        """What a flow does without the proxy: how often which task runs, and its value."""
        if self._beside:
            return self._beside.direct(flow, mode, runs)
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
        return self.server.waiting(self.queue(mode)) == 0

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
        count = len(self.runs) if stage.follows_runs else 0
        self.processes = self._spans(count, lambda spans: legs(spans, "process", ids))
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

    def deliveries(self, message):
        """The runs of this message, each with the receive span of what it came of."""
        return list(zip(in_order(self.receives, message), self._runs_of(message), strict=True))

    def processes_of(self, message):
        """The runs of this message, each with its process span."""
        return list(zip(in_order(self.processes, message), self._runs_of(message), strict=True))

    def _runs_of(self, message):
        return [run for run in self.runs if message_of(run) == message]

    def causes(self, message):
        """The spans whose child is whatever a run of this message sends."""
        if self.processes:
            return {span.span_id for span in in_order(self.processes, message)}
        return {self.send(message).span_id}

    def causes_in(self, task_id, but):
        """The same for all messages of this task but one."""
        messages = [each for each in self.messages if each[1] == task_id and each != but]
        return {span_id for message in messages for span_id in self.causes(message)}

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


def attempt_of(span):
    """The attempt that a span is about: the task's id and its retries; without them, another's span."""
    said = span.attributes
    return said.get("messaging.message.id"), said.get("celery.retries")


def in_order(spans, message):
    """The spans of this message, in the order of its deliveries."""
    mine = [span for span in spans if message_of_span(span) == message]
    return sorted(mine, key=delivered_at)


def delivered_at(span):
    """When its message was delivered: there waiting ends, and working begins."""
    is_wait = span.attributes["messaging.operation.type"] == "receive"
    return span.end if is_wait else span.start


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
