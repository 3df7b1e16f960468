"""The same history of feedback, forwarded to Phoenix from a ClickHouse that the Collector's exporter has filled.

    tests/forward/run clickhouse
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path += [HERE, os.path.join(HERE, "..", "clickhouse")]

from compare import apply_ddl  # noqa: E402
from exporter import Client, create_tables, write  # noqa: E402
from history import Phoenix, Process, compare, free_port, ask, history, message, until  # noqa: E402
from process import Engine, run  # noqa: E402


def attribute(key, value):
    if isinstance(value, bool):
        return {"key": key, "value": {"boolValue": value}}
    if isinstance(value, int):
        return {"key": key, "value": {"intValue": str(value)}}
    if isinstance(value, float):
        return {"key": key, "value": {"doubleValue": value}}
    if isinstance(value, list):
        return {"key": key, "value": {"arrayValue": {"values": [{"stringValue": one} for one in value]}}}
    return {"key": key, "value": {"stringValue": value}}


def line(trace, span, parent, start, end, attributes, link):
    made = {
        "traceId": trace, "spanId": span, "name": "feedback" if link else "answer", "kind": 1,
        "startTimeUnixNano": str(start), "endTimeUnixNano": str(end),
        "attributes": [attribute(key, value) for key, value in attributes.items()],
    }
    if link:
        made["links"] = [{"traceId": link[0], "spanId": link[1]}]
    resource = {"attributes": [attribute("service.name", "chat")]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [made]}]}]}


def play(program, directory, options):
    dice = random.Random(options.seed)
    answers, said, leaves = history(options.seed, options.targets)
    database, backend_directory = os.path.join(directory, "clickhouse"), os.path.join(directory, "phoenix")
    os.makedirs(backend_directory)
    with Engine(database) as engine:
        client = Client(engine.url)
        create_tables(client)
        store = f"clickhouse={engine.url}"
        apply_ddl(client, run(program, "clickhouse", "--ddl", "--store", store))
        backend = Phoenix(backend_directory)
        backend.spans(message(answers))
        page = free_port()
        command = [program, "--store", store, "--port", str(page), "--forward", f"phoenix={backend.url}"]
        command += ["--forward-state", os.path.join(directory, "forward.sqlite")]
        desk = Process(command, {}, os.path.join(directory, "desk.log"))
        pending = answers + said + dice.sample(said, len(said) // 10)
        dice.shuffle(pending)
        begun = time.monotonic()
        for at in range(0, len(pending), 25):
            write(client, [json.dumps(line(*it)) for it in pending[at:at + 25]], batch=25)
            if dice.random() < 0.15:
                desk.kill()
                desk.start()
            time.sleep(dice.random() * 0.5)
        url = f"http://127.0.0.1:{page}/api/v1"
        until("the desk answers", lambda: ask(f"{url}/forwarding")["backends"])
        end = time.monotonic() + 90
        while (differences := compare(backend, leaves)) and time.monotonic() < end:
            time.sleep(1)
        status = ask(f"{url}/forwarding")["backends"][0]
        print(*differences[:20], sep="\n")
        print({key: value for key, value in status.items() if key != "listed"})
        total = sum(len(backend.expected(target, state)) for target, state in leaves.items())
        print(f"from ClickHouse, seed {options.seed}: {len(differences)} differences in {total} records of {len(leaves)} "
              f"targets, {len(said)} submissions, {time.monotonic() - begun:.1f} s")
        return not differences and status["told"] == total and not status["refused"]


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("program")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--targets", type=int, default=40)
    options = arguments.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and what was started ends, too
    directory = tempfile.mkdtemp(prefix="feedback-forward-")
    try:
        is_right = play(options.program, directory, options)
    finally:
        for process in list(Process.running):
            process.kill()
        if os.environ.get("FORWARD_KEEP"):
            print(directory)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    sys.exit(0 if is_right else 1)


main()
