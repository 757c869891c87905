"""What may go wrong at the broker's and at the app's end: everything else goes on, memory stays
bounded, and the metrics tell."""

import hashlib
import json
import os
import signal
import socket
import struct
import threading
from contextlib import contextmanager
from functools import partial

import pytest
import redis

from harness import (
    APP,
    CURRENT,
    DEADLINE,
    Process,
    Producer,
    Redis,
    Tracehop,
    Worker,
    eventually,
    free_port,
    python,
    url_of,
)
from plain import client_of, connect, serves
from stage import Mode, Stage, legs, new_tag

MIB = 1 << 20
PLAIN = Mode()


def test_what_redis_confirmed_is_there_after_it_was_killed(tmp_path):
    with Stage(tmp_path, partial(Redis, durable=True)) as stage, Redis(tmp_path, name="notes") as notes:
        env = stage.env(PLAIN, False) | {"REDIS": notes.url}
        other = env | {"QUEUE": "queue-other"}
        command = [python(CURRENT), APP / "load.py", 600, 10**9]
        with (
            Worker(tmp_path, "survivor", notes, other) as survivor,
            Process("load", command, tmp_path, env, cwd=APP) as load,
        ):
            survivor.ready()
            for _ in range(2):
                confirmed, lost = len(told(load, "ok")), len(told(load, "lost"))
                eventually(lambda: len(told(load, "ok")) > confirmed + 200, "confirmed messages")
                stage.server.kill()
                eventually(lambda: len(told(load, "lost")) > lost, "the producer notices")
                stage.server = Redis(tmp_path, port=stage.server.port, durable=True)
            confirmed = len(told(load, "ok"))
            eventually(lambda: len(told(load, "ok")) > confirmed + 200, "confirmed messages again")
            load.kill()
            with Producer(tmp_path, "other", other) as producer:
                assert producer.order("delay", new_tag())["value"] == 3, "the worker is back"

        confirmed, lost = told(load, "ok"), told(load, "lost")
        queued = queued_ids(stage.server, stage.queue(PLAIN))
        assert len(queued) == len(set(queued)), "a message is there twice"
        assert confirmed <= set(queued), "a confirmed message is not there"
        assert len(set(queued) - confirmed - lost) <= 1, "but for the one that was cut short"
        assert stage.hop.metric("tracehop_connections_failed_total") > 0

        spans = stage.receiver.wait(lambda spans: one_for_each(spans, confirmed), DEADLINE)
        assert spans, "every confirmed message has its hop"
        assert not any(span.error for span in spans)
        with Worker(tmp_path, "heir", notes, env):
            eventually(
                lambda: int(notes.client.get("executed") or 0) == len(queued),
                "every message in the queue is executed",
                4 * DEADLINE,  # a slow machine has published many
            )


def told(load, word):
    """The ids that this producer printed after `word`."""
    lines = [line.split() for line in load.log.read_text().splitlines()]
    return {line[1] for line in lines if len(line) == 2 and line[0] == word}


def queued_ids(server, queue):
    return [json.loads(each)["headers"]["id"] for each in server.client.lrange(queue, 0, -1)]


def one_for_each(spans, ids):
    """The send spans of these messages, when each of them has exactly one."""
    sends = legs(spans, "send", ids)
    return len(sends) == len(ids) and sends


def test_a_broker_that_is_not_there_is_refused_as_it_would_be_without_us(tmp_path):
    receiver_port = free_port()
    with Tracehop(tmp_path, free_port(), f"http://127.0.0.1:{receiver_port}") as hop:
        with pytest.raises(redis.ConnectionError), client_of(hop) as client:
            client.ping()
        failed = lambda: hop.metric("tracehop_connections_failed_total")  # noqa: E731
        eventually(lambda: failed() > 0, "it is counted")


def test_celery_reaches_the_second_broker_while_the_first_is_silent(tmp_path, stage):
    system, receiver = stage.server.system, f"http://127.0.0.1:{free_port()}"
    with silent_port() as silent:
        upstream = f"{url_of(system, silent)};{stage.server.url}"
        with (
            Tracehop(tmp_path, upstream, receiver, system=system) as hop,
            stage.new_producer("failing-over", stage.env(PLAIN, False, hop.url)) as producer,
        ):
            stage.worker(PLAIN).ready()
            assert producer.order("delay", new_tag())["value"] == 3
            failed = "tracehop_connections_failed_total"
            assert hop.metric(failed, reason="unreachable") == 0


