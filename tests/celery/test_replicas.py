"""Two tracehops that know nothing of each other, and apps without any tracing: what one of them
has begun the other one goes on with, whoever of them sees which part of a workflow."""

import hashlib
import json
import time
import uuid

import pytest
import redis
from celery import Celery

from conftest import BROKERS
from harness import Producer, Worker, app_env, eventually
from replicas import Balancer, Replica
from stage import Stage, attempt_of, legs, new_tag

FLOWS = {
    "delay": 1,
    "retry": 3,
    "chain_of_three": 3,
    "group_of_three": 3,
    "chord_of_two": 3,
    "chain_with_group": 4,
    "subtask": 2,
    "link": 2,
}


class Pair:
    """One replica before the producer and one before the worker, on one stage."""

    def __init__(self, stage, process, **settings):
        self.stage, self.cause = stage, "process" if process else "send"
        settings["TRACEHOP_SPANS_PROCESS"] = str(process).lower()
        self.front, self.back = (Replica(stage, name, **settings) for name in ("front", "back"))
        self._started = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end_apps()
        self.front.close()
        self.back.close()

    def end_apps(self):
        for process in self._started.values():
            process.signal(15)
        for process in self._started.values():
            process.close()
        self._started.clear()

    def env(self, broker, queue):
        """Results go straight to Redis; what becomes of runs the worker tells by events."""
        transport = {"visibility_timeout": 3, "unacked_restore_interval": 1}
        transport = {} if self.stage.server.system == "rabbitmq" else transport
        settings = {"worker_send_task_events": True, "broker_transport_options": transport}
        notes = self.stage.notes.url
        return app_env(broker, notes, queue, results=notes, **settings)

    def worker(self, name, broker):
        if name not in self._started:
            env = self.env(broker, f"queue-{name}")
            self._started[name] = Worker(self.stage.directory, name, self.stage.notes, env)
        return self._started[name].ready()

    def producer(self, broker):
        if broker not in self._started:
            name = f"replicas-{len(self._started)}"
            self._started[broker] = Producer(self.stage.directory, name, self.env(broker, "queue-none"))
        return self._started[broker]

    def play(self, flow):
        """Plays a flow, and returns what it left behind."""
        tag = new_tag()
        producer = self.producer(self.front.url)
        self.worker("back", self.back.url)
        producer.order(flow, tag, queue="queue-back")
        return self.played(tag, FLOWS[flow])

    def played(self, tag, runs):
        notes = self.stage.notes
        eventually(lambda: len(notes.runs(tag)) >= runs, f"there are {runs} runs of {tag}")
        return Played(self, notes.runs(tag))


class Played:
    """The runs of a flow and the spans of their messages, by leg and message."""

    def __init__(self, pair, runs):
        self.runs = {(run["id"], run["retries"]): run for run in runs}
        self.cause = pair.cause
        legs = {"send", "receive", self.cause}

        def found(spans):
            self.spans = {leg: {} for leg in legs}
            for span in spans:
                leg, message = span.name.split()[0], attempt_of(span)
                if leg in legs and message in self.runs:
                    self.spans[leg].setdefault(message, []).append(span)
            return all(self.spans[leg].keys() == self.runs.keys() for leg in legs)

        complete = pair.stage.receiver.wait(found, 30)
        assert complete, f"each of {self.runs} has its spans: {self.spans}"

    def send(self, message):
        sends = self.spans["send"][message]
        assert len(sends) == 1, f"{message} was sent once: {sends}, {self.runs}"
        return sends[0]

    def is_one_trace_in_which_each_has_its_place(self):
        for message, run in self.runs.items():
            send = self.send(message)
            causes = self.causes(run)
            parents = [cause.span_id for cause in causes] or [""]
            assert send.parent_id in parents, f"{send} is not below one of {causes}"
            for leg in self.spans:
                for span in self.spans[leg][message] if leg != "send" else ():
                    assert (span.trace_id, span.parent_id) == (send.trace_id, send.span_id)
        traces = {span.trace_id for leg in self.spans.values() for spans in leg.values() for span in spans}
        assert len(traces) == 1, self.spans

    def causes(self, run):
        """The spans that a message may follow from: those of the run that sent it."""
        if run["retries"]:
            return self.spans[self.cause][run["id"], run["retries"] - 1]
        if run["parent_id"]:
            return self.spans[self.cause][run["parent_id"], 0]
        return []


@pytest.fixture(scope="module", params=BROKERS)
def server_stage(request, tmp_path_factory):
    with Stage(tmp_path_factory.mktemp("replicas"), BROKERS[request.param]) as stage:
        yield stage


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "process"])
def pair(request, server_stage):
    with Pair(server_stage, request.param) as pair:
        yield pair


@pytest.mark.parametrize("flow", FLOWS)
def test_what_one_replica_sees_sent_and_the_other_delivered_is_one_trace(pair, flow):
    played = pair.play(flow)
    played.is_one_trace_in_which_each_has_its_place()
    for message in played.runs:
        send = played.send(message)
        (receive,) = played.spans["receive"][message]
        # By the millisecond that the one has written and the other has read.
        assert receive.start // 10**6 == send.start // 10**6
        assert receive.attributes["tracehop.dwell_ms"] == (receive.end - receive.start) // 10**6


