"""One emitter: gives feedback with its own functions, and prints what the feedback is about as JSON.

    emit.py EMITTER HTTP_ENDPOINT GRPC_ENDPOINT

Every request is sent twice, as a sender does that has lost the first answer.
"""

import asyncio
import json
import sys
from dataclasses import dataclass

from opentelemetry import _logs, trace
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Link, format_span_id, format_trace_id


class Twice:
    """Sends everything twice with an exporter."""

    def __init__(self, exporter):
        self.exporter = exporter

    def export(self, batch, *arguments, **named):
        for _ in range(2):
            result = self.exporter.export(batch, *arguments, **named)
            if result.name != "SUCCESS":
                sys.exit(f"not exported: {result}")
        return result

    def __getattr__(self, name):
        return getattr(self.exporter, name)


def processors(http, grpc):
    """Processors of spans and of log records. Spans go over HTTP, log records over gRPC, or the other way round."""
    if grpc is None:
        spans, logs = HttpSpans(f"{http}/v1/traces"), HttpLogs(f"{http}/v1/logs")
    else:
        spans, logs = GrpcSpans(grpc, insecure=True), GrpcLogs(grpc, insecure=True)
    return SimpleSpanProcessor(Twice(spans)), SimpleLogRecordProcessor(Twice(logs))


def provide(service, http, grpc):
    """Providers of the OpenTelemetry SDK, for emitters that bring none."""
    of_spans, of_logs = processors(http, grpc)
    resource = Resource.create({"service.name": service})
    spans = TracerProvider(resource=resource)
    spans.add_span_processor(of_spans)
    trace.set_tracer_provider(spans)
    logs = LoggerProvider(resource=resource)
    logs.add_log_record_processor(of_logs)
    _logs.set_logger_provider(logs)
    return trace.get_tracer("service")


def about(span):
    context = span.get_span_context()
    return {"trace": format_trace_id(context.trace_id), "span": format_span_id(context.span_id)}


def openlit(http, grpc):
    from openlit import log_score

    tracer = provide("openlit", None, grpc)
    with tracer.start_as_current_span("open") as span:
        # On an open span OpenLIT sends a span event and a log record.
        assert log_score("rating", False, comment="Wrong capital")
    rated_open = about(span)
    with tracer.start_as_current_span("late") as span:
        pass
    late = about(span)
    ids = {"trace_id": late["trace"], "span_id": late["span"]}
    for _ in range(2):
        assert log_score("stars", 4, idempotency_key="vote-17", metadata={"user.id": "u-17"}, **ids)
    for mood in ["glad", "sad", "glad"]:
        assert log_score("mood", mood, **ids)
    return {"open": rated_open, "late": late}


def logfire_sdk(http, grpc):
    import logfire

    of_spans, of_logs = processors(http, None)
    logfire.configure(
        send_to_logfire=False,
        console=False,
        service_name="logfire",
        additional_span_processors=[of_spans],
        advanced=logfire.AdvancedOptions(log_record_processors=[of_logs]),
    )
    return logfire


def logfire(http, grpc):
    from logfire.experimental.annotations import get_traceparent, record_feedback

    sdk = logfire_sdk(http, grpc)
    with sdk.span("answer") as span:
        pass
    context = get_traceparent(span)
    record_feedback(context, "rating", True)
    record_feedback(context, "rating", False, comment="Second thoughts")
    record_feedback(context, "stars", 3, extra={"user.id": "u-17"})
    record_feedback(context, "mood", "sad")
    _, trace_id, span_id, _ = context.split("-")
    return {"answer": {"trace": trace_id, "span": span_id}}


def pydantic_evals(http, grpc):
    from pydantic_evals.evaluators import EvaluationReason, Evaluator
    from pydantic_evals.online import evaluate, wait_for_evaluations

    sdk = logfire_sdk(http, grpc)
    seen = {}

    @dataclass
    class Judge(Evaluator):
        def evaluate(self, ctx):
            return {
                "grounded": EvaluationReason(False, "No source"),
                "relevance": 0.25,
                "language": "English",
            }

    @dataclass
    class Broken(Evaluator):
        def evaluate(self, ctx):
            raise TimeoutError("no answer")

    @evaluate(Judge(), Broken())
    async def answer(question):
        seen.update(about(trace.get_current_span()))
        return "Albany"

    async def main():
        await answer("What is the capital of New York?")
        await wait_for_evaluations()

    asyncio.run(main())
    sdk.force_flush()
    return {"answer": seen}


def openinference(http, grpc):
    from openinference.instrumentation import (
        TracerProvider as OITracerProvider,
        get_annotation_attributes,
        get_evaluation_attributes,
        using_session,
    )

    of_spans, _ = processors(None, grpc)
    provider = OITracerProvider(resource=Resource.create({"service.name": "openinference"}))
    provider.add_span_processor(of_spans)
    tracer = provider.get_tracer("service")
    with using_session("conversation-42"):
        with tracer.start_as_current_span("answer", openinference_span_kind="chain") as span:
            human = {"name": "tone", "label": "kind", "annotator_kind": "HUMAN", "explanation": "Polite"}
            span.set_attributes(get_annotation_attributes(annotations=[human]))
            session = {"name": "coherence", "score": 1, "annotator_kind": "LLM"}
            span.set_attributes(get_annotation_attributes(annotations=[session], scope="session"))
        inline = about(span)
        link = [Link(span.get_span_context())]
        with tracer.start_as_current_span("judge", links=link, openinference_span_kind="evaluator") as judge:
            result = {"name": "hallucination", "score": 0.25, "label": "factual", "annotator_kind": "LLM"}
            judge.set_attributes(get_evaluation_attributes(evaluations=[result]))
            of_trace = {"name": "quality", "score": 5, "annotator_kind": "CODE"}
            judge.set_attributes(get_evaluation_attributes(evaluations=[of_trace], scope="trace"))
    return {"answer": inline}


if __name__ == "__main__":
    emitter, http, grpc = sys.argv[1:]
    told = globals()[emitter](http, grpc)
    # Providers that were set up here are shut down at exit; nothing is left to send, as every export was awaited.
    print(json.dumps(told))
