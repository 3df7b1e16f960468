"""Langfuse's own client, around the `openai` package and as a decorator."""

import os

from conversation import MODEL, QUESTION, RESULT, SYSTEM, TOOL


def main():
    os.environ["LANGFUSE_BASE_URL"] = os.environ["LANGFUSE_HOST"] = os.environ["OTLP_ENDPOINT"]
    os.environ["LANGFUSE_PUBLIC_KEY"] = os.environ["LANGFUSE_SECRET_KEY"] = "none"
    from langfuse import get_client, observe
    from langfuse.openai import OpenAI

    client = OpenAI(base_url=os.environ["OPENAI_BASE_URL"], api_key="none", max_retries=0)

    @observe(name="answer")
    def answer(question):
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
        first = client.chat.completions.create(model=MODEL, messages=messages, tools=[TOOL])
        call = first.choices[0].message.tool_calls[0]
        messages.append(first.choices[0].message.to_dict())
        messages.append({"role": "tool", "tool_call_id": call.id, "content": RESULT})
        found = client.chat.completions.create(model=MODEL, messages=messages, tools=[TOOL])
        return found.choices[0].message.content

    print(answer(QUESTION))
    get_client().flush()


main()
