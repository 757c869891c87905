"""Whatever stands before the store, a span is there or it is counted as dropped."""

import base64
import itertools
import json
import uuid

import pytest
from celery import Celery

from harness import Redis, Tracehop, eventually
from jaeger import Jaeger, faults
from plain import client_of
from test_tls import Authority

PROTOCOLS = ["http/protobuf", "grpc"]
COMPRESSIONS = ["none", "gzip"]
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    with Redis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis


class Front:
    """A Jaeger, what stands before it, and what it takes to be let in."""

    def __init__(self, jaeger, front=None, headers="", **variables):
        self.jaeger, self.front, self.headers = jaeger, front or jaeger, headers
        self.variables = variables

    def hop(self, directory, redis, protocol, compression="none", headers=None, **settings):
        """A proxy that exports there, under a service name of its own."""
        endpoint = self.front.grpc if protocol == "grpc" else self.front.http
        variables = {
            "OTEL_SERVICE_NAME": f"tracehop-{next(NUMBERS)}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_COMPRESSION": compression,
            "OTEL_EXPORTER_OTLP_HEADERS": self.headers if headers is None else headers,
        }
        variables |= self.variables | settings
        hop = Tracehop(directory, redis.port, endpoint, **variables)
        hop.service = variables["OTEL_SERVICE_NAME"]
        return hop


USER, PASSWORD = "hop", "let me in"


def authorization(password):
    return "Authorization=Basic%20" + base64.b64encode(f"{USER}:{password}".encode()).decode()


