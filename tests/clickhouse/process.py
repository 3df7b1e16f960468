"""The programs that are compared: started on ports that are free, ended by their own id."""

import os
import re
import subprocess
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
PORTS = {f"FEEDBACK_DESK_{name}": "0" for name in ["PORT", "GRPC_PORT", "HTTP_PORT"]}


class Process:
    """A program whose standard output is read as it comes. It ends with the block."""

    def __init__(self, arguments, environment=None):
        self.process = subprocess.Popen(
            arguments,
            env=os.environ | (environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            errors="replace",
            text=True,
        )
        self.name, self.lines, self.changed = os.path.basename(arguments[0]), [], threading.Condition()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line)
                self.changed.notify_all()
        with self.changed:
            self.lines.append(None)
            self.changed.notify_all()

    def wait_for(self, pattern, timeout=120):
        """The first line that matches, as soon as it is printed."""
        found = lambda: next((m for line in self.lines if line and (m := re.search(pattern, line))), None)  # noqa: E731
        with self.changed:
            self.changed.wait_for(lambda: found() or None in self.lines, timeout)
            match = found()
            if not match:
                printed = "".join(line for line in self.lines if line)
                raise RuntimeError(f"{self.name} has not printed {pattern!r}, but:\n{printed}")
            return match

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join()
        self.process.stdout.close()


class Desk(Process):
    """`feedback-desk` on a store: a file, or `clickhouse=http://…`."""

    def __init__(self, desk, store, *flags):
        super().__init__([desk, "--store", store, *flags], PORTS)
        self.store, self.program = store, desk

    def __enter__(self):
        self.url = self.wait_for(r"page.*(http://127\.0\.0\.1:\d+)")[1]
        return self


class Engine(Process):
    """ClickHouse behind HTTP, in a directory."""

    def __init__(self, directory, *flags):
        super().__init__(
            [sys.executable, os.path.join(HERE, "engine.py"), "--port", "0", "--path", directory, *flags]
        )

    def __enter__(self):
        self.url = "http://127.0.0.1:" + self.wait_for(r"^(\d+)$")[1]
        return self


def run(desk, *arguments, **environment):
    """What a command of `feedback-desk` prints."""
    done = subprocess.run(
        [desk, *arguments], env=os.environ | environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise RuntimeError(f"{os.path.basename(desk)} {' '.join(arguments)}: {done.stderr or done.stdout}")
    return done.stdout