@pytest.mark.parametrize("process", [False, True], ids=["plain", "process"])
def test_each_connection_may_take_another_replica(server_stage, process):
    """One that sees a delivery may never see how it is settled: that it waits for in vain."""
    limit = {"TRACEHOP_LIMITS_DELIVERY_AGE_MAX": "1s"}
    with Pair(server_stage, process, **limit) as pair, Balancer(pair) as balancer:
        pair.worker("balanced", balancer.url)
        producer = pair.producer(balancer.url)
        flows = [(flow, new_tag()) for flow in FLOWS for _ in range(2)]
        for flow, tag in flows:
            producer.order(flow, tag, queue="queue-balanced", wait=False)
        for flow, tag in flows:
            pair.played(tag, FLOWS[flow]).is_one_trace_in_which_each_has_its_place()
        for replica in (pair.front, pair.back):
            automatic = replica.metric("tracehop_settlements_total", settlement="automatic")
            assert automatic == 0, "a worker acknowledges, if through the other one"


@pytest.mark.parametrize("server_stage", ["redis"], indirect=True)
def test_what_is_put_away_through_another_replica_is_settled_we_do_not_know_how(server_stage):
    with Pair(server_stage, process=False) as pair:
        tag = new_tag()
        task_id = pair.producer(pair.front.url).order("delay", tag, queue="queue-split", wait=False)["id"]
        # As kombu does it, with each connection through another replica.
        with redis.Redis.from_url(pair.back.url) as pops, redis.Redis.from_url(pair.front.url) as commands:
            queues = ["queue-split", "queue-split\x06\x163"]
            _, message = pops.brpop(queues, 30)
            delivery_tag = json.loads(message)["properties"]["delivery_tag"]
            commands.hset("unacked", delivery_tag, message)
            assert pops.brpop(queues, 1) is None
            commands.hdel("unacked", delivery_tag)

        def received(spans):
            return legs(spans, "receive", {task_id})

        (receive,) = pair.stage.receiver.wait(received, 30)
        assert receive.attributes["tracehop.settlement"] == "unknown"
        assert pair.back.metric("tracehop_open_deliveries") == 0


def digest(task_id):
    """What names the first attempt of a task in a mark."""
    return hashlib.sha256(f"send:{task_id}:0:0".encode()).hexdigest()[16:24]


def test_what_was_sent_in_the_future_has_not_waited(pair):
    tag, task_id = new_tag(), str(uuid.uuid4())
    span_id, sent = "1e39e67fc728b79e", int(time.time() * 1000) + 3_600_000
    headers = {
        "traceparent": f"00-6b029a93000000001d5099a9f57ffb17-{span_id}-03",
        "tracestate": f"tracehop={span_id}-{sent:x}-{digest(task_id)}",
    }
    pair.worker("back", pair.back.url)
    before = pair.back.metric("tracehop_negative_dwell_total")
    with Celery(broker=pair.stage.server.url) as app:
        where = {"queue": "queue-back", "task_id": task_id, "headers": headers}
        app.send_task("add", (1, 2), {"tag": tag}, **where)

    def received(spans):
        return [span for span in spans if span.name.startswith("receive ") and attempt_of(span)[0] == task_id]

    (receive,) = pair.stage.receiver.wait(received, 30)
    assert "tracehop.dwell_ms" not in receive.attributes
    assert receive.attributes["tracehop.clock_skew_ms"] > 3_000_000
    assert receive.end - receive.start == 1, "the least that a span takes"
    assert receive.parent_id == span_id
    assert pair.back.metric("tracehop_negative_dwell_total") == before + 1
    assert len(pair.stage.notes.runs(tag)) == 1


def test_a_replica_may_be_replaced_between_the_steps_of_a_chain(pair):
    tag, notes = new_tag(), pair.stage.notes
    pair.worker("back", pair.back.url)
    pair.producer(pair.front.url).order("chain_after_a_gate", tag, queue="queue-back", wait=False)
    eventually(lambda: notes.runs(tag), "the first step runs")
    eventually(lambda: not pair.stage.server.unsettled("queue-back"), "and is acknowledged")
    pair.back = pair.back.restart()
    notes.client.set(f"release:{tag}", "")
    pair.played(tag, 3).is_one_trace_in_which_each_has_its_place()


def test_a_replica_may_be_replaced_while_a_worker_waits_for_an_eta(pair):
    tag, seconds = new_tag(), 2
    pair.worker("back", pair.back.url)
    producer = pair.producer(pair.front.url)
    producer.order("chain_after_a_countdown", tag, seconds=seconds, queue="queue-back", wait=False)
    eventually(lambda: pair.back.metric("tracehop_open_deliveries"), "the worker has it")
    pair.back = pair.back.restart()
    pair.played(tag, 2).is_one_trace_in_which_each_has_its_place()
