#!/usr/bin/env python3
"""Stands between a gRPC client and a collector, and notes whether requests are compressed.

    tap.py PORT COLLECTOR_PORT LOG

Passes on what it gets, unchanged. For each request the client sends, LOG gets a line: `gzip` or
`plain`, as the flag before the request's message says. Over HTTP the collector itself can be told
what to refuse; over gRPC it takes everything.
"""

import socket
import sys
import threading

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, PADDED = 0, 8


def pump(source, sink, see=lambda data: None):
    try:
        while data := source.recv(65536):
            see(data)
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


class Frames:
    """Reads HTTP/2 frames from a client's bytes."""

    def __init__(self, log):
        self.log, self.buffer, self.started, self.seen = log, b"", False, set()

    def see(self, data):
        self.buffer += data
        if not self.started and len(self.buffer) >= len(PREFACE):
            if not self.buffer.startswith(PREFACE):
                self.note("not HTTP/2")
            self.started, self.buffer = True, self.buffer[len(PREFACE) :]
        while self.started and len(self.buffer) >= 9:
            length, kind, flags = int.from_bytes(self.buffer[:3], "big"), self.buffer[3], self.buffer[4]
            stream = self.buffer[5:9]
            if len(self.buffer) < 9 + length:
                return
            payload, self.buffer = self.buffer[9 : 9 + length], self.buffer[9 + length :]
            if kind == DATA and flags & PADDED:
                payload = payload[1:]
            if kind == DATA and payload and stream not in self.seen:
                self.seen.add(stream)
                self.note("gzip" if payload[0] else "plain")

    def note(self, line):
        with open(self.log, "a") as log:
            print(line, file=log)


def main():
    port, target, log = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            client, _ = server.accept()
            upstream = socket.create_connection(("127.0.0.1", target))
            for pair in [(client, upstream, Frames(log).see), (upstream, client)]:
                threading.Thread(target=pump, args=pair, daemon=True).start()


if __name__ == "__main__":
    main()
