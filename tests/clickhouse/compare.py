"""Puts the same spans into two desks, asks both the same, and compares the answers.

    python3 compare.py selftest DESK          two desks on SQLite: equal, and not when one has a vote more
    python3 compare.py random DESK            SQLite and ClickHouse, on random data
    python3 compare.py demo DESK              … on the demo's data
    python3 compare.py edges DESK             … on what is rare: see edges.py
        --json       attributes in columns of type JSON
        --tables     with the desk's own tables in ClickHouse
        --traces N   how much random data
        --seed N
        --every N    only every Nth question, where all of them would take too long

`DESK` is the program. Numbers are equal within 1e-9, everything else exactly. Rows of a list are compared in
their order; those whose place is not decided by what the list is sorted by are put in an order of their own
first. `DIFFERENCES` says what may differ and why: nothing else may.
"""

import argparse
import csv
import http.client
import io
import itertools
import json
import math
import os
import signal
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import data
import edges
import exporter
import questions
from process import Desk, Engine, run

CLEARED = "tracing_feedback.cleared"
# As many as a desk answers at a time. On few processors they would take longer than a query may.
AT_ONCE = min(4, os.cpu_count() or 1)

# What differs between the stores, by the name of the member, and why.
DIFFERENCES = {
    # of `status`: about the file, not about the data
    "version": None,
    "store": None,
    "schema": None,
    "used_bytes": None,
    "file_bytes": None,
    "keep_days": None,
    "keep_bytes": None,
    # a place in one store's own order
    "next": lambda value: True,
    # Maps hold text. What a span says gets its types back; its other attributes are what was kept.
    "attributes": lambda values: {key: as_text(value) for key, value in values.items()},
    "resource": lambda values: {key: as_text(value) for key, value in values.items()},
}

# Of `status` alone: ClickHouse counts rows, also those of spans that came twice.
IN_STATUS = ["spans"]

# By what the rows of a view are sorted.
SORTED_BY = {
    "traces": "start",
    "sessions": "last",
    "comments": "given",
    "dataset": "start",
    "waiting": "given",
    "values": "count",
}


class Asked:
    """A desk that is asked over HTTP."""

    def __init__(self, url):
        self.url = url

    def get(self, view, parameters):
        """Status and text of an answer."""
        address = f"{self.url}/api/v1/{urllib.parse.quote(view)}"
        if parameters:
            address += "?" + urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(address, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def __call__(self, view, **parameters):
        status, text = self.get(view, parameters)
        if status != 200:
            raise RuntimeError(f"{view} {parameters}: {status} {text}")
        return json.loads(text)

    def answer(self, view, parameters):
        """The whole answer: of a list all pages, of a file its rows. None at all is an answer, too."""
        try:
            return self.whole(view, parameters)
        except (OSError, RuntimeError, ValueError, http.client.HTTPException) as error:
            return {"status": None, "answer": f"{type(error).__name__}: {error}"}

    def whole(self, view, parameters):
        status, text = self.get(view, parameters)
        if status != 200:
            return {"status": status, "answer": json.loads(text)}
        if view.startswith("export/"):
            return {"status": status, "answer": of_file(text, parameters["format"])}
        answer = json.loads(text)
        pages = [len(answer["rows"])] if "rows" in answer else None
        total = answer.get("total")
        while "next" in answer and pages:
            page = self(view, **parameters | {"cursor": answer["next"]})
            pages.append(len(page["rows"]))
            answer = page | {"rows": answer["rows"] + page["rows"]}
            if page.get("total") != total:
                raise RuntimeError(f"{view} {parameters}: the total changes from page to page")
        return {"status": status, "pages": pages, "answer": answer}


def of_file(text, format):
    if format == "jsonl":
        return [json.loads(line) for line in text.splitlines()]
    return [{name: of_cell(cell) for name, cell in row.items()} for row in csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))]


def of_cell(cell):
    try:
        return json.loads(cell)
    except (TypeError, ValueError):
        return cell


