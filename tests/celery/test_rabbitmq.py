"""What only RabbitMQ has: confirms, returns, exchanges, quorum queues, alarms."""

import amqp
import pytest

from harness import APP, CURRENT, Process, RabbitMQ, Tracehop, Worker
from harness import eventually, free_port, python
from laws import due, holds_all, milliseconds
from stage import Mode, Stage, legs, new_tag

PLAIN, TRACED = Mode(), Mode(producer=True, worker=True)
CONFIRMS = {"broker_transport_options": {"confirm_publish": True}}
# Messages to a queue of this kind go by a topic exchange, and those with an ETA wait in RabbitMQ.
QUORUM = CONFIRMS | {
    "task_default_queue_type": "quorum",
    "task_default_exchange_type": "topic",
    "worker_detect_quorum_queues": True,
}


@pytest.fixture(scope="module")
def confirming(tmp_path_factory):
    with Stage(tmp_path_factory.mktemp("confirms"), RabbitMQ, celery=CONFIRMS) as stage:
        yield stage


@pytest.fixture(scope="module")
def quorum(confirming):
    with confirming.beside("quorum", celery=QUORUM) as quorum:
        yield quorum


# Confirms


@pytest.mark.parametrize("flow, runs", [("delay", 1), ("retry", 3), ("chain_of_three", 3)])
@pytest.mark.parametrize("mode", [PLAIN, TRACED], ids=str)
def test_a_confirmed_message_is_told_to_be_so(confirming, mode, flow, runs):
    holds_all(confirming.play(flow, mode, runs), confirming.server)


@pytest.mark.parametrize("mode", [PLAIN, TRACED], ids=str)
def test_a_message_that_no_queue_takes_is_an_error_in_the_brokers_words(confirming, mode):
    producer = confirming.producer(mode)
    with pytest.raises(AssertionError, match="NO_ROUTE"):
        producer.order("unroutable", new_tag(), wait=False)

    kind = "CLIENT" if mode.producer else "PRODUCER"

    def refused(spans):
        found = [span for span in spans if span.attributes.get("tracehop.answer") == "refused"]
        return [span for span in found if span.kind == kind]

    (send,) = confirming.receiver.wait(refused, 30)
    assert send.error and "312 NO_ROUTE" in send.message
    assert send.attributes["messaging.destination.name"] == "amq.direct:nowhere"
    assert producer.order("delay", new_tag(), wait=False)["id"], "the producer goes on"


def test_while_rabbitmq_has_no_memory_producers_wait_and_lose_nothing(confirming):
    stage, tag = confirming, new_tag()
    stage.worker(PLAIN).ready()
    producer = stage.producer(PLAIN)
    producer.order("delay", new_tag())
    with stage.server.connect(stage.hop.port, **told_of_blocking(blocked := [])) as connection:
        stage.server.ctl("set_vm_memory_high_watermark", 0.0001)
        try:
            channel = connection.channel()
            channel.basic_publish(amqp.Message("nothing"), routing_key="elsewhere")
            producer.start("burst", tag, count=20)
            eventually(lambda: drained(connection, blocked), "the proxy passes connection.blocked")
            assert stage.notes.runs(tag) == []
        finally:
            # A connection that is blocked cannot even be closed.
            stage.server.ctl("set_vm_memory_high_watermark", 0.4)
        eventually(lambda: "unblocked" in drained(connection, blocked), "… and unblocked")
    assert producer.answer()["value"] == list(range(20))
    assert len(stage.notes.runs(tag)) == 20
    ids = {run["id"] for run in stage.notes.runs(tag)}
    assert len(ids) == 20
    sends = stage.receiver.wait(lambda spans: one_for_each(spans, ids), 30)
    assert sends and {send.attributes["tracehop.answer"] for send in sends} == {"confirmed"}


def told_of_blocking(told):
    return {"on_blocked": told.append, "on_unblocked": lambda: told.append("unblocked")}


def drained(connection, told):
    """What the broker has told a client of its own accord."""
    try:
        connection.drain_events(timeout=0.1)
    except TimeoutError:
        pass
    return told


def one_for_each(spans, ids):
    """The send spans of these messages, when each of them has exactly one."""
    sends = legs(spans, "send", ids)
    told = {span.attributes["messaging.message.id"] for span in sends}
    return len(sends) == len(ids) == len(told) and sends


def wrong(spans, ids):
    """Those that do not have exactly one send span, and what they have instead."""
    found = {each: [] for each in ids}
    for span in legs(spans, "send", ids):
        found[span.attributes["messaging.message.id"]].append(span)
    return {each: sends for each, sends in found.items() if len(sends) != 1}


# Quorum queues


@pytest.mark.parametrize(
    "flow, runs", [("delay", 1), ("retry_in_a_second", 2), ("chain_of_three", 3), ("requeue", 2)]
)
@pytest.mark.parametrize("mode", [PLAIN, TRACED], ids=str)
def test_quorum_queues_are_served_alike(quorum, mode, flow, runs):
    holds_all(quorum.play(flow, mode, runs), quorum.server)


