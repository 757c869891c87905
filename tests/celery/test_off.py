"""`policy.mode = "off"`, taken up without a restart: from then on every byte passes unread."""

import json
import signal
import uuid

import amqp
import redis

from harness import RabbitMQ, Redis, Tracehop, eventually, free_port, url_of
from test_drain import Load

CONTENT = {"content_type": "application/json", "content_encoding": "utf-8"}


def test_off_under_load_passes_every_byte_and_back_again_for_new_connections(tmp_path):
    config = tmp_path / "proxy.toml"
    write = lambda mode: config.write_text(f"[policy]\nmode = '{mode}'\n")  # noqa: E731
    write("inject")
    with Redis(tmp_path) as server, RabbitMQ(tmp_path) as rabbit, Redis(tmp_path, "notes") as notes:
        port = free_port()
        settings = {
            "TRACEHOP_CONFIG": str(config),
            "TRACEHOP_TELEMETRY_EXPORT": "false",
            "TRACEHOP_DRAIN_GRACE": "1s",
            "TRACEHOP_ROUTES_RESULTS_LISTEN": f"127.0.0.1:{port}",
        }
        with (
            Tracehop(tmp_path, rabbit.port, "", system="rabbitmq", results=server, **settings) as hop,
            Load(tmp_path, "off", rabbit, hop.url, notes, 1) as on_rabbit,
            Load(tmp_path, "off", server, url_of("redis", port), notes, 2) as on_redis,
        ):
            loads = on_redis, on_rabbit
            reloads = lambda: hop.metric("tracehop_config_reloads_total", result="success")  # noqa: E731

            def change(mode):
                before = reloads()
                write(mode)
                hop.signal(signal.SIGHUP)
                eventually(lambda: reloads() > before, f"{mode} holds")
                for load in loads:
                    load.goes_on()

            early = Both(server, rabbit, port, hop.port)
            assert early.edited() == [True, True]
            change("off")
            assert early.edited() == [False, False], "connections that are open"
            late = Both(server, rabbit, port, hop.port)
            assert late.edited() == [False, False], "new connections"
            assert hop.metric("tracehop_blind_sessions_total", reason="mode_off") >= 4
            change("inject")
            assert early.edited() == late.edited() == [False, False], "what was read before"
            assert Both(server, rabbit, port, hop.port).edited() == [True, True], "new ones again"
            assert [load.finish() for load in loads] == [0, 0]


class Both:
    """A connection to each broker through the proxy, on which tasks are published."""

    def __init__(self, server, rabbit, redis_port, amqp_port):
        self.server, self.rabbit = server, rabbit
        self.redis = redis.Redis(port=redis_port)
        self.channel = rabbit.connect(amqp_port).channel()

    def edited(self):
        """Whether a task that is sent to each differs from what arrives."""
        task_id, queue = str(uuid.uuid4()), f"plain-{uuid.uuid4()}"
        headers = {"task": "add", "id": task_id, "root_id": task_id, "retries": 0}
        envelope = {"body": "W10=", "headers": headers, "properties": {"body_encoding": "base64"}}
        sent = json.dumps(envelope | {k.replace("_", "-"): v for k, v in CONTENT.items()})
        self.redis.lpush(queue, sent)
        message = amqp.Message("[[], {}, {}]", application_headers=headers, **CONTENT)
        self.channel.queue_declare(queue, auto_delete=False)
        self.channel.basic_publish(message, routing_key=queue)
        with self.rabbit.connect() as past:
            found = lambda: past.channel().basic_get(queue, no_ack=True)  # noqa: E731
            arrived = eventually(found, "the message arrives")
        properties = arrived.properties["application_headers"]
        assert arrived.body == message.body
        return [self.server.client.lpop(queue) != sent, properties != headers]
