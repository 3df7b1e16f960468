"""ClickHouse for tests: the engine in process (`chdb`), behind its own HTTP interface on a loopback port.

    python3 engine.py --port 0 --path DIRECTORY [--user NAME --key KEY]

The first line it prints is the port. It ends on SIGTERM. `DIRECTORY` is where it works, a temporary one unless
said.

Of the HTTP interface it speaks what a reader of tables needs: `GET /ping`; a query in the URL or in the
body of a `POST`, or both (then the body is the data of an INSERT); `database`, `default_format`,
`param_NAME`, `query_id`, and every other parameter as a setting of that query. What is written by `GET` is
refused, as are several statements at once. Errors come as `Code: N. DB::Exception: …` with
`X-ClickHouse-Exception-Code`.

Each request has a connection of its own, so no setting, parameter or unread block of one reaches the
next, and queries run side by side. Other than in a server, an answer is complete before its first byte
leaves, so a query that fails half way has an error's status and not a broken body; there are no sessions
(`session_id`), and a query goes on when its client has gone.

chdb's own database `default` is of a kind that refuses refreshable views; it is replaced by an empty one as a
server has it, at every start.
"""

import argparse
import base64
import gzip
import hmac
import json
import re
import signal
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import chdb

LONGEST_BODY = 1 << 30
# What stands in the URL and is no setting.
RESERVED = {
    "query", "database", "default_format", "query_id", "user", "password", "wait_end_of_query",
    "buffer_size", "stacktrace", "quota_key", "client_protocol_version", "role",
}  # fmt: skip
REFUSED = {"session_id", "session_check", "session_timeout", "compress", "decompress"}

# The status of an answer by the code of its error; all others are 500.
STATUS = {
    code: status
    for status, codes in {
        400: [6, 8, 26, 27, 36, 38, 41, 42, 43, 53, 62, 70, 72, 130, 131, 386, 456, 457],
        403: [192, 193, 497, 516],
        404: [46, 47, 50, 56, 60, 73, 81, 115],
        501: [48],
        503: [439],
    }.items()
    for code in codes
}
TYPES = {
    "JSON": "application/json; charset=UTF-8",
    "JSONCompact": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "JSONCompactEachRow": "application/x-ndjson; charset=UTF-8",
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "RowBinary": "application/octet-stream",
    "Native": "application/octet-stream",
}
CODE = re.compile(r"Code: (\d+)\.")
FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)


class Refused(Exception):
    """An error of the engine's kind."""

    def __init__(self, code, text, name):
        super().__init__(f"Code: {code}. DB::Exception: {text}. ({name})")


def is_of_one_statement(sql):
    """Whether nothing follows the first `;` that stands outside of quotes and comments."""
    quoted = r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"|`(?:[^`\\]|\\.|``)*`"
    comment = r"--[^\n]*|#!?\s[^\n]*|/\*.*?\*/"
    plain = re.sub(f"({quoted})|{comment}", lambda m: "x" if m[1] else " ", sql, flags=re.DOTALL)
    return not plain.partition(";")[2].strip()


