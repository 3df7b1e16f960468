//! `feedback-desk import`.
//!
//! | file | idea |
//! | --- | --- |
//! | `documents` | the JSON documents of a file |
//! | `dialect` | what a document is, and its requests |

mod dialect;
mod documents;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::{CommandError, CommandResult, print};
use crate::desk::log::log_line;
use crate::desk::store::Store;
use crate::desk::store::batch::SpanBatch;
use crate::desk::store::sqlite::{Retention, Sqlite, SqliteWriter};
use crate::printable::printable;
use dialect::requests;
use documents::{JsonDocument, JsonDocuments};

/// Requests on their way to the file.
const AT_ONCE: usize = 64;
/// Faults of one file that are printed; the others are counted.
const MOST_FAULTS: u64 = 10;

/// What became of the documents of all files.
#[derive(Debug, Default)]
struct Tally {
    requests: u64,
    spans: u64,
    faults: u64,
}

/// Reads files into a store.
pub(super) fn import(store: &Path, inputs: &[impl AsRef<Path>]) -> CommandResult {
    let writer = SqliteWriter::start_beside(store)
        .map_err(|error| CommandError::Failed(format!("{}: {error}", store.display())))?;
    let writer = Arc::new(writer);
    let reader = Sqlite::new(store, Duration::from_secs(60));
    let count = || reader.status().map(|status| status.spans).map_err(CommandError::failed);
    let before = count()?;
    let used = reader.status().map_err(CommandError::failed)?.used_bytes;
    announce_limits(reader.retention().map_err(CommandError::failed)?, used, inputs);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CommandError::failed)?;
    let mut tally = Tally::default();
    for input in inputs {
        let input = input.as_ref();
        let name = input.display().to_string();
        FileImport { name, faults: 0, tally: &mut tally }.run(input, &writer, &runtime)?;
    }
    let new = count()? - before;
    let printed = print(&format!(
        "{} spans read, {new} of them new, from {} requests\n",
        tally.spans, tally.requests
    ));
    match tally.faults {
        0 => printed,
        1 => Err(CommandError::Failed(
            "1 fault, see above: what it names is not imported".to_owned(),
        )),
        faults => Err(CommandError::Failed(format!(
            "{faults} faults, see above: what they name is not imported"
        ))),
    }
}

/// Says what the limits that the store was last served with will delete, before anything is written.
fn announce_limits(retention: Retention, used: u64, inputs: &[impl AsRef<Path>]) {
    if let Some(age) = retention.age {
        let (count, unit) = match age.as_secs() {
            seconds if seconds % 86_400 == 0 => (seconds / 86_400, "days"),
            seconds => (seconds, "seconds"),
        };
        log_line(&format!(
            "the store was last served with a limit of {count} {unit} (--keep-days): what is imported now \
             is deleted {count} {unit} from now, unless more is received"
        ));
    }
    if let Some(bytes) = retention.bytes {
        let files =
            inputs.iter().map(|input| std::fs::metadata(input).map_or(0, |file| file.len()));
        let files = files.fold(0_u64, u64::saturating_add);
        let surplus = used.saturating_add(files).saturating_sub(bytes);
        let outcome = if surplus > 0 {
            format!(
                "together about {surplus} bytes too much, so the desk will delete that much of the traces \
                 received longest ago, those with feedback last"
            )
        } else {
            "what is received longest ago is deleted above it, traces with feedback last".to_owned()
        };
        log_line(&format!(
            "the store was last served with --keep-bytes {bytes}: {used} are used, and the files have \
             {files}; {outcome}"
        ));
    }
}

/// One file.
struct FileImport<'a> {
    name: String,
    faults: u64,
    tally: &'a mut Tally,
}

impl FileImport<'_> {
    fn run(
        mut self,
        input: &Path,
        writer: &Arc<SqliteWriter>,
        runtime: &tokio::runtime::Runtime,
    ) -> CommandResult {
        let spans_before = self.tally.spans;
        let (mut found, mut last_line) = (0_u64, 1);
        let mut documents = match open(input) {
            Ok(documents) => Some(documents),
            Err(error) => {
                self.note_unreadable(&error);
                None
            }
        };
        while let Some(reading) = &mut documents {
            // Several at once, so that they share a transaction.
            let mut batches = Vec::new();
            let mut is_end = false;
            while batches.len() < AT_ONCE && !is_end {
                match reading.next() {
                    Ok(Some(document)) => {
                        (found, last_line) = (found + 1, document.line);
                        self.read(document, &mut batches);
                    }
                    Ok(None) => is_end = true,
                    Err(error) => {
                        self.note_fault(last_line, &format!("what follows can't be read: {error}"));
                        is_end = true;
                    }
                }
            }
            write(batches, writer, runtime)?;
            if is_end {
                documents = None;
            }
        }
        if self.faults == 0 && self.tally.spans == spans_before {
            let reason = if found == 0 { "the file is empty" } else { "no spans are in it" };
            self.note_fault(1, reason);
        }
        if self.faults > MOST_FAULTS {
            log_line(&format!("{}: {} more", printable(&self.name), self.faults - MOST_FAULTS));
        }
        Ok(())
    }

    fn read(&mut self, document: JsonDocument, batches: &mut Vec<SpanBatch>) {
        let JsonDocument { line, text } = document;
        let requests = match text.and_then(|text| requests(text.trim_ascii())) {
            Ok(requests) => requests,
            Err(reason) => return self.note_fault(line, &reason),
        };
        for request in requests {
            match SpanBatch::of(request) {
                Ok(mut batch) => {
                    if let Some(refusal) = batch.refused.first.take() {
                        let what = match batch.refused.count {
                            0 => "a resource, a scope or a text is left out".to_owned(),
                            count => format!("{count} spans are left out"),
                        };
                        self.note_fault(line, &format!("{what}: {refusal}"));
                    }
                    self.tally.requests += 1;
                    self.tally.spans += batch.spans.len() as u64;
                    batches.push(batch);
                }
                Err(refusal) => self.note_fault(line, &refusal.reason),
            }
        }
    }

    fn note_fault(&mut self, line: u64, reason: &str) {
        self.count_fault(&format!("{}:{line}: {}", printable(&self.name), printable(reason)));
    }

    fn note_unreadable(&mut self, error: &std::io::Error) {
        self.count_fault(&format!("{}: {error}", printable(&self.name)));
    }

    fn count_fault(&mut self, line: &str) {
        self.faults += 1;
        self.tally.faults += 1;
        if self.faults <= MOST_FAULTS {
            log_line(line);
        }
    }
}

fn open(input: &Path) -> std::io::Result<JsonDocuments<'static>> {
    let file: Box<dyn BufRead> = match input == Path::new("-") {
        true => Box::new(std::io::stdin().lock()),
        false => Box::new(BufReader::new(File::open(input)?)),
    };
    JsonDocuments::of(file)
}

fn write(
    batches: Vec<SpanBatch>,
    writer: &Arc<SqliteWriter>,
    runtime: &tokio::runtime::Runtime,
) -> CommandResult {
    runtime.block_on(async {
        let mut writes = JoinSet::new();
        for batch in batches {
            let writer = Arc::clone(writer);
            writes.spawn(async move { writer.write(batch).await });
        }
        while let Some(written) = writes.join_next().await {
            written.map_err(CommandError::failed)?.map_err(CommandError::failed)?;
        }
        Ok::<(), CommandError>(())
    })
}
