//! `feedback-desk import`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::{CommandError, CommandResult, print};
use crate::collector::receive::budget::MemoryBudget;
use crate::collector::receive::decode::{Format, decode};
use crate::desk::log::log_line;
use crate::desk::store::Store;
use crate::desk::store::batch::SpanBatch;
use crate::desk::store::sqlite::{Retention, Sqlite, SqliteWriter};
use crate::printable::printable;

/// A line that is longer is no request: the receiver takes no more either.
const LONGEST: u64 = 64 << 20;
/// Requests on their way to the file.
const AT_ONCE: usize = 64;

/// What became of the lines of all files.
#[derive(Debug, Default)]
struct Tally {
    lines: u64,
    seen: u64,
    refused: u64,
}

/// Reads files into a store.
pub(super) fn import(store: &Path, inputs: &[impl AsRef<Path>]) -> CommandResult {
    let writer = SqliteWriter::start(store, Retention::default())
        .map_err(|error| CommandError::Failed(format!("{}: {error}", store.display())))?;
    let writer = Arc::new(writer);
    let reader = Sqlite::new(store, Duration::from_secs(60));
    let count = || reader.status().map(|status| status.spans).map_err(CommandError::failed);
    let before = count()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CommandError::failed)?;
    let mut tally = Tally::default();
    for input in inputs {
        let input = input.as_ref();
        let failed =
            |error: std::io::Error| CommandError::Failed(format!("{}: {error}", input.display()));
        if input == Path::new("-") {
            lines(std::io::stdin().lock(), input, &writer, &runtime, &mut tally)?;
        } else {
            let file = BufReader::new(File::open(input).map_err(failed)?);
            lines(file, input, &writer, &runtime, &mut tally)?;
        }
    }
    let new = count()? - before;
    print(&format!(
        "{} spans read, {new} of them new, from {} requests\n",
        tally.seen, tally.lines
    ))?;
    match tally.refused {
        0 => Ok(()),
        refused => Err(CommandError::Failed(format!("{refused} lines could not be read"))),
    }
}

fn lines(
    mut reader: impl BufRead,
    input: &Path,
    writer: &Arc<SqliteWriter>,
    runtime: &tokio::runtime::Runtime,
    tally: &mut Tally,
) -> CommandResult {
    let failed =
        |error: std::io::Error| CommandError::Failed(format!("{}: {error}", input.display()));
    let mut number = 0_u64;
    loop {
        // Several at once, so that they share a transaction.
        let mut batches = Vec::new();
        let mut is_end = false;
        while batches.len() < AT_ONCE && !is_end {
            let mut line = Vec::new();
            let read =
                reader.by_ref().take(LONGEST).read_until(b'\n', &mut line).map_err(failed)?;
            is_end = read == 0;
            number += 1;
            if line.trim_ascii().is_empty() {
                continue;
            }
            let decoded =
                decode(Format::Json, None, line.trim_ascii(), &MemoryBudget::default().lease())
                    .and_then(SpanBatch::of);
            match decoded {
                Ok(mut batch) => {
                    if let Some(refusal) = batch.refused.first.take() {
                        let (file, count) = (input.display().to_string(), batch.refused.count);
                        let file = printable(&file);
                        log_line(&format!(
                            "{file}:{number}: {count} spans are left out: {refusal}"
                        ));
                        tally.refused += 1;
                    }
                    batches.push(batch);
                }
                Err(refusal) => {
                    let file = input.display().to_string();
                    log_line(&format!("{}:{number}: {refusal}", printable(&file)));
                    tally.refused += 1;
                }
            }
        }
        tally.lines += batches.len() as u64;
        tally.seen += batches.iter().map(|batch| batch.spans.len() as u64).sum::<u64>();
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
        })?;
        if is_end {
            return Ok(());
        }
    }
}
