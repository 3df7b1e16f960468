"""Instrumentations of the `openai` package."""

import os


def instrument(name, to):
    if name.startswith("official"):
        os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "gen_ai_latest_experimental"
        # Message contents as attributes of spans; otherwise they are left out, or are log records.
        os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "span_only"
    if name == "official":
        from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor
    elif name == "official_v2":
        from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor
    elif name == "openinference":
        from openinference.instrumentation.openai import OpenAIInstrumentor
    else:
        from opentelemetry.instrumentation.openai import OpenAIInstrumentor
    OpenAIInstrumentor().instrument(tracer_provider=to)
