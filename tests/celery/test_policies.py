"""Settings that change what happens to the context, and more than one proxy."""

import pytest

from harness import Tracehop, eventually
from laws import is_one_trace, runs_as_without_the_proxy
from stage import Mode, Stage, legs


def test_restamp_puts_the_hop_between_producer_and_worker(tmp_path):
    with Stage(tmp_path, TRACEHOP_POLICY_ON_VALID="restamp") as stage:
        journey = stage.play("retry", Mode(producer=True, worker=True), 3)
        runs_as_without_the_proxy(journey)
        for message in journey.messages:
            send = journey.send(message)
            assert send.kind == "PRODUCER" and journey.published(send)
            assert send.attributes["tracehop.context.verdict"] == "restamped"
        sends = sorted(span.span_id for span in journey.sends)
        assert sorted(span.parent_id for span in journey.run_spans) == sends
        is_one_trace(journey)


def test_observe_reports_and_changes_nothing(tmp_path):
    with Stage(tmp_path, TRACEHOP_POLICY_MODE="observe") as stage:
        journey = stage.play("chain_of_three", Mode(), 3)
        runs_as_without_the_proxy(journey)
        for message, run in journey.messages.items():
            assert run["traceparent"] is None and run["tracestate"] is None
            assert journey.send(message).attributes["tracehop.context.verdict"] == "missing"


def test_what_is_not_sampled_is_not_recorded_by_anyone(tmp_path):
    with Stage(tmp_path, OTEL_TRACES_SAMPLER="parentbased_always_off") as stage:
        journey = stage.play("chain_of_three", Mode(worker=True), 3, recorded=False)
        runs_as_without_the_proxy(journey)
        for run in journey.runs:
            flags = int(run["traceparent"][-2:], 16)
            assert flags & 1 == 0
        eventually(lambda: stage.hop.metric("tracehop_sends_total") == 3, "hops are counted")
        assert stage.receiver.spans() == []


@pytest.fixture
def two_hops(own_stage):
    """A second proxy in front of the same broker; the first one's is `own_stage.hop`."""
    with Tracehop(
        own_stage.directory,
        own_stage.server.port,
        own_stage.receiver.endpoint,
        "second",
        own_stage.server.system,
    ) as second:
        yield own_stage, second


@pytest.mark.parametrize("mode", [Mode(), Mode(producer=True)], ids=str)
def test_producer_and_worker_may_have_a_proxy_each(two_hops, mode):
    stage, second = two_hops
    stage.worker(mode, broker=second.url)
    journey = stage.play("chain_of_three", mode, 3)
    runs_as_without_the_proxy(journey)
    is_one_trace(journey)


def test_two_proxies_in_a_row_agree(two_hops):
    stage, inner = two_hops
    endpoint = stage.receiver.endpoint
    system, settings = stage.server.system, {"OTEL_SERVICE_NAME": "outer"}
    with Tracehop(stage.directory, inner.port, endpoint, "outer", system, **settings) as outer:
        mode = Mode(worker=True)
        stage.producer(mode, broker=outer.url)
        stage.worker(mode)
        journey = stage.play("delay", mode, 1)
        (run,) = journey.runs
        first = stage.receiver.wait(lambda spans: legs(spans, "send", service="outer"), 30)
        (first,), (second,), (ran,) = first, journey.sends, journey.run_spans
        assert run["traceparent"][36:52] == first.span_id
        assert (first.kind, second.kind) == ("PRODUCER", "CLIENT")
        assert second.parent_id == ran.parent_id == first.span_id
        assert first.trace_id == second.trace_id == ran.trace_id
