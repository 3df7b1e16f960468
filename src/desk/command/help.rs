//! The texts of `--help`.

pub(super) const HELP: &str = "\
feedback-desk: browse feedback next to the traces it is about, and chart any field of it

It receives spans by OTLP, stores them in one SQLite file, and serves a local page and API.
It sends data only to backends named by --forward.

usage:
  feedback-desk [flags]                run the desk
  feedback-desk chart FIELD [flags]    print a chart as a table
  feedback-desk tail [flags]           print feedback as it arrives
  feedback-desk import FILE... [flags] read OTLP JSON lines
  feedback-desk forward --check        tell what other backends would be told, see --forward
  feedback-desk clickhouse --ddl       print tables and views for a fast desk on ClickHouse
  feedback-desk COMMAND --help         all flags of a command

flags of the desk (in brackets: the environment variable, which a flag overrides):
  --store FILE        the SQLite file, created if missing
                      [FEEDBACK_DESK_STORE, default feedback-desk.sqlite]
  --store clickhouse=http://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE][?table=NAME&type.FIELD=TYPE]
                      read the spans that the OpenTelemetry Collector's clickhouse exporter has
                      written; no ports for spans are opened. Types are inferred from the values;
                      type.feedback.zip=string (or bool, number) sets one. The password may be in
                      CLICKHOUSE_PASSWORD [default: user default, port 8123, database default,
                      table otel_traces]
  --port PORT         page and API [FEEDBACK_DESK_PORT, default 4320]
  --grpc-port PORT    OTLP over gRPC [FEEDBACK_DESK_GRPC_PORT, default 4317]
  --http-port PORT    OTLP over HTTP, protobuf and JSON [FEEDBACK_DESK_HTTP_PORT, default 4318]
                      0 means any free port
  --listen ADDRESS    the address of all three ports [FEEDBACK_DESK_LISTEN, default 127.0.0.1];
                      an address that other machines can reach requires a token
  --token TOKEN       required from senders and readers, as `Authorization: Bearer TOKEN`, or once as
                      /?token=TOKEN [FEEDBACK_DESK_TOKEN]. It is sent in clear text: put a TLS proxy
                      in front on untrusted networks. Prefer the variable: other users of this
                      machine can see flags
  --allow-host NAME   a name of the desk in the Host header, as a reverse proxy passes it on; may be
                      given more than once [FEEDBACK_DESK_ALLOW_HOST, separated by commas; default:
                      only names of this machine]
  --base-path /PATH   the path under which a reverse proxy serves the desk, whether the proxy passes
                      it on or strips it [FEEDBACK_DESK_BASE_PATH, default: none]
  --keep-days DAYS    delete traces of which nothing was received for this many days, 1 or more
                      [FEEDBACK_DESK_KEEP_DAYS, default: kept forever]
  --keep-bytes SIZE   delete the traces received longest ago above this size, those with feedback
                      last: 500MB, 10GiB, at least 512KiB
                      [FEEDBACK_DESK_KEEP_BYTES, default: no limit]
  --forward KIND=URL  keep the feedback in another backend equal to the folded feedback; may be given more
                      than once: phoenix=http://localhost:6006, mlflow=http://localhost:5000; otlp=URL
                      passes spans on. Secrets are read from the environment only, as PHOENIX_API_KEY
                      [FEEDBACK_DESK_FORWARD, separated by commas]
  --forward-state FILE
                      with --store clickhouse=…: the SQLite file of what was forwarded, created if missing
                      [FEEDBACK_DESK_FORWARD_STATE, default feedback-desk-forward.sqlite]
  --forward-metrics   forward metrics besides feedback [FEEDBACK_DESK_FORWARD_METRICS=yes]
  --forward-texts no  forward numbers and bools only; texts sent before are deleted there
                      [FEEDBACK_DESK_FORWARD_TEXTS, default yes]
  --demo              fill the store with thirty days of generated data, for a first look. The store
                      is feedback-desk-demo.sqlite unless --store names another; a store with real
                      data is refused; a second run changes nothing
  --demo-seed NUMBER  generate other data [default 1]
  -h, --help          print this help
  -V, --version       print the version

A service with the OpenTelemetry defaults on this machine already sends to the desk. Otherwise set:
  OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317
