"""Messages that the broker delivers twice, because a worker died or stopped: they are the same
publication, however often they arrive."""

import pytest

from harness import eventually
from laws import carried
from stage import Mode, delivered_at, legs, new_tag

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
        return self.stage.new_worker(name, env)

    def runs(self):
        return [run for tag in self.tags for run in self.stage.notes.runs(tag)]

    def publish(self, flow, **order):
        for tag, producer in self.tags.items():
            producer.start(flow, tag, **order)

    def answers(self):
        return [producer.answer()["value"] for producer in self.tags.values()]

    def sends(self):
        """The send spans of our tasks, all of them: that of a later message has arrived too."""
        ids = {run["id"] for run in self.runs()}
        producer = next(iter(self.tags.values()))
        # To a queue without a worker: it stays there.
        last = producer.order("delay", new_tag(), wait=False, queue="nobodys")["id"]
        receiver = self.stage.receiver
        assert receiver.wait(lambda spans: legs(spans, "send", {last}), 30)
        return legs(receiver.spans(), "send", ids)

    def deliveries(self, send, count):
        """The receive spans of a message that was delivered so often, in order."""
        return self.way_out("receive", send, count)

    def way_out(self, leg, send, count):
        ids = {send.attributes["messaging.message.id"]}
        receiver = self.stage.receiver
        receiver.wait(lambda spans: len(legs(spans, leg, ids)) >= count, 30)
        found = legs(receiver.spans(), leg, ids)
        assert len(found) == count, found
        return sorted(found, key=delivered_at)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_a_task_of_a_killed_worker_runs_again_in_its_hop(own_stage, mode):
    cast = Cast(own_stage, mode)
    run_hold_twice(cast)
    # RabbitMQ sees at once that a worker is gone. Redis does not: another worker puts it back.
    judge(cast, {"redis": "requeued", "rabbitmq": "abandoned"}[own_stage.server.system])


def test_followed_to_its_end_a_task_of_a_killed_worker_is_one_trace_with_both_runs(stage):
    with stage.beside("killed", TRACEHOP_SPANS_PROCESS="true") as killed:
        cast = Cast(killed, Mode())
        run_hold_twice(cast)
        first = {"redis": "requeued", "rabbitmq": "abandoned"}[stage.server.system]
        judge(cast, first)
        for send in cast.sends():
            receives, runs = cast.deliveries(send, 2), cast.way_out("process", send, 2)
            assert all(run.start >= receive.end for run, receive in zip(runs, receives, strict=True))
            for run in runs:
                assert (run.trace_id, run.parent_id) == (send.trace_id, carried(send))
            told = [(run.attributes["celery.state"], run.error) for run in runs]
            assert told == [("unknown", first == "abandoned"), ("succeeded", False)]


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_a_task_that_a_stopping_worker_gives_back_is_still_in_its_hop(own_stage, mode):
    cast = Cast(own_stage, mode)
    server = own_stage.server
    with cast.worker("first") as first:
        first.ready()
        cast.publish("countdown", seconds=6)
        # Sooner than the broker would tell: it has to be before they run.
        eventually(lambda: first.log.read_text().count("] received") == 2, "the worker holds both tasks")
        assert first.stop() == 0
    assert server.waiting(own_stage.queue(mode)) == 2, "both are back in the queue"
    assert cast.runs() == []
    with cast.worker("second") as second:
        second.ready()
        assert cast.answers() == [3, 3]
        eventually(server.idle, "nothing waits any longer")
    assert len(cast.runs()) == 2
    # To Redis the worker gives it back; RabbitMQ takes it when the worker closes its connection.
    judge(cast, {"redis": "requeued", "rabbitmq": "returned"}[own_stage.server.system])
    failed = own_stage.hop.metric("tracehop_connections_failed_total")
    assert failed == 0, "an orderly end is no fault"


@pytest.mark.parametrize("inject_on", ["delivery", "both"])
def test_context_that_is_added_at_delivery_stands_in_nobodys_way(stage, inject_on):
    name, settings = f"again-on-{inject_on}", {"TRACEHOP_POLICY_INJECT_ON": inject_on}
    with stage.beside(name, **settings) as own_stage:
        cast = Cast(own_stage, Mode())
        run_hold_twice(cast)
        sends = {span.attributes["messaging.message.id"]: span for span in cast.sends()}
        for run in cast.runs():
            assert run["traceparent"][3:35] == sends[run["id"]].trace_id
        for send in sends.values():
            settlements = [span.attributes["tracehop.settlement"] for span in cast.deliveries(send, 2)]
            assert settlements[1] == "acknowledged"


def run_hold_twice(cast):
    """Has one worker killed in the middle of two tasks and another one run them to their end."""
    with cast.worker("first") as first:
        first.ready()
        cast.publish("hold")
        eventually(lambda: len(cast.runs()) == 2, "the first worker runs both tasks")
        first.kill()
    for tag in cast.tags:
        cast.stage.notes.client.set(f"release:{tag}", "now")
    with cast.worker("second", **HEIR) as second:
        second.ready()
        eventually(lambda: len(cast.runs()) == 4, "the second worker runs them again")
        assert cast.answers() == ["released", "released"]
        eventually(cast.stage.server.idle, "nothing waits any longer")
    assert len(cast.runs()) == 4


def judge(cast, first):
    """One send span for each of the two tasks, and two receive spans: of the delivery that came
    to nothing, which was settled like this, and of the one that was acknowledged."""
    if cast.mode.direct:
        return
    sends = {span.attributes["messaging.message.id"]: span for span in cast.sends()}
    assert len(sends) == len(cast.sends()) == 2
    for run in cast.runs():
        send = sends[run["id"]]
        assert run["traceparent"][:52] == f"00-{send.trace_id}-{carried(send)}"
    assert {send.kind for send in sends.values()} == {"PRODUCER", "CLIENT"}
    for send in sends.values():
        receives = cast.deliveries(send, 2)
        told = [(span.attributes["tracehop.settlement"], span.error) for span in receives]
        assert told == [(first, first == "abandoned"), ("acknowledged", False)]
        assert [span.attributes.get("tracehop.redelivered") for span in receives] == [None, True]
        for receive in receives:
            assert (receive.trace_id, receive.parent_id) == (send.trace_id, carried(send))
            assert receive.start == send.start
