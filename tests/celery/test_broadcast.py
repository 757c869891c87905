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


@pytest.mark.parametrize("traced", [False, True], ids=["plain", "traced"])
def test_a_broadcast_is_one_hop_to_many_workers(stage, listeners, traced):
    tag = new_tag()
    producer = stage.producer(Mode(producer=traced))
    task_id = producer.order("broadcast", tag, exchange="cast", wait=False)["id"]
    eventually(lambda: len(stage.notes.runs(tag)) == 2, "both workers run the task")
    sends, receives, runs = stage.receiver.wait(lambda spans: all_of(spans, task_id), 30)
    (send,), (run,) = sends, runs
    assert send.kind == ("CLIENT" if traced else "PRODUCER")
    destination = {"redis": "/0.cast/all", "rabbitmq": "cast:all"}[stage.server.system]
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
