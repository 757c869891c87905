"""A tracehop each for the producer and for two workers, which know nothing of each other: for
which message a context was written, each tells by the message alone."""

import pytest

from conftest import BROKERS
from harness import Producer, Worker, app_env, eventually
from replicas import Replica
from stage import Stage, attempt_of, new_tag

SECONDS = 2


class Sidecars:
    def __init__(self, stage):
        self.stage = stage
        self.hops = {name: Replica(stage, name) for name in ("producers", "first", "second")}
        env = self.env(self.hops["producers"].url, "queue-none")
        self.producer = Producer(stage.directory, "sidecars", env)
        self.workers = [
            self.worker("first"),
            self.worker("second"),
            # What it sends goes past all of them.
            self.worker("direct", "first", broker_write_url=stage.server.url),
        ]

    def env(self, broker, queue, **settings):
        notes = self.stage.notes.url
        return app_env(broker, notes, queue, results=notes, **settings)

    def worker(self, name, hop=None, **settings):
        env = self.env(self.hops[hop or name].url, f"queue-{name}", **settings)
        return Worker(self.stage.directory, name, self.stage.notes, env).ready()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in [self.producer, *self.workers]:
            process.signal(15)
        for process in [self.producer, *self.workers, *self.hops.values()]:
            process.close()

    def runs(self, tag, count):
        notes = self.stage.notes
        eventually(lambda: len(notes.runs(tag)) >= count, f"there are {count} runs of {tag}")
        return notes.runs(tag)

    def span(self, leg, run):
        """The one span of that leg of a message."""
        message = run["id"], run["retries"]

        def found(spans):
            named = (span for span in spans if span.name.split()[0] == leg)
            return [span for span in named if attempt_of(span) == message]

        (span,) = self.stage.receiver.wait(found, 30)
        return span

    def waited(self):
        """How long messages waited in all, as far as it is known."""
        return sum(hop.metric("tracehop_dwell_seconds_sum") for hop in self.hops.values())


@pytest.fixture(scope="module", params=BROKERS)
def sidecars(request, tmp_path_factory):
    with Stage(tmp_path_factory.mktemp("marks"), BROKERS[request.param]) as stage:
        with Sidecars(stage) as sidecars:
            yield sidecars


def test_a_child_with_copied_headers_has_a_hop_of_its_own_and_has_hardly_waited(sidecars):
    tag, before = new_tag(), sidecars.waited()
    order = {"seconds": SECONDS, "to": "queue-second", "queue": "queue-first", "wait": False}
    sidecars.producer.order("copied_headers", tag, **order)
    parent, child = sidecars.runs(tag, 2)
    assert (child["task"], child["parent_id"]) == ("add", parent["id"])
    send, receive = sidecars.span("send", child), sidecars.span("receive", child)
    assert send.attributes["tracehop.context.quality"] == "stale"
    assert send.attributes["tracehop.context.verdict"] == "renewed"
    carried = sidecars.span("send", parent)
    assert (send.trace_id, send.parent_id) == (carried.trace_id, carried.span_id)
    assert (receive.trace_id, receive.parent_id) == (send.trace_id, send.span_id)
    assert child["traceparent"].split("-")[1:3] == [send.trace_id, send.span_id]
    # It was sent no sooner than that, and had arrived when it ran.
    longest = child["at"] - parent["at"] - SECONDS
    assert receive.attributes["tracehop.dwell_ms"] <= 1000 * longest + 20
    eventually(lambda: sidecars.waited() > before, "it is counted")
    waited = sidecars.waited() - before
    first = sidecars.span("receive", parent).attributes["tracehop.dwell_ms"]
    assert waited <= longest + first / 1000 + 0.1


def test_a_retry_that_no_proxy_edited_has_no_dwell_from_the_first_sending(sidecars):
    tag = new_tag()
    sidecars.producer.order("slow_retry", tag, seconds=SECONDS, queue="queue-direct")
    first, second = sidecars.runs(tag, 2)
    assert second["traceparent"] == first["traceparent"], "nobody has edited it"
    receive = sidecars.span("receive", second)
    assert receive.attributes["tracehop.context.quality"] == "stale"
    assert "tracehop.dwell_ms" not in receive.attributes
    assert receive.parent_id == sidecars.span("send", first).span_id


def test_a_task_with_an_id_that_its_app_chose_has_a_trace_of_its_own_each_time(sidecars):
    sends = []
    for _ in range(2):
        tag = new_tag()
        order = {"task_id": "nightly-report-42", "queue": "queue-first"}
        sidecars.producer.order("chosen_id", tag, **order)
        (run,) = sidecars.runs(tag, 1)
        sends.append(run["traceparent"].split("-")[1:3])

    def found(spans):
        spans = [span for span in spans if attempt_of(span) == ("nightly-report-42", 0)]
        return len(spans) >= 4 and spans

    spans = sidecars.stage.receiver.wait(found, 30)
    (one, its_span), (other, other_span) = sends
    assert one != other and its_span != other_span
    assert len({span.span_id for span in spans}) == len(spans) == 4
    for span in spans:
        if span.name.startswith("receive "):
            assert [span.trace_id, span.parent_id] in sends
            assert "tracehop.dwell_ms" in span.attributes
        else:
            assert span.attributes["tracehop.context.origin"] == "fresh"
