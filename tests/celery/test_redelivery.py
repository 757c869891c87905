"""Messages that the broker delivers twice, because a worker died or stopped: they are the same
publication, however often they arrive."""

import pytest

from harness import Worker, eventually
from stage import Mode, new_tag

# Takes over what another worker has held for three seconds; RabbitMQ needs no such settings.
HEIR = {
    "visibility_timeout": 3,
    "unacked_restore_interval": 1,
    "unacked_restore_throttle": 1,
}
MODES = [Mode(direct=True), Mode(True, False), Mode(False, True)]


class Cast:
    """A worker that leaves, the one that comes after it, and a producer of each kind."""

    def __init__(self, stage, mode):
        self.stage, self.mode = stage, mode
        traced = Mode(True, mode.worker, direct=mode.direct)
        plain = Mode(False, mode.worker, direct=mode.direct)
        self.tags = {new_tag(): stage.producer(plain), new_tag(): stage.producer(traced)}

    def worker(self, name, **transport):
        if self.stage.server.system != "redis":
            transport = {}
        env = self.stage.env(self.mode, self.mode.worker, broker_transport_options=transport)
        return Worker(self.stage.directory, name, self.stage.notes, env)

    def runs(self):
        return [run for tag in self.tags for run in self.stage.notes.runs(tag)]

    def publish(self, flow, **order):
        for tag, producer in self.tags.items():
            producer.start(flow, tag, **order)

    def answers(self):
        return [producer.answer()["value"] for producer in self.tags.values()]

    def sends(self):
        """The hops of our tasks, all of them: those of a later message have arrived too."""
        ids = {run["id"] for run in self.runs()}
        producer = next(iter(self.tags.values()))
        last = producer.order("delay", new_tag(), wait=False)["id"]
        receiver = self.stage.receiver

        def arrived(spans):
            return [s for s in spans if s.attributes.get("messaging.message.id") == last]

        assert receiver.wait(arrived, 30)
        sends = [span for span in receiver.spans() if span.service == "tracehop"]
        return [span for span in sends if span.attributes["messaging.message.id"] in ids]


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_a_task_of_a_killed_worker_runs_again_in_its_hop(own_stage, mode):
    cast = Cast(own_stage, mode)
    with cast.worker("first") as first:
        first.ready()
        cast.publish("hold")
        eventually(lambda: len(cast.runs()) == 2, "the first worker runs both tasks")
        first.kill()
    for tag in cast.tags:
        own_stage.notes.client.set(f"release:{tag}", "now")
    with cast.worker("second", **HEIR) as second:
        second.ready()
        eventually(lambda: len(cast.runs()) == 4, "the second worker runs them again")
        assert cast.answers() == ["released", "released"]
        eventually(own_stage.server.idle, "nothing waits any longer")
    assert len(cast.runs()) == 4
    judge(cast)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_a_task_that_a_stopping_worker_gives_back_is_still_in_its_hop(own_stage, mode):
    cast = Cast(own_stage, mode)
    server = own_stage.server
    with cast.worker("first") as first:
        first.ready()
        cast.publish("countdown", seconds=4)
        eventually(lambda: held(server, mode.queue()) == 2, "the worker holds both tasks")
        assert first.stop() == 0
    assert server.waiting(mode.queue()) == 2, "both are back in the queue"
    assert cast.runs() == []
    with cast.worker("second") as second:
        second.ready()
        assert cast.answers() == [3, 3]
        eventually(server.idle, "nothing waits any longer")
    assert len(cast.runs()) == 2
    judge(cast)


def held(server, queue):
    """How many messages a worker has taken and not yet acknowledged."""
    if server.system == "redis":
        return server.client.hlen("unacked")
    return server.queues("messages_unacknowledged").get(queue, 0)


def judge(cast):
    """One hop for each of the two tasks, and every run in its trace."""
    if cast.mode.direct:
        return
    sends = {span.attributes["messaging.message.id"]: span for span in cast.sends()}
    assert len(sends) == len(cast.sends()) == 2
    for run in cast.runs():
        send = sends[run["id"]]
        context = send.span_id if send.kind == "PRODUCER" else send.parent_id
        assert run["traceparent"][:52] == f"00-{send.trace_id}-{context}"
    assert {send.kind for send in sends.values()} == {"PRODUCER", "CLIENT"}
