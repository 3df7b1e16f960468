"""What the strict servers have in common: HTTP on loopback, failures on demand, and validation by the models of an SDK.

    python langfuse_api.py --key KEY        prints the port on its first line

A vendor is a subclass of `Vendor`. Under `/_control`, which no vendor has, a test sets what it needs:

    POST /_control/spans   [{"trace_id", "span_id", "parent_id", "session_id", "start_ms"}, …]: spans that have come
    POST /_control/fail    {"mode": "500", "count": 3, "retry_after": 1}: so the next requests are answered
    GET  /_control/state   the feedback that the vendor would show, and what was refused

Modes: a status (`401`, `404`, `429`, `500`, …), `html`, `hang`, `close` (no answer, nothing is done), `lost` (done, but
no answer), and those that a vendor adds. Without `count` a mode stays until another is set; `ok` ends it.
"""

import argparse
import http.server
import json
import re
import sys
import threading
import time
import urllib.parse

import pydantic

HEX = {"trace_id": re.compile("[0-9a-f]{32}"), "span_id": re.compile("[0-9a-f]{16}")}
MOST_BYTES = 5 << 20


class Refusal(Exception):
    """A request that the vendor answers by an error."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status, self.message = status, message


def validate(model, json_value, path="body"):
    """The instance of a model of an SDK, from JSON. Types are strict, and members that it does not have are refused.

    SDKs accept additional members, since a server may be newer than they are. This server is not.
    """
    if not isinstance(json_value, dict):
        raise Refusal(422, f"{path} is no object")
    names = {alias_of(field) or name: name for name, field in model.model_fields.items()}
    if unknown := sorted(set(json_value) - set(names)):
        raise Refusal(422, f"{path} has unknown members: {', '.join(unknown)}")
    renamed = {names[name]: value for name, value in json_value.items()}
    try:
        instance = model.model_validate_json(json.dumps(renamed), strict=True)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Refusal(422, f"{path}.{place}: {first['msg']}") from error
    for name, value in renamed.items():
        validate_inner(getattr(instance, name), value, f"{path}.{name}")
    return instance


def validate_inner(instance, json_value, path):
    if isinstance(instance, pydantic.BaseModel):
        validate(type(instance), json_value, path)
    elif isinstance(instance, list):
        for at, (one, value) in enumerate(zip(instance, json_value, strict=True)):
            validate_inner(one, value, f"{path}.{at}")


def alias_of(field):
    """The name of a field in JSON: models made by Fern have it in an annotation, others in pydantic's own places."""
    annotated = next((getattr(part, "alias", None) for part in field.metadata if hasattr(part, "alias")), None)
    return annotated or field.alias or (field.validation_alias if isinstance(field.validation_alias, str) else None)


def members(json_value, required, optional, path="body"):
    """Checks an object for which an SDK has no model: {name: type} of required and of optional members."""
    if not isinstance(json_value, dict):
        raise Refusal(400, f"{path} is no object")
    if missing := sorted(set(required) - set(json_value)):
        raise Refusal(400, f"{path} lacks {', '.join(missing)}")
    if unknown := sorted(set(json_value) - set(required) - set(optional)):
        raise Refusal(400, f"{path} has unknown members: {', '.join(unknown)}")
    for name, value in json_value.items():
        kind = (required | optional)[name]
        is_bool = isinstance(value, bool)
        if not isinstance(value, kind) or is_bool and kind is not bool:
            raise Refusal(400, f"{path}.{name} has the wrong type")
    return json_value


