"""Much of everything: a huge value, thousands of connections, redis-benchmark."""

import hashlib
import json
import os
import re
import resource
import subprocess

import pytest
from celery import Celery
from kombu import Connection, Queue

from harness import Redis, Tracehop, eventually, free_port, url_of
from plain import client_of, connect, serves
from stage import new_tag

MIB = 1 << 20


def test_a_value_of_64_mib_passes_unchanged_and_is_not_held(server, hop):
    value = os.urandom(64 * MIB)
    with client_of(hop) as client:
        client.set("huge", value)
        back = client.get("huge")
        client.lpush("huge-list", value)
        assert hashlib.sha256(back).digest() == hashlib.sha256(value).digest()
        assert client.rpop("huge-list") == value
    assert hop.peak_bytes() < 64 * MIB


@pytest.mark.parametrize("protocol", [1, 2])
def test_a_task_of_three_megabytes_gets_its_context(stage, protocol):
    queue = f"large-{new_tag()}"
    with Celery(broker=url_of(stage.server.system, stage.hop.port), set_as_current=False) as app:
        app.conf.task_protocol = protocol
        app.send_task("large", args=["é" * 400_000], queue=queue)
    with Connection(url_of(stage.server.system, stage.server.port)) as connection:
        waiting = Queue(queue, channel=connection.default_channel)
        message = eventually(lambda: waiting.get(no_ack=True), "the task is in its queue")
    assert len(message.body) > 2 * MIB
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]", message.headers["traceparent"])


@pytest.mark.parametrize("headers", ["[]", "null", "false", '""'])
def test_a_task_whose_headers_say_nothing_gets_its_context(hop, server, headers):
    task = json.dumps({"task": "t", "id": 4242, "args": [], "kwargs": {}})
    rest = f'"content-type": "application/json", "content-encoding": "utf-8", "properties": {KOMBU}'
    with client_of(hop) as client:
        client.lpush("celery", f'{{"body": {json.dumps(task)}, "headers": {headers}, {rest}}}')
    with Connection(url_of("redis", server.port)) as connection:
        message = Queue("celery", channel=connection.default_channel).get(no_ack=True)
    assert message.decode()["id"] == 4242
    assert set(message.headers) == {"traceparent", "tracestate"}


KOMBU = '{"delivery_info": {"exchange": "", "routing_key": "celery"}, "delivery_tag": "1"}'


def test_ten_thousand_idle_connections_are_cheap(tmp_path, figure):
    # Each of them is two open files to the proxy.
    count = min(10_000, (files_allowed(21_000) - 200) // 2)
    assert count > 1000, "the limit of open files (ulimit -Hn) is too low"
    with Redis(tmp_path) as server:
        with Tracehop(tmp_path, server.port, f"http://127.0.0.1:{free_port()}") as hop:
            serves(hop)
            before = hop.resident_bytes()
            connections = []
            try:
                for _ in range(count):
                    connections.append(connect(hop.port))
                    connections[-1].sendall(b"PING\r\n")
                for connection in connections:
                    assert connection.recv(64) == b"+PONG\r\n"
                assert hop.metric("tracehop_connections") >= count
                each = (hop.resident_bytes() - before) / count
                figure(f"{each:.0f} bytes of memory for each of {count} idle connections")
                assert each < 16 << 10
                serves(hop)
            finally:
                for connection in connections:
                    connection.close()
            eventually(lambda: hop.metric("tracehop_connections") == 0, "all are gone")


def files_allowed(wanted):
    """Raises the limit of open files, for us and for what we start, and returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (wanted, hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), max(hard, limit)))
            return max(soft, limit)
        except (ValueError, OSError):
            continue  # only root may raise the hard limit
    return soft


@pytest.mark.parametrize("pipeline", [1, 16])
def test_redis_benchmark_runs_without_an_error(server, hop, pipeline):
    command = ["redis-benchmark", "-p", hop.port, "-n", 2000, "-P", pipeline, "-q"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0 and "rror" not in done.stdout + done.stderr, done
    assert "MSET" in done.stdout
    assert hop.metric("tracehop_blind_sessions_total") == 0
