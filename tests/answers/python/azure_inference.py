"""The Azure AI inference client, whose messages are events of its spans."""

import os

from conversation import MODEL, QUESTION, RESULT, SYSTEM, TOOL, provider, tracer


def main():
    with provider():
        os.environ["AZURE_TRACING_GEN_AI_CONTENT_RECORDING_ENABLED"] = "true"
        from azure.ai.inference import ChatCompletionsClient
        from azure.ai.inference.tracing import AIInferenceInstrumentor
        from azure.core.credentials import AzureKeyCredential
        from azure.core.settings import settings

        settings.tracing_implementation = "opentelemetry"
        AIInferenceInstrumentor().instrument()
        client = ChatCompletionsClient(endpoint=os.environ["OPENAI_BASE_URL"], credential=AzureKeyCredential("none"))
        with tracer().start_as_current_span("POST /ask"):
            messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]
            call = {"id": "call_1", "type": "function"}
            first = client.complete(model=MODEL, messages=messages, tools=[TOOL])
            function = first.choices[0].message.tool_calls[0].function
            call["function"] = {"name": function.name, "arguments": function.arguments}
            messages.append({"role": "assistant", "tool_calls": [call]})
            messages.append({"role": "tool", "tool_call_id": "call_1", "content": RESULT})
            print(client.complete(model=MODEL, messages=messages, tools=[TOOL]).choices[0].message.content)


main()
