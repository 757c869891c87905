"""A hundred thousand tasks of every kind of workflow through tracehop, and an account of each.

    python tests/celery/mix.py [--broker redis|rabbitmq] [--tasks 100000] [--queued 1000]

One producer, two workers, none of them instrumented; `spans.process` is on. Single tasks, chains
of three, groups of ten, chords, retries and countdowns. How runs end tracehop learns from the
results on Redis, which go the same way, and from the workers' events on RabbitMQ. There every
publication is confirmed.

Every ten seconds it prints how far things are. At the end each task must have been executed
once and have one span of each kind, in the trace and below the span that it belongs to: what a
task sends follows from its run, a retry from the run before, and a run from the sending.
Nothing was dropped, nothing ended by a time limit, nothing is open any longer. Exit code 0 tells
that it is so.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter, namedtuple
from pathlib import Path

from harness import APP, CURRENT, Process, RabbitMQ, Redis, Tracehop, Worker, app_env, eventually, python
from otlp_grpc import Receiver

HEADER = f"{'s':>5} {'executed':>9} {'send':>8} {'receive':>8} {'process':>8} {'open':>6} {'RSS MiB':>8}"
TAG = "mix"

Span = namedtuple("Span", "trace id parent task retries root parent_task group origin expired")
SAID = {
    "messaging.message.id": "task",
    "celery.retries": "retries",
    "celery.root_id": "root",
    "celery.parent_id": "parent_task",
    "celery.group": "group",
    "tracehop.context.origin": "origin",
    "tracehop.expired": "expired",
}


class Book(Receiver):
    """Keeps of each span what its place in the trace can be judged by."""

    def __init__(self):
        self.legs = {"send": [], "receive": [], "process": []}
        self._lock = threading.Lock()
        super().__init__()

    def take(self, request):
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    leg, _, _ = span.name.partition(" ")
                    with self._lock:
                        self.legs[leg].append(read(span))

    def count(self, leg):
        return len(self.legs[leg])


def read(span):
    said = dict.fromkeys(SAID.values())
    for pair in span.attributes:
        if pair.key in SAID:
            which = pair.value.WhichOneof("value")
            value = getattr(pair.value, which)
            said[SAID[pair.key]] = sys.intern(value) if which == "string_value" else value
    return Span(span.trace_id, span.span_id, span.parent_span_id, **said)


class Mix:
    def __init__(self, directory, broker, tasks, queued_max):
        self.tasks = tasks
        self.book = Book()
        # What was executed is noted there.
        self.notes = Redis(directory, name="notes")
        self.server = {"redis": Redis, "rabbitmq": RabbitMQ}[broker](directory)
        process = {"TRACEHOP_SPANS_PROCESS": "true"}
        self.hop = Tracehop(directory, self.server.port, self.book.endpoint, system=broker, **process)
        settings = {"results": self.hop.url}
        if broker == "rabbitmq":
            settings = {"results": self.notes.url, "worker_send_task_events": True}
            settings["broker_transport_options"] = {"confirm_publish": True}
        env = app_env(self.hop.url, self.notes.url, "queue-mix", **settings)
        self.before = self.hop.resident_bytes()
        one = ("-c", 1)
        self.workers = [Worker(directory, name, self.notes, env, options=one) for name in "ab"]
        for worker in self.workers:
            worker.ready()
        command = [python(CURRENT), APP / "mix.py", tasks, queued_max, TAG]
        self.producer = Process("mix", command, directory, env, cwd=APP)
        self.executed = Counter()
        self.peak, self.open = 0, Counter()

    def close(self):
        for process in [self.producer, *self.workers, self.hop, self.server, self.notes]:
            process.close()
        self.book.close()

    def run(self):
        started, printed = time.monotonic(), 0.0
        print(HEADER)
        while not self.done():
            self.look()
            if time.monotonic() - printed > 10:
                printed = time.monotonic()
                self.line(printed - started)
            time.sleep(0.2)
        self.line(time.monotonic() - started)
        eventually(lambda: not any(self.waiting().values()), "nothing is open any longer", 60)
        return self.verdict(time.monotonic() - started)

    def done(self):
        """Whether all is executed and has its spans; or the last of them does not come."""
        if self.producer.running():
            return False
        assert self.producer.stop() == 0, self.producer.tail()
        whole = [self.executed.total(), *map(self.book.count, self.book.legs)]
        if min(whole) >= self.tasks:
            return True
        progress, now = sum(whole), time.monotonic()
        if getattr(self, "progress", None) != progress:
            self.progress, self.since = progress, now
        return now - self.since > 60

    def look(self):
        for run in self.notes.client.lpop(f"runs:{TAG}", 5000) or []:
            run = json.loads(run)
            self.executed[run["id"], run["retries"]] += 1
        self.notes.client.set("executed", self.executed.total())
        self.peak = max(self.peak, self.hop.resident_bytes())
        self.open |= Counter(self.waiting())

    def waiting(self):
        return {leg: int(self.hop.metric(f"tracehop_open_{leg}")) for leg in ("hops", "deliveries")}

    def line(self, seconds):
        counts = [self.executed.total(), *map(self.book.count, self.book.legs)]
        print("{:>5.0f} {:>9} {:>8} {:>8} {:>8}".format(seconds, *counts), end="")
        memory = self.hop.resident_bytes() / 2**20
        print(f" {sum(self.waiting().values()):>6} {memory:>8.1f}", flush=True)

    def verdict(self, seconds):
        legs = {leg: by_message(spans) for leg, spans in self.book.legs.items()}
        complaints = list(self.complaints(legs))
        print(f"\n{self.tasks} tasks sent, {self.executed.total()} executed, ", end="")
        print(", ".join(f"{self.book.count(leg)} {leg} spans" for leg in legs), end="")
        print(f"; {self.tasks / seconds:.0f} tasks a second")
        for (place, origin), count in sorted(places(legs).items()):
            print(f"{count:>7} {place}, {origin}")
        after = self.hop.resident_bytes()
        memory = [each / 2**20 for each in (self.before, self.peak, after)]
        print("memory: {:.1f} MiB before, {:.1f} MiB at its peak, {:.1f} MiB after".format(*memory))
        print(f"open at a time: {self.open['hops']} publications, {self.open['deliveries']} deliveries")
        for complaint in complaints[:10]:
            print(complaint)
        print("good" if not complaints else f"NOT as it should be: {len(complaints)} complaints")
        return not complaints

    def complaints(self, legs):
        for name in ("hops_expired", "spans_dropped", "sightings_dropped", "blind_sessions"):
            count = self.hop.metric(f"tracehop_{name}_total")
            if count:
                yield f"tracehop_{name}_total is {count:.0f}"
        counts = [self.executed.total(), *map(self.book.count, legs)]
        if counts != [self.tasks] * 4:
            yield f"there are not {self.tasks} of each: {counts}"
        for leg, spans in legs.items():
            for message in self.executed.keys() ^ spans.keys():
                yield f"{message} was executed or has a {leg} span, not both"
        for message, send in legs["send"].items():
            if (send.trace, send.parent) != belongs(send, legs["process"]):
                yield f"not where it belongs: {send}"
            for leg in ("receive", "process"):
                span = legs[leg].get(message, send)
                if (span.trace, span.parent) != (send.trace, send.id):
                    yield f"no child of its sending: {leg} {span}"


def by_message(spans):
    return {(span.task, span.retries): span for span in spans}


def belongs(send, runs):
    """The trace and the parent that a publication should have."""
    if send.retries:
        cause = runs.get((send.task, send.retries - 1))
    elif send.parent_task:
        # It was sent when that task had succeeded, and none here does after a retry.
        cause = runs.get((send.parent_task, 0))
    else:
        return uuid.UUID(send.group or send.root).bytes, b""
    return cause and (cause.trace, cause.id)


def places(legs):
    """How many publications have which place in a workflow, by where that is known from."""
    return Counter((place(send), send.origin) for send in legs["send"].values())


def place(send):
    if send.retries:
        return "retries"
    if send.parent_task:
        return "sent by a task"
    return "roots in a group" if send.group else "roots"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--broker", choices=["redis", "rabbitmq"], default="redis")
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--queued", type=int, default=1000, help="how many may wait to be executed")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        mix = Mix(Path(directory), args.broker, args.tasks, args.queued)
        try:
            return 0 if mix.run() else 1
        finally:
            mix.close()


if __name__ == "__main__":
    raise SystemExit(main())
