"""The `openai` package with one of its instrumentations: `python openai_chat.py openllmetry|openinference|official`."""

import json
import os
import sys

from conversation import MODEL, QUESTION, RESULT, SYSTEM, TOOL, provider, tracer
from instrumentations import instrument


def main():
    with provider() as to:
        instrument(sys.argv[1], to)
        import openai

        client = openai.OpenAI(base_url=os.environ["OPENAI_BASE_URL"], api_key="none", max_retries=0)
        with tracer().start_as_current_span("POST /ask"):
            messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]
            first = client.chat.completions.create(model=MODEL, messages=messages, tools=[TOOL])
            call = first.choices[0].message.tool_calls[0]
            assert json.loads(call.function.arguments) == {"location": "Paris"}
            messages.append(first.choices[0].message.to_dict())
            messages.append({"role": "tool", "tool_call_id": call.id, "content": RESULT})
            # The answer as a stream.
            stream = client.chat.completions.create(
                model=MODEL, messages=messages, tools=[TOOL], stream=True, stream_options={"include_usage": True}
            )
            print("".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices))


main()
