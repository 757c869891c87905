"""Runs that take another course than to their end, and what can be told of them: with results
and with events, and where nobody tells anything."""

import socket
import time
from dataclasses import replace

import pytest

from harness import eventually
from laws import due, milliseconds, seconds
from stage import Mode, legs, new_tag

PLAIN = Mode()


@pytest.fixture(scope="module")
def watching(stage):
    """A stage whose worker sends events."""
    events = {"worker_send_task_events": True}
    with stage.beside("watching", celery=events, TRACEHOP_SPANS_PROCESS="true") as watching:
        yield watching


def way_out(stage, task_id):
    """The receive and the process span of a task that is delivered once."""

    def both(spans):
        found = legs(spans, "receive", {task_id}) + legs(spans, "process", {task_id})
        return len(found) == 2 and found

    found = stage.receiver.wait(both, 30)
    assert found, f"the way out of {task_id}"
    return found


def told(stage, task_id):
    """How a delivery was settled, how the run ended, and what that is known by."""
    receive, process = way_out(stage, task_id)
    said = process.attributes
    assert process.error == (said["celery.state"] == "failed")
    return receive.attributes["tracehop.settlement"], said["celery.state"], said["tracehop.evidence"]


@pytest.mark.parametrize("flow", ["revoked", "expired"])
def test_a_task_that_must_not_run_any_more_is_told_to_be_revoked(following, flow):
    worker, tag = following.worker(PLAIN).ready(), new_tag()
    host = {"host": worker.host} if flow == "revoked" else {}
    answer = following.producer(PLAIN).order(flow, tag, **host)
    assert answer["value"] == "TaskRevokedError"
    assert told(following, answer["id"]) == ("acknowledged", "revoked", "result")
    assert following.notes.runs(tag) == []


def test_a_task_that_is_thrown_away_is_told_to_be_so(following):
    system = following.server.system
    # There the result is written before the worker says any more.
    mode = replace(PLAIN, apart=system == "rabbitmq")
    following.worker(mode).ready()
    rejected = following.producer(mode).order("reject", new_tag(), wait=False)["id"]
    # To Redis, throwing away and acknowledging are one.
    settlement = {"redis": "acknowledged", "rabbitmq": "rejected"}[system]
    assert told(following, rejected) == (settlement, "failed", "result")


def test_of_a_task_without_a_result_only_its_acknowledgement_is_known(following):
    following.worker(PLAIN).ready()
    answer = following.producer(PLAIN).order("ignored", new_tag(), wait=False)
    assert told(following, answer["id"]) == ("acknowledged", "unknown", "acknowledgement")


def test_events_tell_of_what_has_no_result(watching):
    watching.worker(PLAIN).ready()
    producer = watching.producer(PLAIN)
    # By this one the proxy knows that there are events.
    first = producer.order("delay", new_tag())["id"]
    assert told(watching, first)[:2] == ("acknowledged", "succeeded")
    metric = lambda: watching.hop.metric("tracehop_open_deliveries")  # noqa: E731
    eventually(lambda: metric() == 0, "nothing is open")
    ignored = producer.order("ignored", new_tag(), wait=False)["id"]
    assert told(watching, ignored) == ("acknowledged", "succeeded", "event")


def test_a_run_begins_when_it_does_and_not_when_its_message_is_delivered(watching):
    """The event of a success tells how long it took: its ETA is no part of that."""
    watching.worker(PLAIN).ready()
    tag = new_tag()
    answer = watching.producer(PLAIN).order("countdown", tag, seconds=3)
    receive, process = way_out(watching, answer["id"])
    (run,) = watching.notes.runs(tag)
    assert process.attributes["tracehop.begin_evidence"] == "runtime"
    assert process.start >= due(run) and seconds(process.end) >= run["at"]
    eta_wait = receive.attributes["tracehop.eta_wait_ms"]
    assert eta_wait == milliseconds(due(run) - receive.end)
    ran = watching.hop.metric("tracehop_process_duration_seconds_sum", task="add")
    processes = legs(watching.receiver.spans(), "process")
    ran_by_spans = sum(span.end - span.start for span in processes)
    assert abs(ran - seconds(ran_by_spans)) < 0.001, "the metric says the same"


@pytest.fixture(scope="module")
def impatient(stage):
    """A stage whose proxy waits a second for outcomes, and whose worker has no result backend."""
    limit = {"TRACEHOP_LIMITS_OUTCOME_WAIT_MAX": "1s"}
    with stage.beside("impatient", TRACEHOP_SPANS_PROCESS="true", **limit) as impatient:
        env = impatient.env(PLAIN, False) | {"RESULTS": "disabled://"}
        with impatient.new_worker("plain", env) as worker, impatient.new_producer("plain", env) as producer:
            worker.ready()
            yield impatient, producer


