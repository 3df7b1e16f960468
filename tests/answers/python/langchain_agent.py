"""An agent of LangChain: `python langchain_agent.py openllmetry|openinference|langsmith`."""

import os
import sys

from conversation import MODEL, QUESTION, RESULT, SYSTEM, provider, tracer


def main():
    with provider() as to:
        if sys.argv[1] == "openinference":
            from openinference.instrumentation.langchain import LangChainInstrumentor

            LangChainInstrumentor().instrument(tracer_provider=to)
        elif sys.argv[1] == "openllmetry":
            from opentelemetry.instrumentation.langchain import LangchainInstrumentor

            LangchainInstrumentor().instrument(tracer_provider=to)
        from langchain.agents import create_agent
        from langchain_core.tools import tool
        from langchain_openai import ChatOpenAI

        @tool
        def get_weather(location: str) -> str:
            """The weather of a place"""
            return RESULT

        model = ChatOpenAI(model=MODEL, base_url=os.environ["OPENAI_BASE_URL"], api_key="none", max_retries=0)
        agent = create_agent(model, [get_weather], system_prompt=SYSTEM, name="Forecaster")
        with tracer().start_as_current_span("POST /ask"):
            found = agent.invoke({"messages": [{"role": "user", "content": QUESTION}]})
            print(found["messages"][-1].content)
        if sys.argv[1] == "langsmith":
            from langchain_core.tracers.langchain import wait_for_all_tracers

            wait_for_all_tracers()


main()
