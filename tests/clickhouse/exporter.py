"""Spans into `otel_traces`, as the ClickHouse exporter of the OpenTelemetry Collector writes them.

    python3 exporter.py --url http://127.0.0.1:8123 --file traces.json [--database default] [--json]

The file holds OTLP JSON, one request a line, as the Collector's file exporter writes it. Every line is
an insert of its own, or as many as `--batch` says. What a row holds follows
`exporter/clickhouseexporter/exporter_traces.go` and `…_json.go` of opentelemetry-collector-contrib (at the
commits named in the `.sql` files here) and `Value.AsString` of `go.opentelemetry.io/collector/pdata`
v1.44.0, which is what v0.138.0 is built with.

With maps everything is text: an array or a map is JSON as Go writes it. With `--json` the attributes go
as JSON, where 4.0 is `4`. The exporter speaks the native protocol, here it is `FORMAT JSONEachRow`; the
types of JSON columns are then inferred by the same settings of the engine.
"""

import argparse
import json
import math
import os
import re
import urllib.error
import urllib.parse
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
KINDS = ["Unspecified", "Internal", "Server", "Client", "Producer", "Consumer"]
STATUSES = ["Unset", "Ok", "Error"]
# What Go writes escaped in JSON, so that it may stand in HTML.
IN_HTML = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def go_float(value):
    """As Go's `encoding/json` writes a float: the shortest digits, an exponent only below 1e-6 and from 1e21."""
    if math.isnan(value) or math.isinf(value):
        name = "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
        return f"json: unsupported value: {name}"
    sign, digits, exponent = re.fullmatch(r"(-?)([\d.]+)(?:e([+-]\d+))?", repr(value)).groups()
    whole, _, fraction = digits.partition(".")
    fraction = "" if fraction == "0" else fraction
    point = len(whole) + int(exponent or 0)
    digits = whole + fraction
    point -= len(digits) - len(digits.lstrip("0"))
    digits = digits.lstrip("0").rstrip("0")
    if not digits:
        return sign + "0"
    if -6 < point <= 21:
        if point <= 0:
            return f"{sign}0.{'0' * -point}{digits}"
        if point >= len(digits):
            return sign + digits + "0" * (point - len(digits))
        return f"{sign}{digits[:point]}.{digits[point:]}"
    rest = "." + digits[1:] if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{rest}e{point - 1:+d}"


def go_json(value):
    """As Go's `json.Marshal` writes it."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(go_float(value))
        return go_float(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).translate(IN_HTML)
    if isinstance(value, list):
        return "[" + ",".join(map(go_json, value)) + "]"
    return "{" + ",".join(f"{go_json(key)}:{go_json(value[key])}" for key in sorted(value)) + "}"


def raw(value):
    """`Value.AsRaw`: an OTLP value as a plain one. Bytes become what Go's JSON makes of them."""
    if "stringValue" in value:
        return value["stringValue"]
    if "boolValue" in value:
        return value["boolValue"]
    if "intValue" in value:
        return int(value["intValue"])
    if "doubleValue" in value:
        return float(value["doubleValue"])
    if "bytesValue" in value:
        return value["bytesValue"]
    if "arrayValue" in value:
        return [raw(item) for item in value["arrayValue"].get("values", [])]
    if "kvlistValue" in value:
        return plain(value["kvlistValue"].get("values", []))
    return None


def plain(attributes):
    """`Map.AsRaw`: of a key that comes twice the last counts."""
    return {pair["key"]: raw(pair.get("value", {})) for pair in attributes}


def as_string(value):
    """`Value.AsString`."""
    value = raw(value)
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return go_float(value)
    try:
        return go_json(value)
    except ValueError:
        return ""  # an error of Marshal is thrown away, and what it has written with it


def as_map(attributes):
    """`AttributesToMap`, as JSON: sorted by key, and a key that comes twice stays twice."""
    pairs = sorted(((pair["key"], as_string(pair.get("value", {}))) for pair in attributes), key=lambda p: p[0])
    return "{" + ",".join(f"{json.dumps(key)}:{json.dumps(text)}" for key, text in pairs) + "}"


def as_json(attributes):
    return go_json(plain(attributes))


def named(value, names, prefix):
    """An enumeration, which JSON may give by number or by name; of an unknown number the exporter writes nothing."""
    if isinstance(value, str) and not value.isdigit():
        value = [prefix + name.upper() for name in names].index(value)
    value = int(value or 0)
    return names[value] if value < len(names) else ""


def timestamp(nanos):
    nanos = int(nanos or 0)
    return f"{nanos // 10**9}.{nanos % 10**9:09d}"


def hexadecimal(name):
    """An id; one of only zeros is written as none."""
    name = (name or "").lower()
    return name if name.strip("0") else ""