";

pub(super) const CHART: &str = "\
feedback-desk chart: print a chart of any field as a table

usage: feedback-desk chart FIELD [flags]
  feedback-desk chart feedback.rating --measure percent-true --by day --group service.version

flags:
  --measure LIST      for booleans percent-true, percent-false, count; for numbers count, sum, avg,
                      median, min, max, p95, p98, p99, and percentage with a comparison, for example
                      'percentage>=4'; separated by commas [default: all measures of the type]
  --by BUCKET         minute, hour, day, week, month [default: by the time range]
  --group FIELD       one line for each value of a field or a resource attribute
  --top N             the N largest groups, the others combined [default 5]
  --filter FILTER     for example 'feedback.rating is false and feedback.comment contains \"slow\"';
                      documented under /api of the desk
  --from TIME, --to TIME
                      2026-01-31, 2026-01-31T12:00:00Z, or milliseconds since 1970
  --time WHICH        date by start (time of answer) or given (time of feedback) [default start]
  --tz ZONE           the time zone of days, and of --from and --to: Europe/Berlin, +02:00 [default UTC]
  --compare WITH      previous, or version:VERSION
  --format FORMAT     table, csv, json [default table]
  --store STORE       the SQLite file, or clickhouse=http://…
                      [FEEDBACK_DESK_STORE, default feedback-desk.sqlite]

A bucket without values is empty, not zero. Superseded and retracted values do not count. The number
of values, and of values left out because of their type, is printed to standard error.
";

pub(super) const TAIL: &str = "\
feedback-desk tail: print feedback as it arrives, one per line; the desk may be running

usage: feedback-desk tail [flags]

flags:
  --all               start with all stored feedback
  --json              print JSON lines
  --store STORE       the SQLite file, or clickhouse=http://… with the desk's own tables
                      [FEEDBACK_DESK_STORE, default feedback-desk.sqlite]
";

pub(super) const IMPORT: &str = "\
feedback-desk import: read spans from files into the desk's store

usage: feedback-desk import FILE... [flags]

A file contains OTLP/JSON: a request per line, as the Collector's file exporter writes it, one request
over many lines, or a list of them; also as protobuf's own JSON and Tempo write it, and compressed with
gzip or zstd. - is standard input. What can't be read is named, and the exit status is 1 then. Spans
that are stored already do not count twice, so a file can be imported again. The desk may be running.
Its --keep-days count from the import, its --keep-bytes may delete other traces for what is imported: the
command prints the limits that the store was last served with, and what they will delete.

flags:
  --store FILE        the SQLite file, created if missing
                      [FEEDBACK_DESK_STORE, default feedback-desk.sqlite]
";

pub(super) const FORWARD: &str = "\
feedback-desk forward: what other backends were told, and would be told

usage:
  feedback-desk forward --check --forward KIND=URL [flags]
  feedback-desk forward --status [flags]
  feedback-desk forward --retry [flags]

The desk itself forwards, with --forward KIND=URL; this command tells a backend nothing. The desk may be
running.

flags:
  --check             whether each backend can be reached, and how many records would be created, changed
                      and deleted there; the exit status is 1 if one can't be reached
  --status            what was told, what waits for its span or for the backend, what was refused and why
  --retry             make everything due again that waits or was refused
  --json              print JSON lines
  --forward KIND=URL, --forward-metrics, --forward-texts
                      for --check, as for the desk
  --store STORE       the SQLite file, or clickhouse=http://… with --forward-state FILE
                      [FEEDBACK_DESK_STORE, default feedback-desk.sqlite]
";

pub(super) const CLICKHOUSE: &str = "\
feedback-desk clickhouse: print tables and views for a fast desk on ClickHouse

usage: feedback-desk clickhouse --ddl [flags] | clickhouse-client --multiquery

The statements are for the administrator of the database to review and run; the desk runs none. The
desk also works without them, but then every query scans all spans.

flags:
  --ddl               print the statements
  --store STORE       clickhouse=http://…: the names of the database and table, and the type of the
                      attribute columns, are read there [default: table otel_traces, maps]
  --json              without --store: the attribute columns have type JSON (`json: true` of the
                      exporter)
";
