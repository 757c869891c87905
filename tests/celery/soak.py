"""Real producers and a real prefork worker at full speed through tracehop.

    python tests/celery/soak.py [--broker redis|rabbitmq] [--seconds 600] [--producers 1] [--queued 2000]

On RabbitMQ every publication is confirmed.

Every ten seconds it prints what was sent, executed and exported, what tracehop dropped and
the memory it holds. At the end the three must be equal and memory must have stayed flat.
Exit code 0 tells that they were and that it did.
"""

import argparse
import tempfile
import threading
import time
from pathlib import Path

from harness import APP, CURRENT, Process, RabbitMQ, Redis, Tracehop, Worker, app_env, eventually, python
from otlp_grpc import Receiver

HEADER = f"{'s':>5} {'sent':>9} {'executed':>9} {'exported':>9} {'dropped':>8} {'queued':>7} {'RSS MiB':>8}"
# How much higher the memory may rise in the second half of the run than in the first, in
# which fills what is bounded (the contexts of a hundred thousand tasks).
GROWTH_MAX = 8 << 20


class Counter(Receiver):
    """Counts the send spans, and keeps none of them."""

    def __init__(self):
        self.count, self._ids, self._lock = 0, set(), threading.Lock()
        super().__init__()

    def take(self, request):
        ids = [
            span.span_id
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with self._lock:
            self.count += len(ids)
            self._ids.update(ids)

    def distinct(self):
        with self._lock:
            return len(self._ids)


class Soak:
    def __init__(self, directory, broker, seconds, producers, queued_max):
        self.seconds = seconds
        self.receiver = Counter()
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
            self.hop_sends(),
            self.executed(),
            self.receiver.count,
            self.dropped(),
            self.server.waiting("queue-soak"),
        ]
        memory = self.hop.resident_bytes()
        print("{:>5} {:>9} {:>9} {:>9} {:>8} {:>7}".format(*values), f"{memory / 2**20:>8.1f}", flush=True)
        return memory

    def hop_sends(self):
        return int(self.hop.metric("tracehop_sends_total"))

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
        eventually(lambda: self.receiver.count >= sent, "every span is exported", 60)
        self.line(started)
        return self.verdict(sent, lost, memory)

    def verdict(self, sent, lost, memory):
        executed, exported = self.executed(), self.receiver.count
        half = len(memory) // 2
        growth = max(memory[half:]) - max(memory[:half])
        print(f"\nsent {sent}, unconfirmed {lost}, executed {executed}, send spans {exported}", end="")
        print(f" ({self.receiver.distinct()} different), dropped {self.dropped()}")
        print(f"{sent / self.seconds:.0f} tasks a second; ", end="")
        print(f"the peak of memory rose by {growth / 2**20:.1f} MiB in the second half")
        good = sent == executed == exported == self.receiver.distinct()
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
