"""What forwarding costs: the desk's rate of ingest and its page, with and without, and a first run.

    python3 tests/forward/measure.py target/release/feedback-desk [--targets 100000]

The backend is a server that answers as Phoenix does and stores nothing, so that the desk is what is measured.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BEGIN = 1_767_225_600_000_000_000
SPANS = 200


class Phoenix(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    calls, records = 0, 0

    def do_POST(self):
        count = self.rfile.read(int(self.headers["content-length"])).count(b'"annotator_kind"')
        Phoenix.calls += 1
        Phoenix.records += count
        body = json.dumps({"data": [{"id": "a"}] * count}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle(self):
        try:
            super().handle()
        except ConnectionError:
            pass  # the desk has ended

    def log_message(self, *_):
        pass


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(program, store, *flags):
    ports = [free_port() for _ in range(3)]
    names = ["--port", "--grpc-port", "--http-port"]
    ports_of = [word for name, port in zip(names, ports) for word in (name, str(port))]
    process = subprocess.Popen([program, "--store", store, *ports_of, *flags], stdout=subprocess.DEVNULL)
    while True:
        try:
            ask(ports[0], "status")
            return process, ports[0], ports[2]
        except OSError:
            time.sleep(0.05)


def processor_seconds(pid):
    """Of a process, which other programs of the machine disturb less than the clock."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{path}", timeout=60) as answer:
        return json.load(answer)


def requests(targets):
    """Each target is a trace of four spans, the first of them rated."""
    attribute = lambda key, value: {"key": key, "value": value}
    made = []
    for first in range(0, targets, SPANS // 4):
        spans = []
        for trace in range(first, min(first + SPANS // 4, targets)):
            for at in range(4):
                attributes = [attribute("http.route", {"stringValue": "/ask"})]
                if at == 0:
                    attributes.append(attribute("feedback.rating", {"boolValue": trace % 3 > 0}))
                    attributes.append(attribute("feedback.comment", {"stringValue": f"fine {trace}"}))
                spans.append({
                    "traceId": f"{trace + 1:032x}", "spanId": f"{trace * 4 + at + 1:016x}",
                    "parentSpanId": "" if at == 0 else f"{trace * 4 + 1:016x}", "name": f"answer {at}",
                    "startTimeUnixNano": str(BEGIN + trace * 1_000_000), "attributes": attributes,
                    "endTimeUnixNano": str(BEGIN + trace * 1_000_000 + 500),
                })
        resource = {"attributes": [attribute("service.name", {"stringValue": "chat"})]}
        made.append(json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}))
    return made


def send(port, bodies):
    local = threading.local()

    def post(body):
        if not hasattr(local, "connection"):
            local.connection = HTTPConnection("127.0.0.1", port)
        local.connection.request("POST", "/v1/traces", body, {"content-type": "application/json"})
        answer = local.connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status

    begun = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(post, bodies))
    return time.monotonic() - begun


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("program")
    arguments.add_argument("--targets", type=int, default=100_000)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Phoenix)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    backend = ["--forward", f"phoenix=http://127.0.0.1:{server.server_port}"]
    directory = tempfile.mkdtemp(prefix="feedback-measure-")
    bodies = requests(options.targets)
    try:
        rates, pages, processors, plain = {}, {}, {}, None
        for at in range(options.rounds):
            for name, flags in [("without", []), ("with", backend)]:
                store = os.path.join(directory, f"{name}-{at}.sqlite")
                process, page, http = start(options.program, store, *flags)
                times, is_over = [], threading.Event()

                def look():
                    while not is_over.wait(0.1):
                        begun = time.monotonic()
                        ask(page, "traces?limit=50")
                        times.append(time.monotonic() - begun)

                looking = threading.Thread(target=look)
                looking.start()
                rates.setdefault(name, []).append(options.targets * 4 / send(http, bodies))
                processors.setdefault(name, []).append(processor_seconds(process.pid))
                is_over.set()
                looking.join()
                pages.setdefault(name, []).append(statistics.median(times) * 1000)
                process.terminate()
                process.wait()
                plain = store if name == "without" else plain
        for name in rates:
            print(f"{name} forwarding: {statistics.median(rates[name]):,.0f} spans/s, "
                  f"list of traces {statistics.median(pages[name]):.1f} ms, "
                  f"{statistics.median(processors[name]):.2f} s of processors")
        Phoenix.calls = Phoenix.records = 0
        begun = time.monotonic()
        process, page, _ = start(options.program, plain, *backend)
        while ask(page, "forwarding")["backends"][0]["told"] < options.targets:
            time.sleep(0.2)
        print(f"first run: {options.targets} targets in {time.monotonic() - begun:.1f} s, {Phoenix.calls} calls, "
              f"{Phoenix.records} records")
        process.terminate()
        process.wait()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


main()