@pytest.fixture(scope="module", params=["plain", "password", "tls", "mtls", "aging", "collector"])
def front(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp(request.param)
    match request.param:
        case "plain":
            with Jaeger(directory) as jaeger:
                yield Front(jaeger)
        case "password":
            with Jaeger(directory, users=f"{USER}:{PASSWORD}") as jaeger:
                yield Front(jaeger, headers=authorization(PASSWORD))
        case "tls" | "mtls" as kind:
            authority = Authority(directory)
            certificate, key = authority.sign("jaeger")
            tls = {"cert_file": str(certificate), "key_file": str(key)}
            variables = {"OTEL_EXPORTER_OTLP_CERTIFICATE": str(authority.certificate)}
            if kind == "mtls":
                tls["client_ca_file"] = str(authority.certificate)
                certificate, key = authority.sign("tracehop")
                variables["OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"] = str(certificate)
                variables["OTEL_EXPORTER_OTLP_CLIENT_KEY"] = str(key)
            with Jaeger(directory, tls=tls) as jaeger:
                yield Front(jaeger, **variables)
        case "aging":
            with Jaeger(directory, connection_age="200ms") as jaeger:
                yield Front(jaeger)
        case "collector":
            with (
                Jaeger(directory) as jaeger,
                Jaeger(directory, "collector", forward=jaeger.grpc) as collector,
            ):
                yield Front(jaeger, collector)


def publish(hop, count):
    """Sends so many tasks to a queue of their own: a span each."""
    with Celery(broker=hop.url) as app, app.pool.acquire() as connection:
        queue = f"queue-{uuid.uuid4()}"
        for number in range(count):
            app.send_task("shop.pay", (number,), queue=queue, connection=connection)


def counts(hop):
    return hop.metric("tracehop_spans_exported_total"), hop.metric("tracehop_spans_dropped_total")


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_span_arrives_once_and_none_is_warned_of(
    tmp_path, redis, front, protocol, compression
):
    with front.hop(tmp_path, redis, protocol, compression, OTEL_BSP_MAX_EXPORT_BATCH_SIZE="40") as hop:
        # In two bursts, between which an ageing server ends the connection.
        for spans in (100, 200):
            publish(hop, 100)
            eventually(lambda: counts(hop) == (spans, 0), f"{spans} spans are exported")
        found = front.jaeger.spans(hop.service)
        assert len(found) == len({span["spanID"] for span in found}) == 200
        assert faults(found) == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("headers", ["", authorization("guess")])
def test_without_the_password_spans_are_dropped_and_the_log_says_why(
    tmp_path, redis, protocol, headers
):
    with Jaeger(tmp_path, users=f"{USER}:{PASSWORD}") as jaeger:
        with Front(jaeger).hop(tmp_path, redis, protocol, headers=headers) as hop:
            publish(hop, 10)
            eventually(lambda: counts(hop) == (0, 10), "the spans are counted as dropped")
            assert hop.metric("tracehop_spans_dropped_total", reason="failed") == 10
            said = hop.log.read_text()
            assert "401" in said or "Unauthenticated" in said
            secret = headers.rpartition("%20")[2]
            assert not secret or secret not in said
        assert jaeger.spans(hop.service) == []


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_batch_above_every_receivers_limit_arrives(tmp_path, redis, protocol, compression, figure):
    count = 20_000
    limits = {
        "OTEL_BSP_MAX_QUEUE_SIZE": "40000",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "20000",
        "OTEL_BSP_SCHEDULE_DELAY": "3600000",
        "TRACEHOP_TELEMETRY_EXPORT_TIMEOUT": "60s",
        "TRACEHOP_TELEMETRY_FLUSH_GRACE": "60s",
    }
    with Jaeger(tmp_path) as jaeger:
        with Front(jaeger).hop(tmp_path, redis, protocol, compression, **limits) as hop:
            burst(hop, count)
            eventually(lambda: hop.metric("tracehop_spans_queued") == count, "all are queued")
            # One batch would be some 15 MB; the receiver takes 4 MiB.
            assert hop.stop(60) == 0
        found = jaeger.spans(hop.service)
        assert len(found) == len({span["spanID"] for span in found}) == count
        figure(f"{protocol}, {compression}: {len(found)} spans in batches of 20,000 arrived")


def burst(hop, count):
    """The same task message so often, each with an id of its own, in one pipeline."""
    with Celery(broker="memory://") as app:
        message = app.amqp.as_task_v2("ID", "shop.pay", (), {})
    headers = message.headers | {"root_id": "ID"}
    envelope = {
        "body": base64.b64encode(json.dumps(message.body).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": {"body_encoding": "base64", "delivery_tag": "ID"},
    }
    text = json.dumps(envelope)
    with client_of(hop) as connection:
        pipeline = connection.pipeline(transaction=False)
        for _ in range(count):
            pipeline.lpush("queue-burst", text.replace('"ID"', f'"{uuid.uuid4()}"'))
        pipeline.execute()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_collector_that_is_killed_under_load_costs_what_is_counted(
    tmp_path, redis, protocol, figure
):
    batch = 40
    settings = {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": str(batch), "OTEL_BSP_MAX_QUEUE_SIZE": "200"}
    with Jaeger(tmp_path) as jaeger:
        collector = Jaeger(tmp_path, "collector", forward=jaeger.grpc)
        with Front(jaeger, collector).hop(tmp_path, redis, protocol, **settings) as hop:
            kills = 2
            sent = 0
            for _ in range(kills):
                publish(hop, 100)
                sent += 100
                eventually(lambda: counts(hop)[0] > 0, "spans are exported")
                collector.kill()
                publish(hop, 500)
                sent += 500
                eventually(lambda: counts(hop)[1] > 0, "drops are counted")
                collector = Jaeger(tmp_path, "collector", collector.ports, forward=jaeger.grpc)
            before = counts(hop)[0]
            publish(hop, 100)
            sent += 100
            eventually(lambda: sum(counts(hop)) == sent, "all spans have come to an end")
            exported, dropped = counts(hop)
            assert exported > before, "spans arrive again"
        collector.close()
        arrived = len({span["spanID"] for span in jaeger.spans(hop.service)})
        # Of what was on its way when the collector was killed nobody can tell.
        assert exported <= arrived <= exported + kills * batch
        figure(f"{protocol}: {sent} sent = {exported:.0f} exported + {dropped:.0f} dropped; {arrived} arrived")
