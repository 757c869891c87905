"""Settings that change what happens to the context, and more than one proxy."""

import json

import pytest

from harness import Tracehop, eventually
from laws import (
    every_run_is_a_child_of_what_its_message_carried,
    is_one_trace,
    runs_as_without_the_proxy,
)
from stage import Mode, legs, new_tag


def test_restamp_puts_the_hop_between_producer_and_worker(stage):
    with stage.beside("restamp", TRACEHOP_POLICY_ON_VALID="restamp") as stage:
        journey = stage.play("retry", Mode(producer=True, worker=True), 3)
        runs_as_without_the_proxy(journey)
        for message in journey.messages:
            send = journey.send(message)
            assert send.kind == "PRODUCER" and journey.published(send)
            assert send.attributes["tracehop.context.verdict"] == "restamped"
        sends = sorted(span.span_id for span in journey.sends)
        assert sorted(span.parent_id for span in journey.run_spans) == sends
        is_one_trace(journey)


def test_observe_reports_and_changes_nothing(stage):
    with stage.beside("observe", TRACEHOP_POLICY_MODE="observe") as stage:
        journey = stage.play("chain_of_three", Mode(), 3)
        runs_as_without_the_proxy(journey)
        for message, run in journey.messages.items():
            assert run["traceparent"] is None and run["tracestate"] is None
            assert journey.send(message).attributes["tracehop.context.verdict"] == "missing"


def test_what_is_not_sampled_is_not_recorded_by_anyone(stage):
    with stage.beside("unsampled", OTEL_TRACES_SAMPLER="parentbased_always_off") as stage:
        journey = stage.play("chain_of_three", Mode(worker=True), 3, recorded=False)
        runs_as_without_the_proxy(journey)
        for run in journey.runs:
            flags = int(run["traceparent"][-2:], 16)
            assert flags & 1 == 0
        eventually(lambda: stage.hop.metric("tracehop_sends_total") == 3, "hops are counted")
        assert stage.receiver.spans() == []


@pytest.fixture(scope="module", params=["delivery", "both"])
def behind(stage, request):
    """A stage whose proxy edits what is delivered."""
    name = f"on-{request.param}"
    settings = {"TRACEHOP_POLICY_INJECT_ON": request.param, "TRACEHOP_SPANS_PROCESS": "true"}
    with stage.beside(name, **settings) as behind:
        yield request.param, behind


@pytest.mark.parametrize("flow, runs", [("delay", 1), ("retry", 3), ("chain_of_three", 3), ("requeue", 2)])
def test_context_may_be_added_at_delivery(behind, flow, runs):
    where, stage = behind
    journey = stage.play(flow, Mode(), runs)
    runs_as_without_the_proxy(journey)
    is_one_trace(journey)
    if where == "both":
        every_run_is_a_child_of_what_its_message_carried(journey)
        return
    for message in journey.messages:
        send = journey.send(message)
        written = None
        for receive, run in journey.deliveries(message):
            # On Redis it stays in what a worker puts back.
            kept = written if stage.server.system == "redis" else None
            written = kept or receive.span_id
            assert run["traceparent"][:52] == f"00-{receive.trace_id}-{written}"
            if not (kept or run["retries"]):
                assert receive.parent_id == send.span_id
        for process, _ in journey.processes_of(message):
            assert process.parent_id in {span.span_id for span in journey.receives}


def test_a_wide_group_goes_on_in_traces_of_its_own_with_links_back(stage):
    with stage.beside("wide", TRACEHOP_LIMITS_FANOUT_MAX="2") as wide:
        wide.worker(Mode()).ready()
        tag = new_tag()
        wide.producer(Mode()).order("burst", tag, count=5)
        ids = {run["id"] for run in wide.notes.runs(tag)}
        wide.receiver.wait(lambda spans: len(legs(spans, "send", ids)) == 5, 30)
        sends = sorted(legs(wide.receiver.spans(), "send", ids), key=lambda span: span.start)
        traces = [span.trace_id for span in sends]
        assert traces[0] == traces[1] and len(set(traces)) == 4
        for span in sends[2:]:
            assert span.links == ((sends[0].trace_id, sends[0].span_id),)


