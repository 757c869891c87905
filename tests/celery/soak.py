"""Real producers and a real prefork worker at full speed through tracehop.

    python tests/celery/soak.py [--broker redis|rabbitmq] [--seconds 600] [--producers 1] [--queued 2000]

On RabbitMQ every publication is confirmed.

Every ten seconds it prints what was sent and executed, how many spans of each leg were
exported, what tracehop dropped and the memory it holds. At the end all these numbers must be
equal and memory must have stayed flat. Exit code 0 tells that they were and that it did.
"""

import argparse
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from harness import APP, CURRENT, Process, RabbitMQ, Redis, Tracehop, Worker, app_env, eventually, python
from otlp_grpc import Receiver

ROW = "{:>5} {:>9} {:>9} {:>9} {:>9} {:>8} {:>7} {:>8}"
HEADER = ROW.format("s", "sent", "executed", "send", "receive", "dropped", "queued", "RSS MiB")
# How much higher the memory may rise in the second half of the run than in the first, in
# which fills what is bounded (the contexts of a hundred thousand tasks).
GROWTH_MAX = 8 << 20
LEGS = ("send", "receive")


class Spans(Receiver):
    """Counts the spans of each leg, and keeps none of them."""

    def __init__(self):
        self._counts, self._ids, self._lock = Counter(), set(), threading.Lock()
        super().__init__()

    def take(self, request):
        spans = [
            span
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with self._lock:
            self._counts.update(span.name.partition(" ")[0] for span in spans)
            self._ids.update(span.span_id for span in spans)

    def count(self, leg):
        with self._lock:
            return self._counts[leg]

    def are_different(self):
        with self._lock:
            return len(self._ids) == self._counts.total()


class Soak:
    def __init__(self, directory, broker, seconds, producers, queued_max):
        self.seconds = seconds
        self.receiver = Spans()
        # Tasks are counted there.
        self.notes = Redis(directory)
        self.server = self.notes if broker == "redis" else RabbitMQ(directory)
        endpoint = self.receiver.endpoint
        self.hop = Tracehop(directory, self.server.port, endpoint, system=broker)
        settings = {"broker_transport_options": {"confirm_publish": True}} if broker != "redis" else {}
        env = app_env(self.hop.url, self.notes.url, "queue-soak", results=self.notes.url, **settings)
        self.worker = Worker(directory, "soak", self.notes, env).ready()
        command = [python(CURRENT), APP / "load.py", seconds, queued_max]
        self.producers = [
            Process(f"load-{number}", command, directory, env, cwd=APP) for number in range(producers)
        ]

    def close(self):
        for process in [*self.producers, self.worker, self.hop, self.server, self.notes]:
            process.close()
        self.receiver.close()

    def sent(self):
        """Publications that were confirmed, and those that were not."""
        logs = [producer.log.read_bytes() for producer in self.producers]
        return sum(log.count(b"ok ") for log in logs), sum(log.count(b"lost ") for log in logs)

    def executed(self):
        return int(self.notes.client.get("executed") or 0)

    def dropped(self):
        spans = self.hop.metric("tracehop_spans_dropped_total")
        return int(spans + self.hop.metric("tracehop_sightings_dropped_total"))

    def line(self, started):
        values = [
            int(time.monotonic() - started),
            int(self.hop.metric("tracehop_sends_total")),
            self.executed(),
            self.receiver.count("send"),
            self.receiver.count("receive"),
            self.dropped(),
            self.server.waiting("queue-soak"),
        ]
        memory = self.hop.resident_bytes()
        print(ROW.format(*values, f"{memory / 2**20:.1f}"), flush=True)
        return memory

    def run(self):
        started = time.monotonic()
        print(HEADER)
        memory = []
        while any(producer.running() for producer in self.producers):
            time.sleep(min(10.0, self.seconds / 10))
            memory.append(self.line(started))
        sent, lost = self.sent()
        eventually(lambda: self.executed() >= sent, "every task is executed", 120)
        eventually(self.server.idle, "nothing waits any longer")
        for leg in LEGS:
            eventually(lambda: self.receiver.count(leg) >= sent, f"every {leg} span is exported", 60)
        self.line(started)
        return self.verdict(sent, lost, memory)

    def verdict(self, sent, lost, memory):
        executed, spans = self.executed(), [self.receiver.count(leg) for leg in LEGS]
        half = len(memory) // 2
        growth = max(memory[half:]) - max(memory[:half])
        print(f"\nsent {sent}, unconfirmed {lost}, executed {executed}, ", end="")
        print(f"send spans {spans[0]}, receive spans {spans[1]}, dropped {self.dropped()}")
        print(f"{sent / self.seconds:.0f} tasks a second; ", end="")
        print(f"the peak of memory rose by {growth / 2**20:.1f} MiB in the second half")
        good = sent == executed == spans[0] == spans[1] and self.receiver.are_different()
        good = good and sent > 0 and lost == 0 and self.dropped() == 0 and growth <= GROWTH_MAX
        print("good" if good else "NOT as it should be")
        return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--broker", choices=["redis", "rabbitmq"], default="redis")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--producers", type=int, default=1)
    parser.add_argument("--queued", type=int, default=2000, help="how long the queue may grow")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        soak = Soak(Path(directory), args.broker, args.seconds, args.producers, args.queued)
        try:
            return 0 if soak.run() else 1
        finally:
            soak.close()


if __name__ == "__main__":
    raise SystemExit(main())
