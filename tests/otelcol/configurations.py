#!/usr/bin/env python3
"""Reads the configurations of `examples/deploy` with the Collector they are for.

    configurations.py OTELCOL DIRECTORY WORK

Every file has to be valid YAML to it, and to say in its head (`# Not run: …`) exactly which of its
components this Collector lacks. With these left out, or others in their place that take the same
settings of queue, retry and client, what remains has to be valid. So nothing proves the settings that
are of a missing component alone; everything else is read by the code that will read it.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

# Each as it is started: one over the other.
STACKS = [
    ["agent.yaml"],
    ["agent.yaml", "agent.persistent.yaml"],
    ["loadbalancer.yaml"],
    ["gateway.yaml"],
    ["gateway.yaml", "gateway.sampling.yaml"],
    ["gateway.yaml", "gateway.clickhouse.yaml"],
    ["gateway.yaml", "gateway.sampling.yaml", "gateway.clickhouse.yaml"],
    ["gateway.yaml", "gateway.backend.yaml"],
    ["gateway.yaml", "gateway.sampling.yaml", "gateway.clickhouse.yaml", "gateway.backend.yaml"],
]
KINDS = ["receivers", "processors", "exporters", "extensions"]
SHARED = ["timeout", "retry_on_failure", "sending_queue"]


def ask(otelcol, *arguments):
    done = subprocess.run([otelcol, *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)}:\n{done.stderr}")
    return done.stdout


def resolved(otelcol, paths):
    """The files as one: merged, and with their variables."""
    configs = [argument for path in paths for argument in ("--config", f"file:{path}")]
    mode = ["--mode=unredacted", "--format=json", "--validate=false"]
    gate = "--feature-gates=otelcol.printInitialConfig"
    return json.loads(ask(otelcol, "print-config", gate, *mode, *configs))


def components(otelcol):
    """Which types it has of each kind."""
    types, kind = {}, None
    for line in ask(otelcol, "components").splitlines():
        if heading := re.fullmatch(r"(\w+):.*", line):
            kind = types.setdefault(heading[1], set())
        elif entry := re.fullmatch(r"    - name: (\w+)", line):
            kind.add(entry[1])
    return types


def type_of(component):
    return component.split("/")[0]


def missing(config, types):
    return {
        type_of(component)
        for kind in KINDS
        for component in config.get(kind, {})
        if type_of(component) not in types[kind]
    }


def without(config, absent):
    """The configuration with what is absent left out or stood in for."""
    names = {}
    exporters = config["exporters"]
    for component in [name for name in exporters if type_of(name) in absent]:
        settings = exporters.pop(component)
        match type_of(component):
            case "clickhouse":
                settings = {key: settings[key] for key in SHARED if key in settings}
            case "loadbalancing":
                settings = settings["protocol"]["otlp"]
            case other:
                sys.exit(f"nothing stands in for {other}")
        names[component] = "otlp/" + component.replace("/", "-")
        exporters[names[component]] = settings | {"endpoint": "localhost:4317"}
    for kind in ["processors", "extensions"]:
        present = {k: v for k, v in config.get(kind, {}).items() if type_of(k) not in absent}
        config[kind] = present
    service = config["service"]
    service["extensions"] = [name for name in service.get("extensions", []) if type_of(name) not in absent]
    for pipeline in service["pipelines"].values():
        pipeline["processors"] = [n for n in pipeline["processors"] if type_of(n) not in absent]
        pipeline["exporters"] = [names.get(name, name) for name in pipeline["exporters"]]
    return config


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    otelcol, directory, work = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    version = ask(otelcol, "--version").split()[-1]
    types = components(otelcol)
    files = {path.name for path in directory.glob("*.yaml")}
    if stray := files ^ {name for stack in STACKS for name in stack}:
        sys.exit(f"{', '.join(sorted(stray))}: in no stack, or not there")

    absent = set()
    for name in sorted(files):
        head = (directory / name).read_text(encoding="utf-8")
        if f"For the OpenTelemetry Collector v{version}" not in head:
            sys.exit(f"{name}: doesn't say that it is for v{version}")
        stated = re.search(r"^# Not run: ([\w, ]+)\.", head, re.MULTILINE)
        stated = set(stated[1].split(", ")) if stated else set()
        lacking = missing(resolved(otelcol, [directory / name]), types)
        if stated != lacking:
            sys.exit(f"{name}: says {sorted(stated)} are not run, this Collector lacks {sorted(lacking)}")
        absent |= lacking

    for stack in STACKS:
        config = without(resolved(otelcol, [directory / name for name in stack]), absent)
        path = work / ("+".join(stack) + ".json")
        path.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
        ask(otelcol, "validate", "--config", f"file:{path}")
    print(f"{len(files)} files are read, and valid but for {', '.join(sorted(absent))}")


if __name__ == "__main__":
    main()
