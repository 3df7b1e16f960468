"""The conversation that every program has, and where its spans go."""

import contextlib
import os

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

MODEL = "gpt-4o"
SYSTEM = "Be brief."
QUESTION = "Weather in Paris?"
RESULT = "rainy, 14 °C"
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place",
        "parameters": {
            "type": "object",
            "properties": {"location": {"type": "string"}},
            "required": ["location"],
        },
    },
}


@contextlib.contextmanager
def provider():
    to = TracerProvider(resource=Resource.create({"service.name": "weather"}))
    to.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(os.environ["OTLP_ENDPOINT"] + "/v1/traces")))
    trace.set_tracer_provider(to)
    try:
        yield to
    finally:
        to.shutdown()


def tracer():
    return trace.get_tracer("weather")