def test_what_nobody_tells_of_a_run_ends_soon_as_what_it_is(impatient):
    stage, producer = impatient
    ids = [producer.order("delay", new_tag(), wait=False)["id"] for _ in range(10)]
    for task_id in ids:
        assert told(stage, task_id) == ("acknowledged", "unknown", "acknowledgement")
    for process in legs(stage.receiver.spans(), "process", set(ids)):
        assert process.attributes["tracehop.begin_evidence"] == "unknown"
        assert "tracehop.expired" not in process.attributes
    eventually(lambda: stage.hop.metric("tracehop_open_deliveries") == 0, "nothing is open")


def test_a_delivery_is_told_of_as_pending_when_its_settlement_takes_long(impatient):
    stage, producer = impatient
    tag = new_tag()
    # It is acknowledged when it has run.
    task_id = producer.order("hold", tag, wait=False)["id"]
    assert stage.receiver.wait(lambda spans: legs(spans, "receive", {task_id}), 30)
    assert legs(stage.receiver.spans(), "process", {task_id}) == []
    stage.notes.client.set(f"release:{tag}", "now")
    receive, process = way_out(stage, task_id)
    assert receive.attributes["tracehop.settlement"] == "pending" and not receive.error
    # Its end is all that is known of it.
    assert process.attributes["tracehop.begin_evidence"] == "unknown"
    counted = lambda: stage.hop.metric("tracehop_settlements_total", settlement="acknowledged")  # noqa: E731
    eventually(lambda: counted() == stage.hop.metric("tracehop_deliveries_total"), "its settlement counts")


def test_who_never_announces_to_acknowledge_settles_by_taking(own_stage):
    """gocelery, celery.node and rusty-celery pop, and say no more."""
    if own_stage.server.system != "redis":
        pytest.skip("RabbitMQ's own protocol tells who acknowledges")
    task_id = own_stage.producer(PLAIN).order("delay", new_tag(), wait=False)["id"]
    pop = f"BRPOP {own_stage.queue(PLAIN)} 30\r\n".encode()
    with socket.create_connection(("127.0.0.1", own_stage.hop.port), 30) as client:
        client.sendall(pop)
        reply = b""
        while task_id.encode() not in reply:
            assert (data := client.recv(1 << 16)), "a message"
            reply += data
        assert own_stage.hop.metric("tracehop_settlements_total") == 0
        client.sendall(pop)
        assert own_stage.receiver.wait(lambda spans: legs(spans, "receive", {task_id}), 30)
        (receive,) = legs(own_stage.receiver.spans(), "receive", {task_id})
        assert receive.attributes["tracehop.settlement"] == "automatic" and not receive.error
        assert own_stage.hop.metric("tracehop_open_deliveries") == 0


def test_waiting_for_a_worker_waiting_at_it_and_running_are_told_apart(following):
    """Of the four tasks that the worker may have at a time it runs two."""
    stage, server = following, following.server
    # There the result is written before the worker acknowledges what it does at the end.
    mode = replace(PLAIN, apart=server.system == "rabbitmq")
    queue, release = stage.queue(mode), stage.notes.client.set
    stage.worker(mode).ready()
    producer = stage.producer(mode)
    running, prefetched, waiting = new_tag(), new_tag(), new_tag()
    order = lambda flow, tag: producer.order(flow, tag, wait=False)  # noqa: E731
    runs = [order("hold", running) for _ in range(2)]
    eventually(lambda: len(stage.notes.runs(running)) == 2, "two tasks run")
    at_worker = [order("linger", prefetched) for _ in range(2)]
    eventually(lambda: server.unsettled(queue) == 4, "two more are at the worker")
    taken_by = time.time()
    in_queue = order("linger", waiting)
    eventually(lambda: server.waiting(queue) == 1, "and one in the queue")
    released_at = time.time()
    release(f"release:{running}", "now")
    eventually(lambda: len(stage.notes.runs(prefetched)) == 2, "the next two run")
    eventually(lambda: server.unsettled(queue) == 1, "and are acknowledged")
    begun_by = time.time()
    for tag in (prefetched, waiting):
        release(f"release:{tag}", "now")

    for answer in runs:
        receive, process = way_out(stage, answer["id"])
        assert seconds(process.end) >= released_at
        assert process.attributes["tracehop.begin_evidence"] == "unknown", "nobody has told when it began"
        assert "tracehop.prefetch_ms" not in process.attributes
    for answer in at_worker:
        receive, process = way_out(stage, answer["id"])
        assert answer["asked_at"] <= seconds(receive.start) <= seconds(receive.end) <= taken_by
        for span, attribute in (receive, "tracehop.hold_ms"), (process, "tracehop.prefetch_ms"):
            held = span.attributes[attribute]
            assert int((released_at - taken_by) * 1000) <= held
            assert held <= (begun_by - answer["asked_at"]) * 1000
        assert process.attributes["tracehop.begin_evidence"] == "acknowledgement"
        assert released_at <= seconds(process.start) <= begun_by <= seconds(process.end)
    receive, process = way_out(stage, in_queue["id"])
    assert seconds(receive.end) >= released_at
    assert receive.attributes["tracehop.dwell_ms"] == milliseconds(receive.end - receive.start)
    assert process.start >= receive.end
