"""A broadcast goes to many workers: on Redis by PUBLISH, past any list, on RabbitMQ by an exchange."""

import pytest

from harness import Worker, eventually
from stage import Mode, new_tag


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
    send, run = stage.receiver.wait(lambda spans: both(spans, task_id), 30)
    assert send.kind == ("CLIENT" if traced else "PRODUCER")
    destination = {"redis": "/0.cast/all", "rabbitmq": "cast:all"}[stage.server.system]
    assert send.attributes["messaging.destination.name"] == destination
    context = send.parent_id if traced else send.span_id
    assert (run.trace_id, run.parent_id) == (send.trace_id, context)
    for seen in stage.notes.runs(tag):
        assert seen["traceparent"][:52] == f"00-{send.trace_id}-{context}"


def both(spans, task_id):
    """The hop and the run of the instrumented worker."""
    mine = [span for span in spans if span.attributes.get("messaging.message.id") == task_id]
    sends = [span for span in mine if span.service == "tracehop"]
    runs = [span for span in mine if span.name.startswith("run/")]
    return len(sends) == len(runs) == 1 and (sends[0], runs[0])
