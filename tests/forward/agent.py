"""What the desk forwards to Datadog reaches Datadog's own test agent, which takes anything, and is what the strict server
takes.

    python agent.py ddapm-test-agent feedback-desk
"""

import argparse
import base64
import json
import os
import random
import socket
import sys
import tempfile

import hosted

sys.path.append(os.path.join(hosted.HERE, "vendors"))
import datadog_api  # noqa: E402


def free_ports(count):
    """The agent takes no 0, and does not print its ports."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("agent")
    arguments.add_argument("program")
    options = arguments.parse_args()
    port, *others = free_ports(3)
    url = f"http://127.0.0.1:{port}"
    ports = ["--port", str(port), "--otlp-http-port", str(others[0]), "--otlp-grpc-port", str(others[1])]
    agent = hosted.Process([options.agent, "--host", "127.0.0.1", *ports, "--disable-llmobs-data-forwarding"])
    vendor = hosted.VENDORS["datadog"]
    desk = None
    try:
        hosted.until("the agent answers", lambda: hosted.ask(f"{url}/info"))
        with tempfile.TemporaryDirectory(prefix="feedback-agent-") as directory:
            desk = hosted.Desk(options.program, directory, vendor, f"{url}/evp_proxy/v2")
            have, answers, said = hosted.history(random.Random(1), 20)
            hosted.ask(desk.otlp, hosted.request(answers + said))
            wanted = sum(len(made) for made in hosted.folds(desk, have).values())
            hosted.until("everything is told", lambda: desk.status()["told"] == wanted)
            strict = datadog_api.Datadog(argparse.Namespace(key=vendor.key))
            for one in hosted.ask(f"{url}/test/session/requests"):
                if one["url"].endswith("/eval-metric"):
                    assert {k.lower(): v for k, v in one["headers"].items()}["dd-api-key"] == vendor.key
                    body = json.loads(base64.b64decode(one["body"]))
                    strict.handle("POST", "/api/intake/llm-obs/v2/eval-metric", {}, body)
            assert (len(strict.records()), strict.repeats()) == (wanted, []), (len(strict.records()), wanted)
            print(f"Datadog's test agent has {wanted} records, which the strict server takes")
    finally:
        if desk:
            desk.process.kill()
        agent.kill()


main()