@pytest.mark.parametrize("mode", [PLAIN, TRACED], ids=str)
def test_a_message_that_waits_in_rabbitmq_for_its_eta_is_one_hop(quorum, mode):
    tag = new_tag()
    quorum.worker(mode).ready()
    answer = quorum.producer(mode).order("countdown", tag, seconds=2)
    assert answer["value"] == 3
    (run,) = quorum.notes.runs(tag)
    (send,) = quorum.receiver.wait(lambda spans: one_for_each(spans, {run["id"]}), 30)
    assert send.attributes["messaging.destination.name"] == f"celery_delayed_27:{run['queue']}"
    context = send.parent_id if mode.producer else send.span_id
    assert run["traceparent"][:52] == f"00-{send.trace_id}-{context}"
    (receive,) = quorum.receiver.wait(lambda spans: legs(spans, "receive", {run["id"]}), 30)
    taken_up = min(due(run), receive.end)
    assert receive.attributes["tracehop.delay_ms"] == milliseconds(taken_up - send.start) > 0
    assert receive.attributes["tracehop.dwell_ms"] == milliseconds(receive.end - taken_up)


# Restarts


class Load:
    """A producer at full speed and a worker, with confirms; what they do is noted elsewhere."""

    def __init__(self, stage):
        self.stage = stage
        env = stage.env(PLAIN, False)
        self.worker = Worker(stage.directory, "load", stage.notes, env).ready()
        command = [python(CURRENT), APP / "load.py", 600, 500]
        self.producer = Process("load", command, stage.directory, env, cwd=APP)
        self.goes_on()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.producer.kill()
        self.producer.close()
        self.worker.close()

    def told(self, word):
        """The ids that the producer printed after `word`."""
        lines = [line.split() for line in self.producer.log.read_text().splitlines()]
        return [line[1] for line in lines if len(line) == 2 and line[0] == word]

    def goes_on(self):
        """Waits until more is confirmed and executed than before."""
        confirmed, executed = len(self.told("ok")), self.executed()
        eventually(lambda: len(self.told("ok")) > confirmed + 100, "messages are confirmed", 60)
        eventually(lambda: self.executed() > executed + 100, "tasks are executed", 60)

    def notices(self):
        """Waits until the producer is not served."""
        lost = len(self.told("lost"))
        eventually(lambda: len(self.told("lost")) > lost, "the producer notices")

    def executed(self):
        return int(self.stage.notes.client.get("executed") or 0)

    def executed_ids(self):
        return self.stage.notes.client.smembers("executed-ids")

    def end(self):
        """Has the producer end and the worker do the rest."""
        assert self.producer.stop() == 0
        eventually(lambda: set(self.told("ok")) <= self.executed_ids(), "all is executed", 60)
        eventually(self.stage.server.idle, "nothing waits any longer")


@pytest.fixture
def loaded(tmp_path):
    with Stage(tmp_path, RabbitMQ, celery=CONFIRMS) as stage, Load(stage) as load:
        yield stage, load


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_what_rabbitmq_confirmed_is_executed_although_it_was(loaded, how):
    stage, load = loaded
    if how == "stopped":
        assert stage.server.stop() == 0
    stage.server.close()
    load.notices()
    stage.server = RabbitMQ(stage.directory, port=stage.server.port)
    load.goes_on()
    load.end()
    confirmed, unconfirmed = set(load.told("ok")), set(load.told("lost"))
    assert load.executed_ids() <= confirmed | unconfirmed
    assert stage.hop.metric("tracehop_connections_failed_total") > 0
    assert stage.hop.metric("tracehop_blind_sessions_total") == 0
    spans = stage.receiver.wait(lambda spans: one_for_each(spans, confirmed), 30)
    assert spans, f"each has one hop: {wrong(stage.receiver.spans(), confirmed)}"
    assert {span.attributes["tracehop.answer"] for span in spans} == {"confirmed"}


def test_at_sigterm_nothing_is_lost_and_apps_come_back(loaded):
    stage, load = loaded
    for _ in range(2):
        assert stage.hop.stop() == 0
        stage.hop.close()
        load.notices()
        endpoint = stage.receiver.endpoint
        stage.hop = Tracehop(
            stage.directory, stage.server.port, endpoint, system="rabbitmq", port=stage.hop.port
        )
        load.goes_on()
    load.end()
    confirmed = set(load.told("ok"))
    # A task that was begun and not acknowledged runs again, as whenever a connection ends.
    assert load.executed_ids() == confirmed, "what was not confirmed was not sent"
    spans = stage.receiver.wait(lambda spans: one_for_each(spans, confirmed), 30)
    assert spans, f"each has one hop: {wrong(stage.receiver.spans(), confirmed)}"
    sends = legs(stage.receiver.spans(), "send")
    answers = {span.attributes["tracehop.answer"] for span in sends}
    assert answers == {"confirmed"}, "no answer was missed"


def test_a_broker_that_is_not_there_is_refused_as_it_would_be_without_us(tmp_path):
    with Tracehop(tmp_path, free_port(), "http://127.0.0.1:1", system="rabbitmq") as hop:
        with pytest.raises(OSError), amqp.Connection(f"127.0.0.1:{hop.port}") as connection:
            connection.connect()
        failed = lambda: hop.metric("tracehop_connections_failed_total")  # noqa: E731
        eventually(lambda: failed() > 0, "it is counted")
