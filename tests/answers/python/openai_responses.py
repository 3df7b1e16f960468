"""The same by the Responses API: `python openai_responses.py openllmetry|openinference|official`."""

import os
import sys

from conversation import MODEL, QUESTION, RESULT, SYSTEM, TOOL, provider, tracer
from instrumentations import instrument


def main():
    with provider() as to:
        instrument(sys.argv[1], to)
        import openai

        client = openai.OpenAI(base_url=os.environ["OPENAI_BASE_URL"], api_key="none", max_retries=0)
        tool = {"type": "function", "strict": False, **TOOL["function"]}
        with tracer().start_as_current_span("POST /ask"):
            said = [{"role": "user", "content": QUESTION}]
            first = client.responses.create(model=MODEL, instructions=SYSTEM, input=said, tools=[tool])
            call = first.output[0]
            said.append({"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments})
            said.append({"type": "function_call_output", "call_id": call.call_id, "output": RESULT})
            print(client.responses.create(model=MODEL, instructions=SYSTEM, input=said, tools=[tool]).output_text)


main()
