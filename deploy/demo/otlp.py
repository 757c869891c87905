"""A small OTLP receiver: keeps what is sent to it and lets others wait for it."""

import gzip
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan


@dataclass(frozen=True)
class Span:
    service: str
    name: str
    kind: str  # "PRODUCER", "CLIENT", …
    trace_id: str
    span_id: str
    parent_id: str  # empty: a root
    start: int  # nanoseconds since the epoch
    end: int
    error: bool
    message: str  # of the status
    links: tuple  # of trace id and span id
    attributes: dict = field(hash=False)
    text: str = field(hash=False, repr=False)  # everything the span says


class Receiver:
    """Takes OTLP over HTTP at `endpoint`; port 0 is a free one."""

    def __init__(self, port=0):
        self._spans = []
        self._changed = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                receiver.take(ExportTraceServiceRequest.FromString(body))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128
            connections = set()

            def process_request(self, request, client_address):
                self.connections.add(request)
                super().process_request(request, client_address)

            def shutdown_request(self, request):
                self.connections.discard(request)
                super().shutdown_request(request)

        self._server = Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_port
        self.endpoint = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        """Stops listening and ends every connection."""
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._server.connections):
            self._server.shutdown_request(connection)

    def take(self, request):
        spans = list(_read(request))
        with self._changed:
            self._spans += spans
            self._changed.notify_all()

    def spans(self):
        with self._changed:
            return list(self._spans)

    def wait(self, enough, seconds):
        """The first true value of `enough(spans)`; the last one when time is up."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while True:
                found = enough(self._spans)
                left = deadline - time.monotonic()
                if found or left <= 0:
                    return found
                self._changed.wait(left)


def _read(request):
    for resource in request.resource_spans:
        service = _attributes(resource.resource.attributes).get("service.name", "")
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    service=service,
                    name=span.name,
                    kind=ProtoSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    start=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                    error=span.status.code == 2,
                    message=span.status.message,
                    links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
                    attributes=_attributes(span.attributes),
                    text=str(span),
                )


def _attributes(pairs):
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value):
    which = value.WhichOneof("value")
    if which == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, which) if which else None