def as_text(value):
    """A value as the exporter writes it into a map."""
    if isinstance(value, str):
        return value
    return "" if value is None else exporter.go_json(value)


def lenient(value):
    """An answer without what may differ."""
    if isinstance(value, list):
        return [lenient(item) for item in value]
    if not isinstance(value, dict):
        return value
    rest = {}
    for name, member in value.items():
        if name not in DIFFERENCES:
            rest[name] = lenient(member)
        elif DIFFERENCES[name] and (name == "next" or isinstance(member, dict)):
            rest[name] = DIFFERENCES[name](member)
        elif DIFFERENCES[name]:
            rest[name] = lenient(member)
    return rest


def strict(value):
    """The same for two stores of one kind, in which nothing is lost."""
    if isinstance(value, dict):
        return {
            name: True if name == "next" else strict(member)
            for name, member in value.items()
            if name not in ("used_bytes", "file_bytes")
        }
    return [strict(item) for item in value] if isinstance(value, list) else value


def arranged(rows, key):
    """Rows with equal keys in an order that depends on nothing but themselves."""
    groups = itertools.groupby(rows, key)
    return [row for _, run in groups for row in sorted(run, key=lambda row: json.dumps(row, sort_keys=True))]


def in_order(view, found, starts):
    """An answer whose rows stand where they must, as far as their order is decided."""
    name = view.removeprefix("export/")
    answer = found["answer"]
    rows = answer.get("rows") if isinstance(answer, dict) else answer
    if isinstance(answer, dict) and "list" in answer:
        rows = answer["list"]
    for row in rows or []:
        # What is said in a trace stands by the start of the span that it is about.
        if isinstance(row, dict) and isinstance(row.get("feedback"), list):
            begin = row.get("start")
            row["feedback"] = arranged(row["feedback"], lambda said: starts.get(said.get("span_id"), begin))
    if isinstance(rows, list) and name in SORTED_BY:  # else it is an error
        rows[:] = arranged(rows, lambda row: row.get(SORTED_BY[name]))
    return found


