"""A broadcast goes to many workers: on Redis by PUBLISH, past any list, on RabbitMQ by an exchange."""

import pytest

from harness import Worker, eventually
from laws import carried
from stage import Mode, legs, new_tag, run_spans


@pytest.fixture(scope="module")
def listeners(stage):
    """Two workers that listen to the same broadcast, one of them instrumented."""
    modes = [Mode(worker=False), Mode(worker=True)]
    workers = []
    for mode in modes:
        env = stage.env(mode, mode.worker, broadcast="cast")
        workers.append(Worker(stage.directory, f"listener-{mode}", stage.notes, env))
    for worker in workers:
        worker.ready()
    yield workers
    for worker in workers:
        worker.close()


DESTINATIONS = {"redis": "/0.{}/all", "rabbitmq": "{}:all"}


@pytest.mark.parametrize("traced", [False, True], ids=["plain", "traced"])
def test_a_broadcast_is_one_hop_to_many_workers(stage, listeners, traced):
    tag = new_tag()
    producer = stage.producer(Mode(producer=traced))
    task_id = producer.order("broadcast", tag, exchange="cast", wait=False)["id"]
    eventually(lambda: len(stage.notes.runs(tag)) == 2, "both workers run the task")
    sends, receives, runs = stage.receiver.wait(lambda spans: all_of(spans, task_id), 30)
    (send,), (run,) = sends, runs
    assert send.kind == ("CLIENT" if traced else "PRODUCER")
    destination = DESTINATIONS[stage.server.system].format("cast")
    assert send.attributes["messaging.destination.name"] == destination
    assert (run.trace_id, run.parent_id) == (send.trace_id, carried(send))
    for seen in stage.notes.runs(tag):
        assert seen["traceparent"][:52] == f"00-{send.trace_id}-{carried(send)}"
    for receive in receives:
        assert (receive.trace_id, receive.parent_id) == (send.trace_id, carried(send))
        assert receive.attributes["tracehop.settlement"] == "acknowledged"


def all_of(spans, task_id):
    """The hop to both workers and the run of the instrumented one."""
    ids = {task_id}
    found = legs(spans, "send", ids), legs(spans, "receive", ids), run_spans(spans, ids)
    return [len(each) for each in found] == [1, 2, 1] and found


def test_followed_to_its_end_a_broadcast_is_one_trace_with_a_run_at_each_worker(stage):
    # In Redis there is one result for all workers, and none writes it after another has.
    events = {"worker_send_task_events": True}
    with stage.beside("followed", celery=events, TRACEHOP_SPANS_PROCESS="true") as followed:
        mode = Mode()
        env = followed.env(mode, False, broadcast="followed")
        producer = followed.producer(mode)
        with followed.new_worker("one", env) as one, followed.new_worker("other", env) as other:
            one.ready(), other.ready()
            order = {"exchange": "followed", "wait": False}
            task_id = producer.order("broadcast", new_tag(), **order)["id"]
            count = {"send": 1, "receive": 2, "process": 2}
            found = followed.receiver.wait(lambda spans: every_leg(spans, task_id, count), 30)
        assert found, "the spans of both ways out"
        (send,), receives, processes = found
        destination = DESTINATIONS[stage.server.system].format("followed")
        assert send.attributes["messaging.destination.name"] == destination
        for span in receives + processes:
            assert (span.trace_id, span.parent_id) == (send.trace_id, send.span_id)
        assert {span.attributes["tracehop.settlement"] for span in receives} == {"acknowledged"}
        assert {span.attributes["celery.state"] for span in processes} == {"succeeded"}
        assert followed.hop.metric("tracehop_messages_total", destination=destination) == 1


def every_leg(spans, task_id, count):
    """The spans of each leg, once there are so many."""
    found = [legs(spans, leg, {task_id}) for leg in count]
    return [len(each) for each in found] == [*count.values()] and found