def rows(request, attributes=as_map):
    """The rows of one request, each a line of `JSONEachRow`. `attributes` writes them: `as_map` or `as_json`."""
    for group in request.get("resourceSpans", []):
        own = group.get("resource", {}).get("attributes", [])
        service = next((as_string(pair["value"]) for pair in own if pair["key"] == "service.name"), "")
        resource = attributes(own)
        for scoped in group.get("scopeSpans", []):
            scope = scoped.get("scope", {})
            for span in scoped.get("spans", []):
                yield row(span, scope, service, resource, attributes)


def row(span, scope, service, resource, attributes):
    text = json.dumps
    begin, end = int(span.get("startTimeUnixNano", 0)), int(span.get("endTimeUnixNano", 0))
    events, links, status = span.get("events", []), span.get("links", []), span.get("status", {})
    many = lambda items: "[" + ",".join(items) + "]"  # noqa: E731
    columns = {
        "Timestamp": text(timestamp(begin)),
        "TraceId": text(hexadecimal(span.get("traceId"))),
        "SpanId": text(hexadecimal(span.get("spanId"))),
        "ParentSpanId": text(hexadecimal(span.get("parentSpanId"))),
        "TraceState": text(span.get("traceState", "")),
        "SpanName": text(span.get("name", "")),
        "SpanKind": text(named(span.get("kind", 0), KINDS, "SPAN_KIND_")),
        "ServiceName": text(service),
        "ResourceAttributes": resource,
        "ScopeName": text(scope.get("name", "")),
        "ScopeVersion": text(scope.get("version", "")),
        "SpanAttributes": attributes(span.get("attributes", [])),
        "Duration": str((end - begin) % 2**64),  # unsigned in the exporter too
        "StatusCode": text(named(status.get("code", 0), STATUSES, "STATUS_CODE_")),
        "StatusMessage": text(status.get("message", "")),
        "Events.Timestamp": text([timestamp(event.get("timeUnixNano")) for event in events]),
        "Events.Name": text([event.get("name", "") for event in events]),
        "Events.Attributes": many(attributes(event.get("attributes", [])) for event in events),
        "Links.TraceId": text([hexadecimal(link.get("traceId")) for link in links]),
        "Links.SpanId": text([hexadecimal(link.get("spanId")) for link in links]),
        "Links.TraceState": text([link.get("traceState", "") for link in links]),
        "Links.Attributes": many(attributes(link.get("attributes", [])) for link in links),
    }
    return "{" + ",".join(f'"{name}":{value}' for name, value in columns.items()) + "}"


class Client:
    """The HTTP interface of ClickHouse."""

    def __init__(self, url, database="default", user=None, key=None):
        self.url, self.database = url.rstrip("/"), database
        self.headers = {} if user is None else {"X-ClickHouse-User": user, "X-ClickHouse-Key": key or ""}

    def query(self, sql, data="", **settings):
        """Runs one statement, which may have data, and gives its answer as text."""
        parameters = {"database": self.database} | settings
        body = sql
        if data:
            parameters["query"], body = sql, data
        address = f"{self.url}/?{urllib.parse.urlencode(parameters)}"
        request = urllib.request.Request(address, data=body.encode(), headers=self.headers)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{error.code}: {error.read().decode().strip()}") from None

    def script(self, text):
        """Runs the statements of a text, each of which ends with `;` at the end of a line."""
        for statement in re.split(r";\s*\n", text + "\n"):
            if re.sub(r"--[^\n]*", "", statement).strip():
                self.query(statement)


def create_tables(client, is_json=False):
    """What the exporter does when it starts."""
    name = client.database
    Client(client.url).query(f"CREATE DATABASE IF NOT EXISTS `{name}` ENGINE = Atomic")
    for file in ["otel_traces_json.sql" if is_json else "otel_traces.sql", "otel_traces_trace_id_ts.sql"]:
        with open(os.path.join(HERE, file), encoding="utf-8") as text:
            client.script(text.read())


def write(client, lines, is_json=False, batch=1):
    """Inserts requests, `batch` of them at once, and gives the number of rows."""
    attributes, written, waiting = as_json if is_json else as_map, 0, []

    def insert():
        if waiting:
            client.query("INSERT INTO otel_traces FORMAT JSONEachRow", "\n".join(waiting))
            waiting.clear()

    for at, line in enumerate(filter(str.strip, lines), 1):
        found = list(rows(json.loads(line), attributes))
        written += len(found)
        waiting += found
        if at % batch == 0:
            insert()
    insert()
    return written


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--file", required=True)
    parser.add_argument("--database", default="default")
    parser.add_argument("--user")
    parser.add_argument("--key")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--batch", type=int, default=1000)
    options = parser.parse_args()
    client = Client(options.url, options.database, options.user, options.key)
    create_tables(client, options.json)
    with open(options.file, encoding="utf-8") as lines:
        print(write(client, lines, options.json, options.batch), "spans written")


if __name__ == "__main__":
    main()