def difference(one, other, path=""):
    """Where two answers first differ, or nothing."""
    if isinstance(one, bool) or isinstance(other, bool):
        return None if one is other else (path, one, other)
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return None if math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12) else (path, one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted(one.keys() | other.keys()):
            if name not in one or name not in other:
                return f"{path}.{name}", one.get(name, "(missing)"), other.get(name, "(missing)")
            if found := difference(one[name], other[name], f"{path}.{name}"):
                return found
        return None
    if isinstance(one, list) and isinstance(other, list):
        for at, (a, b) in enumerate(zip(one, other)):
            if found := difference(a, b, f"{path}[{at}]"):
                return found
        return None if len(one) == len(other) else (f"{path} (length)", len(one), len(other))
    return None if one == other and type(one) is type(other) else (path, one, other)


class Comparison:
    """Two desks that hold the same."""

    def __init__(self, right, found, without, starts, every=1, shown=12):
        self.right, self.found, self.without, self.starts = Asked(right.url), Asked(found.url), without, starts
        self.every = every
        self.asked, self.differing = 0, []
        self.lock = threading.Lock()

    def ask(self, question):
        view, parameters = question
        answers = []
        for desk in [self.right, self.found]:
            began = time.monotonic()
            answer = self.without(desk.answer(view, parameters))
            if view == "status" and self.without is lenient:
                answer["answer"] = {name: value for name, value in answer["answer"].items() if name not in IN_STATUS}
            answers.append((in_order(view, answer, self.starts), time.monotonic() - began))
        differs = difference(*(answer for answer, _ in answers))
        with self.lock:
            self.asked += 1
            if differs:
                self.differing.append((view, parameters, *differs))
        return tuple(took for _, took in answers)

    def run(self, name, filters=questions.FILTERS, shown=int(os.environ.get("SHOWN", "12")), asked=None):
        """Asks everything, or what is to be `asked`; whether all of it is the same."""
        self.asked, self.differing = 0, []
        began = time.monotonic()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            chosen = list(asked(self.right) if asked else questions.all_of(self.right, filters))[:: self.every]
            took = list(pool.map(self.ask, chosen))
        slowest = [max(times) for times in zip(*took)]
        print(
            f"{name}: {self.asked} questions, {len(self.differing)} answers differ "
            f"({time.monotonic() - began:.0f} s; the slowest answers took {slowest[0]:.1f} s and {slowest[1]:.1f} s)",
            flush=True,
        )
        if os.environ.get("SLOWEST"):
            for (_, seconds), question in sorted(zip(took, chosen), key=lambda pair: -pair[0][1])[:8]:
                print(f"  {seconds:.1f} s: {question}", flush=True)
        for view, parameters, path, one, other in self.differing[:shown]:
            print(f"  {view}?{urllib.parse.urlencode(parameters)}\n    {path}: {short(one)} but {short(other)}")
        if len(self.differing) > shown:
            print(f"  … and {len(self.differing) - shown} more")
        return not self.differing


def short(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 160 else text[:160] + "…"


def starts_of(lines):
    """When each span began, in milliseconds, by its id."""
    starts = {}
    for line in lines:
        for group in json.loads(line)["resourceSpans"]:
            for scoped in group["scopeSpans"]:
                for span in scoped["spans"]:
                    starts.setdefault(span["spanId"], int(span["startTimeUnixNano"]) // 1000 / 1000)
    return starts


def import_lines(desk, store, lines, directory):
    path = os.path.join(directory, "lines.json")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines))
    run(desk, "import", path, "--store", store)


def apply_ddl(client, text):
    """Runs what `feedback-desk clickhouse --ddl` prints: statements, each ended by `;` at the end of a line."""
    client.script(text)


def refresh(client):
    """Brings refreshable views up to date now, and waits until they are."""
    views = client.query("SELECT database, view FROM system.view_refreshes FORMAT TSV").splitlines()
    for view in views:
        name = ".".join(f"`{part}`" for part in view.split("\t"))
        client.query(f"SYSTEM REFRESH VIEW {name}")
        client.query(f"SYSTEM WAIT VIEW {name}")


def wait_until_equal(right, found, timeout=60):
    """Until the second desk has seen what has arrived, which it may do with a delay."""
    deadline = time.monotonic() + timeout
    watched = ["documents", "waiting", "adrift"]
    while True:
        states = [{name: desk("status")[name] for name in watched} for desk in (Asked(right.url), Asked(found.url))]
        if states[0] == states[1]:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"the desks hold different things: {states[0]} and {states[1]}")
        time.sleep(0.1)


def selftest(options, directory):
    """The comparison itself: what is equal is found so, and what is not is found, too."""
    lines, later = data.make(options.seed, options.traces)
    starts = starts_of(lines + later)
    stores = [os.path.join(directory, f"{name}.sqlite") for name in ["one", "other"]]
    # In another order: it must not matter.
    for store, some in zip(stores, [lines, sorted(lines)]):
        import_lines(options.desk, store, some, directory)
    few = questions.FILTERS[::8]
    with Desk(options.desk, stores[0]) as one, Desk(options.desk, stores[1]) as other:
        check_data(Asked(one.url))
        comparison = Comparison(one, other, strict, starts, options.every)
        if not comparison.run("the same twice", few):
            return False
        if not Comparison(one, other, lenient, starts, options.every).run("the same twice, less strictly", few):
            return False
        for store in stores:
            import_lines(options.desk, store, later, directory)
        if not comparison.run("and when more has come", few):
            return False
        import_lines(options.desk, stores[1], [data.one_vote_more(lines)], directory)
        if comparison.run("one vote more in one of them, which must differ", few, shown=3):
            print("a vote that only one of them has was not noticed")
            return False
    return True


