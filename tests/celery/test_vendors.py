"""Apps with the SDKs of Sentry and Datadog, at either end and at both, beside OpenTelemetry and
beside nothing: whoever begins the trace, there is one, and theirs is as without the proxy."""

import json
import re

import pytest
from celery import Celery

from harness import SDKS, Producer, Tracehop, Worker, app_env, eventually
from stage import Mode, new_tag

# Datadog's can be told to write nothing in W3C's spelling.
DATADOG = {"VENDOR": "ddtrace", "DD_TRACE_PROPAGATION_STYLE": "datadog"}
KINDS = {"sentry": {"VENDOR": "sentry"}, "ddtrace": {"VENDOR": "ddtrace"}, "datadog": DATADOG}
# What they call the span of a publication, and of a run.
SUBMIT = {"queue.submit.celery", "celery.apply"}
RUN = {"queue.task.celery", "celery.run"}
FLOWS = {"delay": 1, "retry": 3, "chain_of_three": 3, "subtask": 2}


class Cast:
    """Producers and workers of every kind, started when first needed, on one stage."""

    def __init__(self, stage):
        self.stage, self._producers, self._workers = stage, {}, {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        processes = [*self._producers.values(), *self._workers.values()]
        for process in processes:
            process.signal(15)
        for process in processes:
            process.close()

    def env(self, kind, broker=None):
        stage = self.stage
        env = app_env(broker or stage.hop.url, stage.notes.url, f"queue-{kind}", results=stage.notes.url)
        return env | KINDS[kind]

    def producer(self, kind, broker=None):
        """Behind the proxy unless there is another `broker`."""
        if kind not in KINDS:
            return self.stage.producer(Mode(producer=kind == "otel"))
        if (kind, broker) not in self._producers:
            env = self.env(kind, broker)
            name = kind + ("-direct" if broker else "")
            self._producers[kind, broker] = Producer(self.stage.directory, name, env, SDKS)
        return self._producers[kind, broker]

    def worker(self, kind):
        if kind not in KINDS:
            return self.stage.worker(Mode(worker=kind == "otel"))
        if kind not in self._workers:
            env = self.env(kind)
            self._workers[kind] = Worker(self.stage.directory, kind, self.stage.notes, env, SDKS)
        return self._workers[kind]

    def queue(self, kind):
        return f"queue-{kind}" if kind in KINDS else self.stage.queue(Mode(worker=kind == "otel"))

    def play(self, producer, worker, flow):
        """Plays a flow, and returns what it left behind."""
        tag = new_tag()
        self.producer(producer)
        self.worker(worker).ready()
        self.producer(producer).order(flow, tag, wait=False, queue=self.queue(worker))
        runs = self.stage.notes
        eventually(lambda: len(runs.runs(tag)) >= FLOWS[flow], f"{flow} ran, {producer} to {worker}")
        return Played(self.stage, runs.runs(tag), producer, worker)


class Played:
    """The runs of a flow, and the spans of everybody who took part."""

    def __init__(self, stage, runs, producer, worker):
        self.runs, self.ids = runs, {run["id"] for run in runs}
        count = len(runs)
        self.sends = hops(stage.receiver, "send ", self.ids, count)
        self.receives = hops(stage.receiver, "receive ", self.ids, count)
        self.app_runs = []
        if worker == "otel":
            self.app_runs = hops(stage.receiver, "run/", self.ids, count)
        elif worker in KINDS:

            def noted():
                of_runs = [span for span in vendor_spans(stage) if span["name"] in RUN]
                mine = [span for span in of_runs if span["task"] in self.ids]
                return len(mine) >= count and mine

            self.app_runs = [Noted(span) for span in eventually(noted, "the runs' spans are noted")]
        self.sends.sort(key=lambda span: span.start)
        self.first = self.sends[0]
        everybody = [Noted(span) for span in vendor_spans(stage)] + stage.receiver.spans()
        self.spans = {span.span_id: span for span in everybody if span.trace_id == self.first.trace_id}

    def is_one_trace_without_a_gap(self):
        """Every span is of one trace, and but for its root each has its parent there."""
        ours = self.sends + self.receives + self.app_runs
        assert {span.trace_id for span in ours} == {self.first.trace_id}
        orphans = [span for span in self.spans.values() if span.parent_id not in self.spans]
        assert [span.parent_id for span in orphans] == [""], orphans

    def parent(self, span):
        return self.spans[span.parent_id]


class Noted:
    """A span that a vendor's SDK has noted."""

    def __init__(self, span):
        self.__dict__ |= span

    def __repr__(self):
        return repr(self.__dict__)


def vendor_spans(stage):
    return [json.loads(span) for span in stage.notes.client.lrange("vendor-spans", 0, -1)]


def hops(receiver, prefix, ids, count):
    """The spans of these tasks that are called so."""

    def found(spans):
        named = [span for span in spans if span.name.startswith(prefix)]
        return [span for span in named if span.attributes["messaging.message.id"] in ids]

    receiver.wait(lambda spans: len(found(spans)) >= count, 30)
    spans = found(receiver.spans())
    assert len(spans) == count, f"{count} of {prefix!r} expected, not {spans}"
    return spans


def said(span, *words):
    return tuple(span.attributes[f"tracehop.context.{word}"] for word in words)


@pytest.fixture(scope="module")
def cast(stage):
    with Cast(stage) as cast:
        yield cast


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("worker", ["plain", "otel", "own"])
@pytest.mark.parametrize("producer", KINDS)
def test_what_a_vendor_began_goes_on_at_every_worker(cast, producer, worker, flow):
    worker = producer if worker == "own" else worker
    played = cast.play(producer, worker, flow)
    played.is_one_trace_without_a_gap()
    assert said(played.first, "origin", "verdict", "quality") == ("translated", "added", "foreign")
    submit = played.parent(played.first)
    assert submit.name in SUBMIT
    assert len(submit.trace_id) == 32 and int(submit.trace_id[:16], 16), "all 128 bits of it"
    run = played.runs[0]
    assert run["traceparent"][:52] == f"00-{submit.trace_id}-{played.first.span_id}"
    for span in played.app_runs:
        parent = played.parent(span)
        if worker != "otel":
            assert parent.name in SUBMIT, "as without the proxy"
        elif span.attributes["messaging.message.id"] == run["id"] and parent.name.startswith("send "):
            assert parent.span_id == played.first.span_id
        else:
            assert parent.name.startswith("apply_async/")


def test_a_retry_by_datadogs_worker_is_the_child_of_the_run_before(cast):
    """What it nests is fresh; what was nested before has become flat, `traceparent` and all."""
    played = cast.play("ddtrace", "ddtrace", "retry")
    for send, run in zip(played.sends[1:], sorted_runs(played)):
        assert said(send, "origin", "verdict", "quality") == ("carried", "kept", "stale")
        submit = played.parent(send)
        assert submit.name == "celery.apply" and submit.parent_id == run.span_id
    # In Datadog's own spelling alone there is no such leftover.
    played = cast.play("datadog", "datadog", "retry")
    for send, run in zip(played.sends[1:], sorted_runs(played)):
        assert said(send, "origin", "verdict", "quality") == ("translated", "added", "foreign")
        assert played.parent(send).parent_id == run.span_id


def sorted_runs(played):
    """The spans of the runs, each after the one that it follows from."""

    def depth(span):
        return 1 + depth(played.parent(span)) if span.parent_id else 0

    return sorted(played.app_runs, key=depth)


@pytest.mark.parametrize("producer", ["plain", "otel"])
def test_datadogs_worker_goes_on_with_what_we_add_and_what_opentelemetry_sends(cast, producer):
    played = cast.play(producer, "ddtrace", "delay")
    played.is_one_trace_without_a_gap()
    (run,) = played.app_runs
    if producer == "plain":
        assert said(played.first, "origin", "verdict") == ("derived", "added")
        assert run.parent_id == played.first.span_id
    else:
        assert said(played.first, "origin", "verdict") == ("carried", "kept")
        assert played.parent(run).name == "apply_async/add"


def test_sentrys_worker_reads_its_own_headers_alone_and_works(cast):
    """So it begins a trace of its own, as it does without the proxy."""
    played = cast.play("plain", "sentry", "delay")
    (run,), (receive,) = played.app_runs, played.receives
    assert (run.trace_id != played.first.trace_id, run.parent_id) == (True, "")
    assert receive.trace_id == played.first.trace_id


@pytest.mark.parametrize("vendor", KINDS)
def test_what_a_vendor_writes_arrives_byte_for_byte(cast, vendor):
    stage, texts = cast.stage, []
    for broker in (None, stage.server.url):
        queue = f"queue-kept-{vendor}-{'direct' if broker else 'hop'}"
        cast.producer(vendor, broker).order("delay", "same", wait=False, queue=queue)
        texts.append(fetched(stage, queue))
    passed, direct = texts
    ours = re.findall(r'"traceparent": "[^"]+", "tracestate": "tracehop=[^"]+"', passed)
    assert len(ours) == 1
    bare = passed.replace(ours[0] + ", ", "").replace(", " + ours[0], "")
    assert without_ids(bare) == without_ids(direct).replace("direct", "hop")


def fetched(stage, queue):
    """The one message in a queue: from Redis as it is, from RabbitMQ its headers, in their order."""
    if stage.server.system == "redis":
        return eventually(lambda: stage.server.client.rpop(queue), "there is a message")
    with stage.server.connect() as connection:
        message = connection.channel().basic_get(queue, no_ack=True)
        return json.dumps(message.headers)


def without_ids(text):
    """The same with a `#` for each id, time and port."""
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{8,}|\d+", "#", text)


# Contexts that a producer writes by hand, in each spelling; they are all of this trace.
TRACE = "6b029a93000000001d5099a9f57ffb17"
SPAN = "1e39e67fc728b79e"
DATADOG_HEADERS = {
    "x-datadog-trace-id": str(int(TRACE[16:], 16)),
    "x-datadog-parent-id": str(int(SPAN, 16)),
    "x-datadog-sampling-priority": "1",
    "x-datadog-tags": f"_dd.p.dm=-0,_dd.p.tid={TRACE[:16]}",
}
SPELLINGS = {
    "sentry": {"sentry-trace": f"{TRACE}-{SPAN}-1"},
    "datadog": DATADOG_HEADERS,
    "datadog nested": {"headers": DATADOG_HEADERS},
    "datadog w3c": {"headers": {"traceparent": f"00-{TRACE}-{SPAN}-01"}},
    "b3": {"b3": f"{TRACE}-{SPAN}-1"},
    "b3 several": {"X-B3-TraceId": TRACE, "X-B3-SpanId": SPAN, "X-B3-Sampled": "1"},
    "jaeger": {"uber-trace-id": f"{TRACE}:{SPAN}:0:1"},
}


def sent_in_every_spelling(url):
    """Sends a task in each spelling, and tells their ids."""
    with Celery(broker=url) as app, app.connection_for_write() as connection:
        where = {"queue": "queue-by-hand", "connection": connection}
        return {name: app.send_task("add", headers=headers, **where).id for name, headers in SPELLINGS.items()}


def test_every_spelling_is_translated(stage):
    ids = sent_in_every_spelling(stage.hop.url)
    sends = hops(stage.receiver, "send ", set(ids.values()), len(ids))
    for send in sends:
        assert (send.trace_id, send.parent_id, send.kind) == (TRACE, SPAN, "PRODUCER")
        assert said(send, "origin", "verdict", "quality") == ("translated", "added", "foreign")


@pytest.mark.parametrize("vendor", ["sentry", "datadog", "b3", "jaeger"])
def test_a_translation_can_be_switched_off(stage, vendor):
    off = {f"TRACEHOP_TRANSLATE_{vendor.upper()}": "false"}
    server, endpoint = stage.server, stage.receiver.endpoint
    with Tracehop(
        stage.directory, server.port, endpoint, name=f"no-{vendor}", system=server.system, **off
    ) as hop:
        ids = sent_in_every_spelling(hop.url)
        sends = hops(stage.receiver, "send ", set(ids.values()), len(ids))
    names = {task_id: name for name, task_id in ids.items()}
    for send in sends:
        task_id = send.attributes["messaging.message.id"]
        if names[task_id].startswith(vendor):
            assert (send.trace_id, send.parent_id) == (task_id.replace("-", ""), "")
            assert said(send, "origin", "verdict", "quality") == ("derived", "added", "missing")
        else:
            assert (send.trace_id, send.parent_id) == (TRACE, SPAN)