def literal(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def identifier(text):
    return "`" + text.replace("\\", "\\\\").replace("`", "\\`") + "`"


class Engine:
    def __init__(self, path):
        self.path = path
        # The engine lives as long as any connection.
        self.first = chdb.connect(path)
        ask = lambda sql: str(self.first.query(sql, "TabSeparatedRaw")).strip()  # noqa: E731
        self.version = ask("SELECT version()")
        ask("USE system")
        ask("DROP DATABASE default")
        ask("CREATE DATABASE default ENGINE = Atomic")

    def query(self, sql, database, form, settings, parameters):
        """What a query amounts to in its format, and how much was read for it."""
        connection = chdb.connect(self.path)
        try:
            if database:
                connection.query(f"USE {identifier(database)}")
            # `readonly` last: nothing can be set after it.
            for name, value in sorted(settings.items(), key=lambda pair: pair[0] == "readonly"):
                if not re.fullmatch(r"\w+", name):
                    raise Refused(115, f"Unknown setting '{name}'", "UNKNOWN_SETTING")
                connection.query(f"SET {name} = {literal(value)}")
            result = connection.query(sql, form, params=parameters)
            summary = {"read_rows": result.rows_read(), "read_bytes": result.bytes_read()}
            return result.bytes() or b"", summary
        finally:
            connection.close()

    def close(self):
        self.first.close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "ClickHouse-in-process"

    def do_GET(self):
        parts = urlsplit(self.path)
        if parts.path == "/ping":
            self.answer(200, b"Ok.\n")
        elif parts.path == "/" and not parts.query:
            self.answer(200, b"Ok.\n")
        else:
            self.run(parts, "")

    def do_POST(self):
        body = self.body()
        if body is not None:
            self.run(urlsplit(self.path), body)

    def body(self):
        length = self.headers.get("Content-Length")
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            data = b"".join(pieces)
        elif length is None:
            return self.fail(Refused(381, "There is neither Transfer-Encoding header nor Content-Length header",
                                     "HTTP_LENGTH_REQUIRED"), 411)  # fmt: skip
        elif int(length) > LONGEST_BODY:
            self.close_connection = True
            return self.answer(413, b"too long\n")
        else:
            data = self.rfile.read(int(length))
        if self.headers.get("Content-Encoding") == "gzip":
            data = gzip.decompress(data)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return self.fail(Refused(48, "Only text is taken here", "NOT_IMPLEMENTED"))

    def run(self, parts, body):
        pairs = dict(parse_qsl(parts.query, keep_blank_values=True))
        try:
            if parts.path != "/":
                return self.answer(404, f"There is no handle {parts.path}\n".encode())
            self.authenticate(pairs)
            refused = REFUSED & set(pairs)
            if refused:
                raise Refused(48, f"There is no {', '.join(sorted(refused))} here", "NOT_IMPLEMENTED")
            sql = "\n".join(part for part in (pairs.get("query", ""), body) if part)
            if not sql.strip():
                raise Refused(62, "Syntax error: failed at position 1: Empty query", "SYNTAX_ERROR")
            is_insert = re.match(r"\s*INSERT\b", sql, re.IGNORECASE)
            if not is_insert and not is_of_one_statement(sql):
                raise Refused(62, "Syntax error (Multi-statements are not allowed)", "SYNTAX_ERROR")
            settings = {
                name: value
                for name, value in pairs.items()
                if name not in RESERVED and not name.startswith("param_")
            }
            if self.command == "GET":
                settings.setdefault("readonly", "2")
            prefix = len("param_")
            parameters = {name[prefix:]: pairs[name] for name in pairs if name.startswith("param_")}
            form = pairs.get("default_format") or self.headers.get("X-ClickHouse-Format") or "TabSeparated"
            database = pairs.get("database") or self.headers.get("X-ClickHouse-Database")
            found, summary = self.server.engine.query(sql, database, form, settings, parameters)
        except Exception as error:  # chdb has several, and whatever it is, the client is to know it
            return self.fail(error)
        named = FORMAT.search(sql)
        form = named[1] if named and not is_insert else form
        headers = {
            "Content-Type": TYPES.get(form, "text/plain; charset=UTF-8"),
            "X-ClickHouse-Format": form,
            "X-ClickHouse-Summary": json.dumps({name: str(value) for name, value in summary.items()}),
        }
        if "query_id" in pairs:
            headers["X-ClickHouse-Query-Id"] = pairs["query_id"]
        self.answer(200, found, headers)

    def authenticate(self, pairs):
        if self.server.user is None:
            return
        user, key = self.headers.get("X-ClickHouse-User"), self.headers.get("X-ClickHouse-Key")
        basic = self.headers.get("Authorization", "")
        if user is None and basic.startswith("Basic "):
            user, _, key = base64.b64decode(basic[6:]).decode(errors="replace").partition(":")
        if user is None:
            user, key = pairs.get("user", "default"), pairs.get("password", "")
        expected = f"{self.server.user}\0{self.server.key}".encode()
        if not hmac.compare_digest(f"{user}\0{key or ''}".encode(), expected):
            raise Refused(
                516,
                f"{user}: Authentication failed: password is incorrect, or there is no user with such name",
                "AUTHENTICATION_FAILED",
            )

    def fail(self, error, status=None):
        text = str(error)
        found = CODE.search(text)
        code = int(found[1]) if found else 1001
        if not text.startswith("Code:"):
            text = f"Code: {code}. DB::Exception: {text}"
        text += f" (version {self.server.engine.version})\n"
        headers = {"X-ClickHouse-Exception-Code": str(code)}
        self.answer(status or STATUS.get(code, 500), text.encode(), headers)

    def answer(self, status, body, headers=None):
        self.send_response(status)
        for name, value in ({"Content-Type": "text/plain; charset=UTF-8"} | (headers or {})).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port, engine, user, key):
        super().__init__(("127.0.0.1", port), Handler)
        self.engine, self.user, self.key = engine, user, key


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--path")
    parser.add_argument("--user")
    parser.add_argument("--key", default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        server = Server(options.port, Engine(options.path or directory), options.user, options.key)
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
        print(server.server_address[1], flush=True)
        server.serve_forever(poll_interval=0.05)
        server.server_close()
        server.engine.close()


if __name__ == "__main__":
    sys.exit(main())