def check_data(ask):
    """The data has what it is there for, or a comparison would say little."""
    status = ask("status")
    assert status["waiting"] and status["adrift"], status
    mixed = ask("chart", field="feedback.mixed")
    assert 0 < mixed["left_out"]["string"] < mixed["values"] / 100, mixed["left_out"]
    types = {row["field"]: row["types"] for row in ask("fields", limit=500)["rows"] if row["source"] == "said"}
    assert [field for field in types if len(types[field]) > 1] == ["feedback.mixed"], types
    for filter in ["has feedback", "has no feedback", "has feedback.edits.2.value", "has feedback.overall"]:
        assert ask("traces", filter=filter)["total"], filter


def without_arrays(line):
    """A column of type JSON gives arrays back as ClickHouse writes them. The desk reads what is cleared from
    that; other arrays it shows as they are."""

    def without(value):
        if isinstance(value, dict):
            if "attributes" in value:
                kept = [a for a in value["attributes"] if "arrayValue" not in a["value"] or a["key"] == CLEARED]
                value = value | {"attributes": kept}
            return {name: without(member) for name, member in value.items()}
        return [without(item) for item in value] if isinstance(value, list) else value

    return json.dumps(without(json.loads(line)))


def against_clickhouse(options, directory):
    filters, asked = questions.FILTERS, None
    if options.what == "edges":
        lines, later = edges.make(options.seed)
        asked = edges.questions
    elif options.what == "demo":
        import demo

        lines, later = demo.lines(options.desk, directory), []
        filters = filters[::4]  # most are about the other data
    else:
        lines, later = data.make(options.seed, options.traces)
    if options.json:
        lines, later = ([without_arrays(line) for line in some] for some in (lines, later))
    starts = starts_of(lines + later)
    store = os.path.join(directory, "desk.sqlite")
    import_lines(options.desk, store, lines, directory)
    kind = f"{options.what}{', json' if options.json else ''}{', tables' if options.tables else ''}"
    with Engine(os.path.join(directory, "engine")) as engine:
        client = exporter.Client(engine.url)
        exporter.create_tables(client, options.json)
        # Half of it before the desk's own tables are made, half after: both have to find their way there.
        half = len(lines) // 2
        exporter.write(client, lines[:half], options.json, batch=200)
        if options.tables:
            apply_ddl(client, run(options.desk, "clickhouse", "--ddl", "--store", f"clickhouse={engine.url}"))
        written = exporter.write(client, lines[half:], options.json, batch=200)
        refresh(client)
        version = client.query("SELECT version()").strip()
        print(f"{kind}: ClickHouse {version}, {written} spans in the second half")
        with Desk(options.desk, store) as right, Desk(options.desk, f"clickhouse={engine.url}") as found:
            wait_until_equal(right, found)
            comparison = Comparison(right, found, lenient, starts, options.every)
            same = comparison.run(kind, filters, asked=asked)
            same &= command_line(options.desk, right, found)
            if later:
                import_lines(options.desk, store, later, directory)
                exporter.write(client, later, options.json, batch=50)
                refresh(client)
                wait_until_equal(right, found)
                same &= comparison.run(f"{kind}, and more has come", filters, asked=asked)
    return same


def command_line(desk, *desks):
    """`feedback-desk chart` prints the same table of both stores."""
    same = True
    for field, *flags in [
        ["feedback.rating", "--by", "day", "--group", "service.version", "--measure", "percent-true,count"],
        ["feedback.rating", "--by", "week", "--filter", "service.name is chat", "--format", "csv"],
    ]:
        texts = [run(desk, "chart", field, *flags, "--store", one.store) for one in desks]
        if texts[0] != texts[1]:
            print(f"  chart {field} {' '.join(flags)}:\n{texts[0]}but\n{texts[1]}")
            same = False
    return same


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["selftest", "random", "demo", "edges"])
    parser.add_argument("desk")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--tables", action="store_true")
    parser.add_argument("--traces", type=int, default=400)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and what was started ends, too
    with tempfile.TemporaryDirectory() as directory:
        work = selftest if options.what == "selftest" else against_clickhouse
        sys.exit(0 if work(options, directory) else 1)


if __name__ == "__main__":
    main()
