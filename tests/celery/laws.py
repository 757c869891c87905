"""What holds for every flow that was played through the proxy: laws about a `Journey`."""

import uuid
from datetime import datetime

from harness import counted
from stage import message_of


def holds_all(journey, server):
    runs_as_without_the_proxy(journey)
    every_hop_tells_its_message(journey, server)
    every_delivery_is_told_with_the_time_that_its_message_waited(journey, server)
    if journey.processes:
        every_run_is_told_with_its_end(journey, server)
    every_hop_has_its_place_in_the_trace(journey)
    every_run_is_a_child_of_what_its_message_carried(journey)
    is_one_trace(journey)


def runs_as_without_the_proxy(journey):
    assert counted(journey.runs) == journey.expected_runs
    assert journey.value == journey.expected_value


def every_hop_tells_its_message(journey, server):
    for message, run in journey.messages.items():
        span = journey.send(message)
        tells_its_message(span, "send", run, journey, server)
        assert span.attributes["tracehop.answer"] == journey.answer
        assert journey.asked_at <= seconds(span.start)
        if run["parent_id"] is None and run["retries"] == 0 and journey.answer == "confirmed":
            assert seconds(span.start) <= journey.published_at, "the producer sent it"


def tells_its_message(span, leg, run, journey, server):
    """What the spans of all legs tell."""
    said = span.attributes
    assert span.start < span.end and not span.error
    assert said["messaging.system"] == server.system
    assert said["messaging.operation.type"] == leg
    assert run["queue"] in said["messaging.destination.name"]
    assert span.name == f"{leg} {said['messaging.destination.name']}"
    assert said["messaging.message.id"] == run["id"]
    assert said["server.address"] == "127.0.0.1"
    assert said["server.port"] == server.port
    assert said["celery.task_name"] == run["task"]
    assert said["celery.retries"] == run["retries"]
    assert ("celery.eta" in said) == (run["eta"] is not None)
    if journey.mode.protocol == 2:
        for key in ("root_id", "parent_id", "group"):
            assert said.get(f"celery.{key}") == run[key]
    assert journey.tag not in span.text, "an argument"


def every_delivery_is_told_with_the_time_that_its_message_waited(journey, server):
    for message in journey.messages:
        send = journey.send(message)
        deliveries = journey.deliveries(message)
        for number, (span, run) in enumerate(deliveries, 1):
            tells_its_message(span, "receive", run, journey, server)
            said = span.attributes
            assert span.kind == "CLIENT"
            assert (span.trace_id, span.parent_id) == (send.trace_id, carried(send))
            assert said["messaging.destination.name"] == run["queue"]
            assert said["tracehop.context.verdict"] == "kept"
            # From the moment that the producer sent it, until before it ran.
            assert span.start == send.start
            assert seconds(span.end) <= run["at"]
            # What RabbitMQ holds back on purpose does not wait for a worker.
            is_held = send.attributes["messaging.destination.name"].startswith("celery_delayed_")
            taken_up = min(due(run), span.end) if is_held else span.start
            assert said.get("tracehop.delay_ms", 0) == milliseconds(taken_up - span.start)
            assert said["tracehop.dwell_ms"] == milliseconds(span.end - taken_up)
            until_due = milliseconds(due(run) - span.end) if run["eta"] else 0
            assert said.get("tracehop.eta_wait_ms", 0) == max(0, until_due)
            is_last = number == len(deliveries)
            assert said["tracehop.settlement"] == ("acknowledged" if is_last else "requeued")
            assert said.get("tracehop.redelivered", False) == (number > 1)


# How those runs end of which no result tells, and what tells of it instead.
ENDS = {"retried": ("retried", "publication"), "unknown": ("unknown", "acknowledgement")}


