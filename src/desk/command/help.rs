//! The help.

pub(super) const HELP: &str = "\
feedback-desk: see the feedback, beside what it is about, and chart any field of it

It receives spans by OTLP, keeps them in one SQLite file, and answers on a local page and API.
Nothing is sent anywhere.

usage:
  feedback-desk [flags]                run the desk
  feedback-desk chart FIELD [flags]    print a chart as a table
  feedback-desk tail [flags]           print feedback as it arrives
  feedback-desk import FILE... [flags] read OTLP JSON lines
  feedback-desk clickhouse --ddl       print what makes the desk fast in a ClickHouse
  feedback-desk COMMAND --help         all flags of a command

flags of the desk (the variable in brackets says the same; a flag wins):
  --store FILE        the SQLite file, made if there is none
                      [FEEDBACK_DESK_STORE, default feedback-desk.sqlite]
  --store clickhouse=http://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE][?table=NAME&type.FIELD=TYPE]
                      show what the OpenTelemetry Collector's clickhouse exporter has written; spans
                      are only read, and no ports for them are opened. Types come back from the
                      values; type.feedback.zip=string (or bool, number) says better. The password
                      may be in CLICKHOUSE_PASSWORD [default: user default, port 8123, database
                      default, table otel_traces]
  --port PORT         page and API [FEEDBACK_DESK_PORT, default 4320]
  --grpc-port PORT    OTLP over gRPC [FEEDBACK_DESK_GRPC_PORT, default 4317]
  --http-port PORT    OTLP over HTTP, protobuf and JSON [FEEDBACK_DESK_HTTP_PORT, default 4318]
                      0 is any port that is free
  --listen ADDRESS    the address of all three [FEEDBACK_DESK_LISTEN, default 127.0.0.1];
                      one that other machines can reach needs a token
  --token TOKEN       what everyone has to show who sends or asks, as `Authorization: Bearer TOKEN`,
                      or once as /?token=TOKEN [FEEDBACK_DESK_TOKEN]; it travels in clear text, so
                      put TLS in front where others listen; better not as a flag, which others on
                      this machine can see
  --keep-days DAYS    forget traces of which nothing was heard for so long
                      [FEEDBACK_DESK_KEEP_DAYS, default: never]
  --keep-bytes SIZE   forget the oldest traces when the file uses more, those with feedback last:
                      500MB, 10GiB [FEEDBACK_DESK_KEEP_BYTES, default: no limit]
  --demo              fill the desk with thirty days of an invented service, for a first look; the
                      store is then feedback-desk-demo.sqlite unless --store names another, and
                      one that holds real data is refused; a second run changes nothing
  --demo-seed NUMBER  another story [default 1]
  -h, --help          this
  -V, --version       the version

A service that uses the OpenTelemetry defaults sends here without being told. Otherwise:
  OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317
";

pub(super) const CHART: &str = "\
feedback-desk chart: a chart of any field, as a table

usage: feedback-desk chart FIELD [flags]
  feedback-desk chart feedback.rating --measure percent-true --by day --group service.version

flags:
  --measure LIST      of bools percent-true, percent-false, count; of numbers count, sum, avg, median,
                      min, max, p95, p98, p99, and percentage with a comparison, as in
                      'percentage>=4'; several with commas between [default: all of the type]
  --by BUCKET         minute, hour, day, week, month [default: by the length of time]
  --group FIELD       a line a group: any field, or an attribute of the resource
  --top N             the N largest groups, and the others as one [default 5]
  --filter FILTER     as in 'feedback.rating is false and feedback.comment contains \"slow\"';
                      see the API's documentation, feedback-desk's page under /api
  --from TIME, --to TIME
                      2026-01-31, 2026-01-31T12:00:00Z, or milliseconds since 1970
  --time WHICH        start: when the target began; given: when it was said [default start]
  --tz OFFSET         where days begin: +02:00 [default +00:00]
  --compare WITH      previous, or version:VERSION
  --format FORMAT     table, csv, json [default table]
  --store STORE       the SQLite file, or clickhouse=http://…
                      [FEEDBACK_DESK_STORE, default feedback-desk.sqlite]

A bucket without values is empty, not zero. What was superseded or retracted counts nowhere. How many
values there are, and how many of another type were left out, is said on the standard error.
";

pub(super) const TAIL: &str = "\
feedback-desk tail: feedback as it arrives, a line each; it runs beside the desk, on its file

usage: feedback-desk tail [flags]

flags:
  --all               begin with everything there is
  --json              JSON lines
  --store STORE       the SQLite file, or clickhouse=http://… where the desk's own tables are
                      [FEEDBACK_DESK_STORE, default feedback-desk.sqlite]
";

pub(super) const IMPORT: &str = "\
feedback-desk import: spans from files, into the desk's file

usage: feedback-desk import FILE... [flags]

A file holds OTLP JSON, one request a line, as the Collector's file exporter writes it and as it is
posted to /v1/traces. - is the standard input. What is there already is not counted twice, so a file
can be read again. It can be done while the desk runs.

flags:
  --store FILE        the SQLite file, made if there is none
                      [FEEDBACK_DESK_STORE, default feedback-desk.sqlite]
";

pub(super) const CLICKHOUSE: &str = "\
feedback-desk clickhouse: tables and views that make the desk fast in a ClickHouse

usage: feedback-desk clickhouse --ddl [flags] | clickhouse-client --multiquery

It prints statements for whoever looks after the database to read and to run; the desk runs none. It works
without them, too: then every question looks at every span.

flags:
  --ddl               print them
  --store STORE       clickhouse=http://…: the names of database and table, and how it keeps attributes,
                      are looked up there [default: table otel_traces, attributes in maps]
  --json              attributes are in columns of type JSON (`json: true` of the exporter), where no store
                      is asked
";
