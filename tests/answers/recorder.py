"""An OTLP receiver (http/protobuf and http/json) that writes the spans it received as one request in JSON.

What names the machine is taken out; ids, times and everything else stay as they came.
"""

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

# Attributes of a resource that say on which machine, and by whom, a file was recorded.
MACHINE = ("host.", "process.", "os.", "service.instance.")
IDS = ("traceId", "spanId", "parentSpanId")


class Recorder:
    def __init__(self):
        self.requests = []
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.body()
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                is_json = self.headers["Content-Type"].startswith("application/json")
                if self.path.endswith("/v1/traces"):
                    recorder.requests.append(json.loads(body) if is_json else decoded(body))
                self.send_response(200)
                self.send_header("Content-Type", self.headers["Content-Type"])
                self.send_header("Content-Length", "0")
                self.end_headers()

            def body(self):
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers["Content-Length"]))
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def write(self, path, name, replaced):
        """Writes all spans that came as one request. `replaced` are texts to take out, and what stands there instead."""
        resources = {}
        for part in (part for request in self.requests for part in request["resourceSpans"]):
            attributes = part.get("resource", {}).get("attributes", [])
            attributes = [each for each in attributes if not each["key"].startswith(MACHINE)]
            scopes = resources.setdefault(json.dumps(attributes, sort_keys=True), {})
            for scope in part["scopeSpans"]:
                spans = scopes.setdefault(json.dumps(scope.get("scope", {}), sort_keys=True), [])
                spans += [without_machine(span) for span in scope["spans"]]
        found = [
            {
                "resource": {"attributes": json.loads(resource)},
                "scopeSpans": [{"scope": json.loads(scope), "spans": spans} for scope, spans in scopes.items()],
            }
            for resource, scopes in resources.items()
        ]
        count = sum(len(spans) for scopes in resources.values() for spans in scopes.values())
        if not count:
            raise SystemExit(f"{name}: no span came")
        text = json.dumps({"resourceSpans": found}, indent=1, ensure_ascii=False)
        for old, new in replaced.items():
            text = text.replace(old, new)
        path.write_text(text + "\n", encoding="utf-8")
        print(f"{name}: {count} spans")


def without_machine(span):
    """A span without the threads and places of its code, and without what LangSmith adds of the environment."""
    names = ("thread.", "code.", "busy_ns", "idle_ns", "langsmith.metadata.revision_id", "langsmith.metadata.LANG")
    for part in (span, *span.get("events", [])):
        part["attributes"] = [each for each in part.get("attributes", []) if not each["key"].startswith(names)]
    return span


def decoded(body):
    request = ExportTraceServiceRequest()
    request.ParseFromString(body)
    return hexadecimal(MessageToDict(request, use_integers_for_enums=True))


def hexadecimal(value):
    """protobuf's JSON has ids as base64, that of OTLP as hexadecimal digits."""
    import base64

    if isinstance(value, list):
        return [hexadecimal(each) for each in value]
    if isinstance(value, dict):
        return {
            key: base64.b64decode(inner).hex() if key in IDS else hexadecimal(inner) for key, inner in value.items()
        }
    return value
