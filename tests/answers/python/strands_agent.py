"""An agent of Strands, whose messages are events of its spans."""

import os

from conversation import MODEL, QUESTION, RESULT, SYSTEM, provider, tracer


def main():
    with provider():
        from strands import Agent, tool
        from strands.models.openai import OpenAIModel

        @tool
        def get_weather(location: str) -> str:
            """The weather of a place"""
            return RESULT

        arguments = {"base_url": os.environ["OPENAI_BASE_URL"], "api_key": "none", "max_retries": 0}
        model = OpenAIModel(client_args=arguments, model_id=MODEL)
        agent = Agent(model=model, tools=[get_weather], system_prompt=SYSTEM, name="Forecaster", callback_handler=None)
        with tracer().start_as_current_span("POST /ask"):
            print(agent(QUESTION))


main()
