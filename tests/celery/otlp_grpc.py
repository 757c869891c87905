"""The demo's OTLP receiver, taking gRPC as well."""

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from harness import ROOT

sys.path.insert(0, str(ROOT / "deploy/demo"))
from otlp import Receiver as HttpReceiver  # noqa: E402


class Receiver(HttpReceiver):
    """Takes OTLP over HTTP at `endpoint` and over gRPC at `grpc_endpoint`."""

    def __init__(self, port=0):
        super().__init__(port)
        receiver = self

        class Service(TraceServiceServicer):
            def Export(self, request, context):
                receiver.take(request)
                return ExportTraceServiceResponse()

        self._grpc = grpc.server(ThreadPoolExecutor(4))
        add_TraceServiceServicer_to_server(Service(), self._grpc)
        grpc_port = self._grpc.add_insecure_port("127.0.0.1:0")
        self.grpc_endpoint = f"http://127.0.0.1:{grpc_port}"
        self._grpc.start()

    def close(self):
        self._grpc.stop(None).wait()
        super().close()
