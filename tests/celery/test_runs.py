"""Runs that take another course than to their end, and what can be told of them: with results
and with events, and where nobody tells anything."""

import time
from dataclasses import replace

import pytest

from harness import eventually
from laws import milliseconds, seconds
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


def test_waiting_for_a_worker_waiting_at_it_and_running_are_told_apart(following):
    """Of the four tasks that the worker may have at a time it runs two."""
    stage, server = following, following.server
    queue, release = stage.queue(PLAIN), stage.notes.client.set
    stage.worker(PLAIN).ready()
    producer = stage.producer(PLAIN)
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
        assert "tracehop.prefetch_ms" not in receive.attributes, "nobody has told when it began"
    for answer in at_worker:
        receive, process = way_out(stage, answer["id"])
        assert answer["asked_at"] <= seconds(receive.start) <= seconds(receive.end) <= taken_by
        for span in (receive, process):
            held = span.attributes["tracehop.prefetch_ms"]
            assert int((released_at - taken_by) * 1000) <= held
            assert held <= (begun_by - answer["asked_at"]) * 1000
        assert seconds(process.end) >= begun_by
    receive, process = way_out(stage, in_queue["id"])
    assert seconds(receive.end) >= released_at
    assert receive.attributes["tracehop.dwell_ms"] == milliseconds(receive.end - receive.start)
    assert process.start == receive.end
