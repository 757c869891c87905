"""Redis clients without Celery."""

import socket
import uuid

import redis

from harness import DEADLINE


def client_of(hop):
    return redis.Redis(port=hop.port, socket_timeout=DEADLINE)


def connect(port):
    connection = socket.create_connection(("127.0.0.1", port))
    connection.settimeout(DEADLINE)
    return connection


def serves(hop):
    """New connections work."""
    key = str(uuid.uuid4())
    with client_of(hop) as client:
        assert client.set(key, "value") and client.get(key) == b"value"