class Vendor:
    """A backend: its rules and its records. Calls of its methods are one after another."""

    #: Further arguments of the program: {name: default}.
    arguments = {}

    def __init__(self, options):
        self.options, self.spans = options, {}

    def is_authorized(self, headers):
        raise NotImplementedError

    def handle(self, method, path, query, body):
        """(status, JSON, text or None) of an answer."""
        raise NotImplementedError

    def records(self):
        """The feedback that the vendor shows, as it shows it, each with its `target`."""
        raise NotImplementedError

    def repeats(self):
        """Records that are there more than once, where that is possible."""
        return []

    def error(self, status, message):
        """The body of an error."""
        return {"message": message}

    def add(self, span):
        for name, shape in HEX.items():
            assert shape.fullmatch(span[name]), span
        self.spans[span["span_id"]] = span

    def traces(self):
        return {span["trace_id"] for span in self.spans.values()}

    def sessions(self):
        return {span["session_id"] for span in self.spans.values() if span.get("session_id")}


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, vendor):
        super().__init__(("127.0.0.1", 0), Handler)
        self.vendor, self.lock = vendor, threading.Lock()
        self.mode, self.count, self.retry_after = "ok", None, None
        self.requests, self.refused = 0, []

    def take_mode(self):
        with self.lock:
            mode = self.mode
            if mode != "ok" and self.count is not None:
                self.count -= 1
                if self.count <= 0:
                    self.mode, self.count = "ok", None
            return mode

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), (BrokenPipeError, ConnectionResetError)):
            super().handle_error(request, client_address)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def answer(self, status, body=None, headers=(), content="application/json"):
        bytes_ = b"" if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Type", content)
            self.send_header("Content-Length", str(len(bytes_)))
        self.end_headers()
        self.wfile.write(b"" if status == 204 else bytes_)

    def body(self):
        size = int(self.headers.get("Content-Length", 0))
        if size > MOST_BYTES:
            raise Refusal(413, "the body is too large")
        return self.rfile.read(size)

    def any(self):
        server, url = self.server, urllib.parse.urlsplit(self.path)
        if url.path.startswith("/_control/"):
            return self.control(url.path)
        mode = server.take_mode()
        try:
            bytes_ = self.body()
        except Refusal as refusal:
            self.close_connection = True
            return self.answer(refusal.status, server.vendor.error(refusal.status, refusal.message))
        if mode == "hang":
            time.sleep(3_600)
        if mode == "close":
            self.close_connection = True
            return None
        if mode in ("html", "404"):
            # Of a proxy: a vendor says by 404 that something has not come.
            page = "<!doctype html><title>Sign in</title>"
            return self.answer(200 if mode == "html" else 404, page, content="text/html")
        if mode.isdigit():
            headers = [("Retry-After", str(server.retry_after))] if server.retry_after is not None else []
            return self.answer(int(mode), server.vendor.error(int(mode), "on demand"), headers)
        status, body = self.of_vendor(url, bytes_, mode)
        if mode == "lost":
            self.close_connection = True
            return None
        return self.answer(status, body, content="application/json" if not isinstance(body, str) else "text/plain")

    def of_vendor(self, url, bytes_, mode):
        server = self.server
        with server.lock:
            server.requests += 1
            server.vendor.mode = mode
            try:
                if not server.vendor.is_authorized(self.headers):
                    raise Refusal(401, "no access with this key")
                query = urllib.parse.parse_qs(url.query, keep_blank_values=True, strict_parsing=bool(url.query))
                body = None
                if bytes_:
                    if self.headers.get_content_type() != "application/json":
                        raise Refusal(415, "Content-Type is not application/json")
                    try:
                        body = json.loads(bytes_)
                    except ValueError as error:
                        raise Refusal(400, "the body is no JSON") from error
                path = urllib.parse.unquote(url.path)
                return server.vendor.handle(self.command, path, query, body)
            except Refusal as refusal:
                server.refused.append(
                    {"request": f"{self.command} {self.path}", "status": refusal.status, "message": refusal.message}
                )
                return refusal.status, server.vendor.error(refusal.status, refusal.message)

    def control(self, path):
        server = self.server
        body = json.loads(self.body() or b"null")
        with server.lock:
            match path.removeprefix("/_control/"):
                case "spans":
                    for span in body:
                        server.vendor.add(span)
                case "fail":
                    server.mode, server.count = body["mode"], body.get("count")
                    server.retry_after = body.get("retry_after")
                case "state":
                    state = {"records": server.vendor.records(), "repeats": server.vendor.repeats()}
                    state |= {"requests": server.requests, "refused": server.refused}
                    return self.answer(200, state)
                case _:
                    return self.answer(404, {"message": "no such control"})
        return self.answer(200, {})

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = any


def serve(vendor):
    """Runs the server of a class of `Vendor` until the program is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--key", default="the-key")
    for name, default in vendor.arguments.items():
        parser.add_argument(f"--{name}", default=default)
    server = Server(vendor(parser.parse_args()))
    print(server.server_address[1], flush=True)
    server.serve_forever()