def every_run_is_told_with_its_end(journey, server):
    for message in journey.messages:
        send = journey.send(message)
        receives = [receive for receive, _ in journey.deliveries(message)]
        for receive, (span, run) in zip(receives, journey.processes_of(message), strict=True):
            said = span.attributes
            assert span.kind == "CONSUMER" and span.name == f"process {run['queue']}"
            assert (span.trace_id, span.parent_id) == (send.trace_id, carried(send))
            assert span.start >= receive.end
            # Without a beginning it is no more than a moment.
            if said["tracehop.begin_evidence"] == "unknown":
                assert span.end - span.start <= 1000
            ends = run["ends"]
            if ends is None:
                continue  # it writes no result, and may be acknowledged at any time
            told = said["celery.state"], said["tracehop.evidence"]
            assert told == ENDS.get(ends, (ends, "result"))
            assert span.error == (ends == "failed")
            if ends != "unknown":
                assert run["at"] <= seconds(span.end)
    ids = [span.span_id for span in journey.sends + journey.receives + journey.processes]
    assert len(ids) == len(set(ids))


def every_hop_has_its_place_in_the_trace(journey):
    """The table of who adds, keeps and renews, and whose child each hop is."""
    mode = journey.mode
    for message, run in journey.messages.items():
        span = journey.send(message)
        retried = run["retries"] > 0
        by_worker = retried or run["parent_id"] is not None
        # Neither OpenTelemetry nor, before 5.3, a retry carries headers further than this.
        traced = (mode.worker if by_worker else mode.producer) and mode.protocol == 2
        copied = mode.version != "4.4"
        verdict = span.attributes["tracehop.context.verdict"]
        origin = span.attributes["tracehop.context.origin"]
        if traced:
            assert (verdict, origin, span.kind) == ("kept", "carried", "CLIENT")
            assert journey.published(span), "the parent is the app's own span"
        elif retried and mode.producer and mode.protocol == 2:
            # The app's own context, copied to the retry by Celery.
            assert (verdict, origin, span.kind) == ("kept", "carried", "CLIENT")
            assert span.parent_id == journey.send(before(message)).parent_id
        elif retried:
            expected = ("renewed", "carried") if copied else ("added", "inherited")
            assert (verdict, origin) == expected and span.kind == "PRODUCER"
            assert span.parent_id in journey.causes(before(message))
        elif by_worker:
            assert (verdict, origin, span.kind) == ("added", "inherited", "PRODUCER")
            assert span.parent_id in journey.causes_in(run["parent_id"], but=message)
        else:
            assert (verdict, span.kind, span.parent_id) == ("added", "PRODUCER", "")
            group = run["group"] or run["awaited"]
            assert origin == "derived" or group and origin == "inherited"
            assert span.trace_id == uuid.UUID(group or run["id"]).hex


def every_run_is_a_child_of_what_its_message_carried(journey):
    if journey.mode.version == "4.4" and journey.mode.protocol == 1:
        return  # such a worker does not read the headers
    for message, run in journey.messages.items():
        span = journey.send(message)
        assert run["traceparent"][:52] == f"00-{span.trace_id}-{carried(span)}"
        if span.kind == "PRODUCER":
            assert run["tracestate"].startswith(f"tracehop={span.span_id}-")
    if journey.mode.worker:
        contexts = [carried(journey.send(message_of(run))) for run in journey.runs]
        assert sorted(span.parent_id for span in journey.run_spans) == sorted(contexts)


def is_one_trace(journey):
    spans = journey.sends + journey.receives + journey.processes + journey.run_spans
    assert len({span.trace_id for span in spans}) == 1


def carried(span):
    """The span id in the message that this hop is about."""
    return span.parent_id if span.kind == "CLIENT" else span.span_id


def before(message):
    task, task_id, retries = message
    return task, task_id, retries - 1


def due(run):
    """When a task is to run, in nanoseconds since the epoch."""
    eta = datetime.fromisoformat(run["eta"])
    return int(eta.timestamp()) * 10**9 + eta.microsecond * 1000


def seconds(nanoseconds):
    return nanoseconds / 10**9


def milliseconds(nanoseconds):
    return nanoseconds // 10**6
