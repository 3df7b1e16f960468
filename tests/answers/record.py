"""Runs each program against a server of its own and writes what it sent: `python record.py [NAME…]`."""

import os
import pathlib
import platform
import subprocess
import sys

import model_server as server
from recorder import Recorder

HERE = pathlib.Path(__file__).resolve().parent
TO = HERE.parent / "it/desk/answers/recorded"
BUILD = HERE / "build"
RUST = os.environ.get("RUST_PROGRAMS", "")

LANGSMITH = {
    "LANGSMITH_TRACING": "true",
    "LANGSMITH_OTEL_ENABLED": "true",
    "LANGSMITH_OTEL_ONLY": "true",
    "LANGSMITH_API_KEY": "none",
}
# `venv` has the newest instrumentations, `older` those before, with other names for the same.
NEW, OLD = str(BUILD / "venv/bin/python"), str(BUILD / "older/bin/python")
# What a program is called here, its command, and its environment.
PROGRAMS = {
    **{
        f"openai_{api}_{name}": ([python, f"python/openai_{api}.py", name], {})
        for api in ("chat", "responses")
        for name, python in {
            "openllmetry": NEW,
            "openllmetry_older": OLD,
            "openinference": NEW,
            "official": NEW,
            "official_v2": OLD,
        }.items()
        if (api, name) != ("responses", "official_v2")  # which does not know that API
    },
    **{
        f"langchain_{name}": ([NEW, "python/langchain_agent.py", name], LANGSMITH if name == "langsmith" else {})
        for name in ("openllmetry", "openinference", "langsmith")
    },
    "strands": ([NEW, "python/strands_agent.py"], {}),
    "strands_latest": (
        [NEW, "python/strands_agent.py"],
        {"OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental,gen_ai_tool_definitions"},
    ),
    "azure_inference": ([NEW, "python/azure_inference.py"], {}),
    "langfuse": ([NEW, "python/langfuse_openai.py"], {}),
    "ai_sdk": (["node", "build/node/answer.mjs"], {}),
    "rig": ([f"{RUST}/rig"], {}),
    "genai": ([f"{RUST}/genai"], {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true"}),
}


def main():
    names = sys.argv[1:] or list(PROGRAMS)
    model = server.start()
    TO.mkdir(exist_ok=True)
    for name in names:
        command, environment = PROGRAMS[name]
        recorder = Recorder()
        environment = {
            **os.environ,
            "OPENAI_BASE_URL": model,
            "OTLP_ENDPOINT": recorder.endpoint,
            "OTEL_EXPORTER_OTLP_ENDPOINT": recorder.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_SERVICE_NAME": "weather",
            "OPENAI_API_KEY": "none",
            **environment,
        }
        done = subprocess.run(command, cwd=HERE, env=environment, timeout=120, capture_output=True, text=True)
        if done.returncode or server.TEXT not in done.stdout:
            raise SystemExit(f"{name}: status {done.returncode}\n{done.stdout}\n{done.stderr}")
        replaced = {model: "http://127.0.0.1:8080/v1", model.removesuffix("/v1"): "http://127.0.0.1:8080"}
        replaced |= {str(HERE): ".", platform.platform(): "Linux", platform.node(): "host"}
        recorder.write(TO / f"{name}.json", name, replaced)


main()