def test_only_what_the_rollout_names_is_edited(stage):
    with stage.beside("rollout", TRACEHOP_ROLLOUT_TASKS_DENY="tot*,flaky") as rollout:
        mode = Mode(apart=stage.server.system == "rabbitmq")
        journey = rollout.play("chord_of_two", mode, 3)
        runs_as_without_the_proxy(journey)
        is_one_trace(journey)
        for run in journey.runs:
            assert (run["traceparent"] is None) == (run["task"] == "total")


# By task, and by the protocol of the worker to whose queue it goes: the flow that sends it.
SENT = {("add", 2): "delay", ("picky", 2): "requeue", ("add", 1): "delay"}
ROLLOUTS = {
    "queues": ("QUEUES_ALLOW", "*-plain-2-*", [("add", 2), ("picky", 2)]),
    "tasks": ("TASKS_ALLOW", "ad?", [("add", 2), ("add", 1)]),
    "no-trace": ("INJECT_RATIO", "0", []),
    "every-trace": ("INJECT_RATIO", "1", SENT),
}


@pytest.mark.parametrize("rollout", ROLLOUTS)
def test_what_a_rollout_does_not_name_is_told_and_not_edited(following, rollout):
    """The workers are behind another proxy, which edits nothing that is delivered."""
    stage, modes = following, {protocol: Mode(protocol=protocol) for protocol in (1, 2)}
    for worker in [stage.worker(mode) for mode in modes.values()]:
        worker.ready()
    setting, value, named = ROLLOUTS[rollout]
    with stage.proxy(rollout, **{f"TRACEHOP_ROLLOUT_{setting}": value}) as hop:
        env = stage.env(modes[2], False, broker=hop.url)
        with stage.new_producer(rollout, env) as producer:
            for (task, protocol), flow in SENT.items():
                tag, queue = new_tag(), stage.queue(modes[protocol])
                ids = {producer.order(flow, tag, queue=queue)["id"]}
                runs = stage.notes.runs(tag)
                is_named = (task, protocol) in named
                (send,) = stage.receiver.wait(lambda spans: legs(spans, "send", ids), 30)
                verdict = send.attributes["tracehop.context.verdict"]
                assert verdict == ("added" if is_named else "missing")
                context = f"00-{send.trace_id}-{send.span_id}" if is_named else None
                for run in runs:
                    assert (run["traceparent"] and run["traceparent"][:52]) == context
                told = lambda spans: legs(spans, "process", ids)  # noqa: E731
                stage.receiver.wait(lambda spans: len(told(spans)) == len(runs), 30)
                traces = [span.trace_id for span in told(stage.receiver.spans())]
                assert traces == [send.trace_id] * len(runs)


# What a producer writes into the headers, and how good that is as a context.
CONTEXTS = {
    "valid": {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
    "missing": {},
    "invalid": {"traceparent": "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01"},
    "foreign": {"b3": "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1"},
    "mixed": {
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "b3": "1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
    },
}


def test_the_report_tells_how_good_the_contexts_of_each_task_are(stage):
    with stage.beside("report") as report:
        report.worker(Mode()).ready()
        producer = report.producer(Mode())
        for number, headers in enumerate(CONTEXTS.values(), 1):
            for _ in range(number):
                producer.order("with_headers", new_tag(), headers=headers)
        producer.order("retry", new_tag())
        found = {"add": {}, "flaky": {}}

        def told():
            for entry in json.loads(report.hop.get("/api/quality"))["entries"]:
                assert entry["destination"] == report.queue(Mode())
                assert entry["system"] == report.server.system
                for each in entry["contexts"]:
                    found[entry["task"]][each["quality"]] = each["messages"]
            return sum(found["add"].values()) == 15 and sum(found["flaky"].values()) == 3

        eventually(told, "every message is in the report")
        assert found["add"] == {quality: number for number, quality in enumerate(CONTEXTS, 1)}
        assert found["flaky"] == {"missing": 1, "stale": 2}


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
