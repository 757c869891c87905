"""A real Jaeger, which is an OpenTelemetry Collector with a store; and a Collector, which is a
Jaeger without one."""

import json
import os
import urllib.parse
import urllib.request
from pathlib import Path

from harness import Process, eventually, free_port

BINARY = os.environ.get("HOP_JAEGER", "")


class Jaeger(Process):
    """Takes OTLP over HTTP at `http` and over gRPC at `grpc`, and answers queries at `query`.

    `server` are settings of both receivers. What it is to send on, instead of storing it, goes to
    the OTLP/gRPC address `forward`.
    """

    def __init__(self, directory, name="jaeger", ports=None, forward=None, **server):
        self.ports = ports or [free_port() for _ in range(4)]
        grpc, http, query, query_grpc = (f"127.0.0.1:{port}" for port in self.ports)
        scheme = "https" if "tls" in server else "http"
        self.grpc, self.http = f"{scheme}://{grpc}", f"{scheme}://{http}"
        self.query = f"http://{query}"
        self._forwards = bool(forward)
        extensions, exporters = self._outlet(query, query_grpc, forward)
        users = server.pop("users", None)
        if users:
            extensions["basicauth"] = {"htpasswd": {"inline": users}}
            server["auth"] = {"authenticator": "basicauth"}
        age = server.pop("connection_age", None)
        on_grpc = {"keepalive": {"server_parameters": {"max_connection_age": age}}} if age else {}
        # A server of HTTP can only end them all; an age it has not.
        on_http = {"keep_alives_enabled": False} if age else {}
        protocols = {
            "grpc": {"endpoint": grpc, **server, **on_grpc},
            "http": {"endpoint": http, **server, **on_http},
        }
        config = {
            "extensions": extensions,
            "receivers": {"otlp": {"protocols": protocols}},
            "exporters": exporters,
            "service": {
                "extensions": list(extensions),
                "pipelines": {"traces": {"receivers": ["otlp"], "exporters": list(exporters)}},
                "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "warn"}},
            },
        }
        path = Path(directory) / f"{name}.json"
        path.write_text(json.dumps(config))
        super().__init__(name, [BINARY, "--config", path], directory)
        eventually(self._answers, f"{name} listens")

    def _outlet(self, query, query_grpc, forward):
        """Where spans go: the extensions and exporters for that."""
        if forward:
            # What it answers is what became of the spans, not that it will see to them.
            return {}, {
                "otlp": {
                    "endpoint": forward.removeprefix("http://"),
                    "tls": {"insecure": True},
                    "sending_queue": {"enabled": False},
                    "retry_on_failure": {"enabled": False},
                }
            }
        store = {"backends": {"memory": {"memory": {"max_traces": 200_000}}}}
        asked = {
            "storage": {"traces": "memory"},
            "http": {"endpoint": query},
            "grpc": {"endpoint": query_grpc},
        }
        extensions = {"jaeger_storage": store, "jaeger_query": asked}
        return extensions, {"jaeger_storage_exporter": {"trace_storage": "memory"}}

    def _answers(self):
        if not self.running():
            raise AssertionError(f"{self.name} ended:\n" + self.tail())
        address = self.http if self._forwards else f"{self.query}/api/services"
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def ask(self, path, **query):
        url = f"{self.query}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return json.load(answer)["data"] or []

    def spans(self, service):
        """All spans of a service, as Jaeger's API has them."""
        if service not in self.ask("/api/services"):
            return []
        traces = self.ask("/api/traces", service=service, limit=100_000)
        named = lambda trace, span: trace["processes"][span["processID"]]["serviceName"]  # noqa: E731
        spans = [(trace, span) for trace in traces for span in trace["spans"]]
        return [span for trace, span in spans if named(trace, span) == service]


def faults(spans):
    """What Jaeger finds wrong with spans. Every child that does not lie within its parent it takes for
    one of a host whose clock is off, unless both have the same `ip`, which OpenTelemetry has no word
    for; but what comes of a message comes after it was sent."""
    told = [(span["operationName"], words) for span in spans for words in span["warnings"] or ()]
    return [(name, words) for name, words in told if not words.startswith(SKEW)]


SKEW = "clock skew adjustment disabled"
