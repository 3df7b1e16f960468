"""The demo of the desk as OTLP JSON lines.

`lines(desk, directory)` lets `feedback-desk --demo` fill a file, and writes out what arrived in it: the spans as
they came, by OTLP from the real layer. For that it reads the tables of the SQLite store (`spans`, `names`,
`resources`, `scopes`, see `src/desk/store/sqlite/schema.rs`), whose bodies are OTLP messages.
"""

import base64
import json
import os
import sqlite3

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from process import Desk

SPANS = """
    SELECT t.trace_id, s.span, s.parent, s.start, s.duration, n.name, s.kind, s.body,
           r.body, c.name, c.version
    FROM spans s JOIN traces t ON t.id = s.trace JOIN names n ON n.id = s.name
    JOIN resources r ON r.id = s.resource JOIN scopes c ON c.id = s.scope ORDER BY s.id"""


def lines(desk, directory):
    file = os.path.join(directory, "demo.sqlite")
    with Desk(desk, file, "--demo") as filled:
        filled.wait_for("Ctrl-C")
    connection = sqlite3.connect(file)
    try:
        return [line(*row) for row in connection.execute(SPANS)]
    finally:
        connection.close()


def line(trace, span, parent, start, duration, name, kind, body, resource, scope, version):
    made = plain(Span.FromString(body)) | {
        "traceId": trace.hex(),
        "spanId": f"{span % 2**64:016x}",
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + duration),
        "name": name,
        "kind": kind,
    }
    if parent:
        made["parentSpanId"] = f"{parent % 2**64:016x}"
    for link in made.get("links", []):
        for key in ["traceId", "spanId"]:
            link[key] = base64.b64decode(link.get(key, "")).hex()
    scoped = {"scope": {"name": scope, "version": version}, "spans": [made]}
    group = {"resource": plain(Resource.FromString(resource)), "scopeSpans": [scoped]}
    return json.dumps({"resourceSpans": [group]}, ensure_ascii=False)


def plain(message):
    return MessageToDict(message, use_integers_for_enums=True)
