"""That `engine.py` is as much of ClickHouse's HTTP interface as it says, and `exporter.py` writes what the
Collector's exporter writes.

    python3 selftest.py

What the exporter writes was compared with `go.opentelemetry.io/collector/pdata` v1.44.0 on random values; the
cases here are some of those.
"""

import base64
import http.client
import json
import os
import tempfile
import threading
import urllib.error
import urllib.request
from urllib.parse import urlencode, urlsplit

import exporter
from process import Engine


def ask(url, sql=None, headers=None, **parameters):
    """Status, headers and text of an answer."""
    data = None if sql is None else sql.encode()
    request = urllib.request.Request(f"{url}/?{urlencode(parameters)}", data=data, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def text(url, sql, **parameters):
    status, _, found = ask(url, sql, **parameters)
    assert status == 200, found
    return found


def refused(url, code, sql, headers=None, **parameters):
    status, found, body = ask(url, sql, headers, **parameters)
    assert status >= 400 and found["X-ClickHouse-Exception-Code"] == str(code), (status, body)
    assert body.startswith(f"Code: {code}. DB::Exception: "), body
    return status


def parameters_are_bound(url):
    texts = {"a": "x'y\\z", "b": "tab\tand\nline", "c": "'); DROP TABLE t; --", "d": ""}
    escape = lambda value: value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")  # noqa: E731
    given = {f"param_{name}": escape(value) for name, value in texts.items()}
    columns = ", ".join(f"{{{name}:String}} AS {name}" for name in texts)
    assert json.loads(text(url, f"SELECT {columns}", default_format="JSONEachRow", **given)) == texts
    assert text(url, "SELECT {a:Array(String)}[2]", param_a="['x','it\\'s']") == "it\\'s\n"
    assert text(url, "SELECT {a:Nullable(Int64)} IS NULL", param_a="\\N") == "1\n"
    refused(url, 456, "SELECT {a:String}")


def settings_are_of_one_query(url):
    count = "SELECT toUInt64(7) AS n"
    quoted = {"output_format_json_quote_64bit_integers": "1"}
    assert json.loads(text(url, count, default_format="JSONCompact", **quoted))["data"] == [["7"]]
    assert json.loads(text(url, count, default_format="JSONCompact"))["data"] == [[7]]
    long = "SELECT sleepEachRow(0.1) FROM numbers(100)"
    refused(url, 159, long, max_execution_time="0.5", max_block_size="1")
    assert text(url, "SELECT 7") == "7\n"  # and not what the other had read before
    refused(url, 115, "SELECT 1", nosuch="1")


def writing_needs_post(url):
    text(url, "CREATE TABLE written (a Int64, b String) ENGINE = MergeTree ORDER BY a")
    text(url, '{"a":1,"b":"x;y"}\n{"a":2}\n', query="INSERT INTO written FORMAT JSONEachRow")
    assert text(url, "SELECT * FROM written ORDER BY a; -- the end") == "1\tx;y\n2\t\n"
    refused(url, 164, None, query="DROP TABLE written")
    refused(url, 164, "DROP TABLE written", readonly="2")
    assert ask(url, None, query="SELECT count() FROM written")[2] == "2\n"


def errors_have_their_codes(url):
    wrong = [(62, "SELECT 1; SELECT 2"), (62, "SELEC 1"), (47, "SELECT nosuch"), (60, "SELECT * FROM nosuch")]
    for code, sql in wrong:
        refused(url, code, sql)
    refused(url, 81, "SELECT 1", database="nosuch")


def a_long_query_is_in_nobodys_way(url):
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    connection.request("POST", "/", "SELECT sleep(2)")
    running = "SELECT count() FROM system.processes WHERE query LIKE '%sleep(2)%' AND query NOT LIKE '%processes%'"
    while text(url, running) == "0\n":
        pass
    with urllib.request.urlopen(f"{url}/ping", timeout=5) as answer:
        assert answer.read() == b"Ok.\n"
    assert text(url, running) == "1\n"  # it still runs
    assert connection.getresponse().status == 200
    connection.close()


def views_refresh(url):
    text(url, "CREATE TABLE base (a Int64) ENGINE = MergeTree ORDER BY a")
    text(url, "CREATE MATERIALIZED VIEW total REFRESH EVERY 1 HOUR (n UInt64) ENGINE = MergeTree ORDER BY n"
              " AS SELECT count() AS n FROM base")  # fmt: skip
    text(url, "INSERT INTO base SELECT number FROM numbers(5)")
    text(url, "SYSTEM REFRESH VIEW total")
    text(url, "SYSTEM WAIT VIEW total")
    assert text(url, "SELECT n FROM total") == "5\n"


def many_ask_at_once(url):
    wrong = []

    def work(name):
        for number in range(20):
            expected = f"{name}-{number}"
            if (found := text(url, "SELECT {x:String}", param_x=expected).strip()) != expected:
                wrong.append(found)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong


def it_asks_who_it_is(directory):
    with Engine(directory, "--user", "reader", "--key", "secret") as engine:
        own = {"X-ClickHouse-User": "reader", "X-ClickHouse-Key": "secret"}
        assert ask(engine.url, "SELECT 1", own)[2] == "1\n"
        basic = {"Authorization": "Basic " + base64.b64encode(b"reader:secret").decode()}
        assert ask(engine.url, "SELECT 1", basic)[2] == "1\n"
        for headers in [{}, own | {"X-ClickHouse-Key": "wrong"}, own | {"X-ClickHouse-User": "other"}]:
            assert refused(engine.url, 516, "SELECT 1", headers) == 403


def values_are_written_as_go_writes_them():
    floats = {
        0.0: "0", 4.0: "4", 0.1: "0.1", -12.5: "-12.5", 1e6: "1000000", 1e20: "100000000000000000000",
        1e21: "1e+21", 1e-6: "0.000001", 9.9e-7: "9.9e-7", 5e-324: "5e-324", 1.5e300: "1.5e+300",
        float("inf"): "json: unsupported value: +Inf",
    }  # fmt: skip
    for value, expected in floats.items():
        assert exporter.as_string({"doubleValue": value}) == expected, (value, expected)
    assert exporter.as_string({"doubleValue": -0.0}) == "-0"
    strings = [{"stringValue": "a<b>&\u2028"}, {"stringValue": "é\n\x01"}]
    pairs = [{"key": "z", "value": {"intValue": "9007199254740993"}}, {"key": "a", "value": {}}]
    for value, expected in [
        ({}, ""),
        ({"boolValue": True}, "true"),
        ({"intValue": "-5"}, "-5"),
        ({"stringValue": "a<b"}, "a<b"),
        ({"bytesValue": "AQID"}, "AQID"),
        ({"arrayValue": {}}, "[]"),
        ({"arrayValue": {"values": strings}}, '["a\\u003cb\\u003e\\u0026\\u2028","é\\n\\u0001"]'),
        ({"kvlistValue": {"values": pairs}}, '{"a":null,"z":9007199254740993}'),
    ]:
        assert exporter.as_string(value) == expected, (value, exporter.as_string(value))


def a_span_is_a_row(url):
    client = exporter.Client(url)
    exporter.create_tables(client)
    span = {
        "traceId": "0A" * 16, "spanId": "0b" * 8, "parentSpanId": "", "name": "answer", "kind": 2,
        "startTimeUnixNano": "1767225600123456789", "endTimeUnixNano": "1767225600123456799",
        "attributes": [{"key": "b", "value": {"doubleValue": 4.0}}, {"key": "a", "value": {"boolValue": False}}],
        "status": {"code": 2, "message": "no"},
        "events": [{"timeUnixNano": "1767225600123456790", "name": "e"}],
        "links": [{"traceId": "0c" * 16, "spanId": "0d" * 8, "traceState": "k=v"}],
    }  # fmt: skip
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "chat"}}]}
    group = {"resource": resource, "scopeSpans": [{"scope": {"name": "s", "version": "1"}, "spans": [span]}]}
    assert exporter.write(client, [json.dumps({"resourceSpans": [group]})]) == 1
    found = json.loads(client.query("SELECT * FROM otel_traces FORMAT JSONEachRow", session_timezone="UTC"))
    assert found == {
        "Timestamp": "2026-01-01 00:00:00.123456789", "TraceId": "0a" * 16, "SpanId": "0b" * 8, "ParentSpanId": "",
        "TraceState": "", "SpanName": "answer", "SpanKind": "Server", "ServiceName": "chat",
        "ResourceAttributes": {"service.name": "chat"}, "ScopeName": "s", "ScopeVersion": "1",
        "SpanAttributes": {"a": "false", "b": "4"}, "Duration": 10, "StatusCode": "Error", "StatusMessage": "no",
        "Events.Timestamp": ["2026-01-01 00:00:00.123456790"], "Events.Name": ["e"], "Events.Attributes": [{}],
        "Links.TraceId": ["0c" * 16], "Links.SpanId": ["0d" * 8], "Links.TraceState": ["k=v"],
        "Links.Attributes": [{}],
    }, found  # fmt: skip
    assert client.query("SELECT count() FROM otel_traces_trace_id_ts") == "1\n"


def main():
    values_are_written_as_go_writes_them()
    with tempfile.TemporaryDirectory() as directory:
        with Engine(os.path.join(directory, "engine")) as engine:
            checks = [
                parameters_are_bound, settings_are_of_one_query, writing_needs_post, errors_have_their_codes,
                a_long_query_is_in_nobodys_way, views_refresh, many_ask_at_once, a_span_is_a_row,
            ]  # fmt: skip
            for check in checks:
                check(engine.url)
        assert engine.process.returncode == 0, engine.process.returncode  # it ends as it was told
        it_asks_who_it_is(os.path.join(directory, "guarded"))
    print(f"the engine and the exporter: {len(checks) + 2} checks")


if __name__ == "__main__":
    main()
