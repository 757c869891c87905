"""OpenTelemetry as an application would set it up, where TRACING says so; others where VENDOR does."""

import os
from contextlib import nullcontext

ENDPOINT = os.environ.get("TRACING")

if os.environ.get("VENDOR"):
    # Such an SDK wants to be there before the app is.
    import vendors


def start_tracing(service):
    if not ENDPOINT:
        return
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.celery import CeleryInstrumentor
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    provider = TracerProvider(resource=Resource({"service.name": service}))
    exporter = OTLPSpanExporter(endpoint=f"{ENDPOINT}/v1/traces")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    CeleryInstrumentor().instrument()


def span(name):
    """A span around what the app does, as a web framework would make for a request."""
    if os.environ.get("VENDOR"):
        return vendors.span(name)
    if not ENDPOINT:
        return nullcontext()
    from opentelemetry import trace

    return trace.get_tracer("app").start_as_current_span(name)