@contextmanager
def silent_port():
    """A port that neither takes nor refuses a connection: its backlog is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        with socket.create_connection(listener.getsockname()):
            yield listener.getsockname()[1]


def test_a_client_that_vanishes_in_mid_command_leaves_nothing_behind(server, hop):
    before = len(server.client.client_list())
    for command in (b"*3\r\n$5\r\nLPUSH\r\n$5\r\nqueue\r\n$1000\r\nhalf", b"*3\r\n$5\r\nLPU"):
        with connect(hop.port) as connection:
            connection.sendall(b"PING\r\n")
            assert connection.recv(64) == b"+PONG\r\n"
            connection.sendall(command)
            reset = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    eventually(lambda: len(server.client.client_list()) == before, "Redis has no client left")
    eventually(lambda: hop.metric("tracehop_connections") == 0, "tracehop has none either")
    assert server.client.llen("queue") == 0
    serves(hop)


HOSTILE = [
    b"*1\r\n$9223372036854775807\r\n",
    b"*1099511627776\r\n",
    b"*-9223372036854775808\r\n",
    b"*99999999999999999999999999\r\n",
    b"*1\r\n$-2\r\n",
    b"*1\r\n:1\r\n",
    b"*1\r\n" * 5000,
    b"*2\r\n$4\r\nPING\r\n$0\r\n*1\r\n$4\r\nPING\r\n",
    b"a" * 70000,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    bytes(range(256)) * 300,
]


def test_hostile_requests_are_answered_as_redis_answers_them(server, hop):
    for request in HOSTILE:
        assert answer_to(hop.port, request) == answer_to(server.port, request), request[:40]
        serves(hop)
    assert hop.metric("tracehop_blind_sessions_total") > 0
    assert hop.resident_bytes() < 64 * MIB


def answer_to(port, request):
    """All that comes back to a client that says this and then no more."""
    with connect(port) as connection:
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it was sent away before it had said everything
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
        return answer


def test_a_client_that_does_not_read_costs_no_memory(server, hop):
    value = os.urandom(4 * MIB)
    server.client.set("big", value)
    before = hop.resident_bytes()
    with connect(hop.port) as connection:
        connection.sendall(b"*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n" * 64)
        # Redis has answered all of it: what is not on the way lies in its own buffer.
        eventually(lambda: calls(server, "get") == 64, "Redis has read every command")
        eventually(lambda: stalled(hop), "nothing more moves")
        assert hop.resident_bytes() - before < 16 * MIB
        serves(hop)
        for _ in range(64):
            assert read_exactly(connection, 10) == b"$4194304\r\n"
            assert read_exactly(connection, len(value)) == value
            assert read_exactly(connection, 2) == b"\r\n"


def test_a_broker_that_does_not_read_costs_no_memory(server, hop):
    value = os.urandom(4 * MIB)
    before = hop.resident_bytes()
    with connect(hop.port) as connection, connect(hop.port) as other:
        server.signal(signal.SIGSTOP)
        command = b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$4194304\r\n" + value + b"\r\n"
        sender = threading.Thread(target=connection.sendall, args=(command * 32,), daemon=True)
        sender.start()
        eventually(lambda: hop.metric("tracehop_received_bytes_total", peer="client") > 0, "bytes")
        eventually(lambda: stalled(hop), "nothing more moves")
        assert sender.is_alive() and hop.resident_bytes() - before < 16 * MIB
        other.sendall(b"PING\r\n")
        server.signal(signal.SIGCONT)
        assert other.recv(64) == b"+PONG\r\n"
        sender.join(DEADLINE)
        assert read_exactly(connection, 32 * 5) == b"+OK\r\n" * 32
    assert hashlib.sha256(client_of(hop).get("big")).digest() == hashlib.sha256(value).digest()


def calls(server, command):
    return server.client.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0)


def stalled(hop):
    """Whether the number of bytes received is the same at two moments."""
    received = hop.metric("tracehop_received_bytes_total")
    return not threading.Event().wait(0.3) and hop.metric("tracehop_received_bytes_total") == received


def read_exactly(connection, count):
    data = bytearray(count)
    view = memoryview(data)
    while view:
        got = connection.recv_into(view)
        assert got, "the connection ended"
        view = view[got:]
    return bytes(data)
