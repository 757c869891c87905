"""A proxy beside each of a producer and two workers: what they tell is what the apps themselves
have measured, whatever the apps do with ids, headers and connections."""

import json
from collections import Counter, defaultdict

import pytest

from conftest import BROKERS
from harness import APP, CURRENT, Process, Tracehop, Worker, app_env, eventually, python
from stage import Stage, attempt_of, legs, new_tag

ROUNDS = 12
# The runs that come of one round of app/measured.py.
RUNS = 8
# What lies between a signal of Celery's and the wire, on a machine that does much else.
SLACK = 1.0


class Sidecars:
    """The proxies of three pods, and their apps."""

    def __init__(self, stage):
        self.stage = stage
        self.hops = {name: self._sidecar(name) for name in ("producer", "one", "two")}
        self._queue = f"queue-truth-{stage.server.system}"
        self._workers = {name: self._worker(name) for name in ("one", "two")}

    def _sidecar(self, name):
        stage = self.stage
        return Tracehop(
            stage.directory,
            stage.server.port,
            stage.receiver.endpoint,
            f"sidecar-{stage.server.system}-{name}",
            stage.server.system,
            OTEL_SERVICE_NAME="truth",
        )

    def _env(self, name):
        notes = self.stage.notes.url
        return app_env(self.hops[name].url, notes, self._queue, results=notes)

    def _worker(self, name, generation=1):
        title = f"truth-{name}-{generation}"
        options = ["--include", "measured"]
        return Worker(
            self.stage.directory, title, self.stage.notes, self._env(name), options=options
        )

    def play(self, tag):
        for worker in self._workers.values():
            worker.ready()
        command = [python(CURRENT), APP / "measured.py", tag, ROUNDS]
        producer = Process(
            "truth-producer", command, self.stage.directory, self._env("producer"), cwd=APP
        )
        # One worker after the other gets a successor, as a rollout does it.
        for name, worker in list(self._workers.items()):
            eventually(lambda: len(self.stage.notes.runs(tag)) > ROUNDS, "tasks run")
            successor = self._worker(name, 2).ready()
            assert worker.stop(60) == 0
            worker.close()
            self._workers[name] = successor
        assert producer.child.wait(60) == 0, producer.tail()
        producer.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in [*self._workers.values(), *self.hops.values()]:
            process.close()


@pytest.mark.parametrize("broker", BROKERS.values(), ids=BROKERS)
def test_what_is_told_is_what_the_apps_have_measured(tmp_path, broker, figure):
    with Stage(tmp_path, broker) as stage, Sidecars(stage) as sidecars:
        tag = new_tag()
        sidecars.play(tag)
        notes = stage.notes
        eventually(lambda: len(notes.runs(tag)) == ROUNDS * RUNS, "every task has run")
        eventually(stage.server.idle, "nothing waits")
        hops = sidecars.hops.values()
        metric = lambda name: sum(hop.metric(f"tracehop_{name}") for hop in hops)  # noqa: E731
        eventually(
            lambda: not any(map(metric, ["open_hops", "open_deliveries", "spans_queued"])),
            "nothing is open",
        )
        measured = Measured(map(json.loads, notes.client.lrange("measured", 0, -1)))
        spans = [span for span in stage.receiver.spans() if span.service == "truth"]

        receives = defaultdict(list)
        for span in legs(spans, "receive", service="truth"):
            receives[attempt_of(span)].append(span)
        deviations = []
        for key, times in measured.received.items():
            for at, span in nearest(times, receives[key]):
                sent = measured.sent_before(key, at)
                dwell = (span.end - span.start) / 1e9
                assert dwell == pytest.approx(span.attributes["tracehop.dwell_ms"] / 1e3, abs=0.002)
                # Not a moment longer than from before it was sent until after it was taken.
                assert at - sent["after"] - SLACK <= dwell <= at - sent["before"] + 0.001, key
                deviations.append(abs(dwell - (at - sent["after"])))
        told = [span.span_id for span in spans]
        assert [each for each, times in Counter(told).items() if times > 1] == []
        assert [span for span in spans if span.error] == []
        assert metric("connections_failed_total") == 0
        # What another worker had before has not waited here alone.
        first = [span for each in receives.values() for span in each if not again(span)]
        waited = sum(span.end - span.start for span in first) / 1e9
        assert metric("dwell_seconds_count") == len(first)
        assert metric("dwell_seconds_sum") == pytest.approx(waited, abs=0.002 * len(first))
        deviations.sort()
        figure(
            f"{stage.server.system}: {len(deviations)} deliveries, dwell beside what the apps measured: "
            f"median {deviations[len(deviations) // 2] * 1e3:.1f} ms off, at most {deviations[-1] * 1e3:.1f}"
        )


class Measured:
    """What the apps have told, by task id and attempt."""

    def __init__(self, told):
        self.received, self._sent = defaultdict(list), defaultdict(list)
        for facts in told:
            key = facts["id"], facts["retries"]
            if facts["what"] == "received":
                self.received[key].append(facts["at"])
            elif facts["what"] == "before":
                self._sent[key].append({"before": facts["at"]})
            else:
                self._sent[key][-1]["after"] = facts["at"]

    def sent_before(self, key, at):
        """The publication that came to be received at that time."""
        return next(sent for sent in reversed(self._sent[key]) if sent["before"] <= at)


def again(span):
    return span.attributes.get("tracehop.redelivered", False)


def nearest(times, spans):
    """Each time with the span of the delivery that came just before it."""
    spans = sorted(spans, key=lambda span: span.end)
    for at in sorted(times):
        before = [span for span in spans if span.end / 1e9 <= at + 0.001]
        assert before, f"no delivery before {at}"
        yield at, before[-1]
        spans.remove(before[-1])
