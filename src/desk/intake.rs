//! From the receiver to the store: a request is answered when its spans, or the feedback in its log records, are in
//! the file. Log records that are no feedback are taken and ignored.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use super::store::batch::SpanBatch;
use super::store::sqlite::SqliteWriter;
use crate::collector::Answer;
use crate::collector::receive::decoded::{DecodedSignal, RefusedItems};
use crate::collector::receive::refusal::{RefusalKind, RequestRefusal};
use crate::collector::receive::{Intake, RequestHead};

/// Time limit for a write. Most senders give up after ten seconds; they get an answer before that.
const WRITE_TIMEOUT: Duration = Duration::from_secs(8);

/// Writes what the receiver has read.
#[derive(Debug)]
pub(super) struct SpanIntake {
    writer: Arc<SqliteWriter>,
}

impl SpanIntake {
    pub(super) fn new(writer: Arc<SqliteWriter>) -> Self {
        Self { writer }
    }
}

impl Intake for SpanIntake {
    async fn receive(
        &self,
        _: RequestHead,
        decoded: Result<DecodedSignal, RequestRefusal>,
    ) -> Result<Answer, RequestRefusal> {
        let mut batch = match decoded? {
            DecodedSignal::Traces(request) => SpanBatch::of(request)?,
            DecodedSignal::Logs(request) => SpanBatch::of_logs(request),
        };
        let answer = match mem::take(&mut batch.refused) {
            RefusedItems { count, first: Some(refusal) } => Answer::PartialSuccess {
                rejected: i64::try_from(count).unwrap_or(i64::MAX),
                message: refusal.reason,
            },
            _ => Answer::Accept,
        };
        if batch.spans.is_empty() {
            return Ok(answer);
        }
        let unavailable = |reason: String| RequestRefusal::new(RefusalKind::Unavailable, reason);
        match tokio::time::timeout(WRITE_TIMEOUT, self.writer.write(batch)).await {
            Ok(Ok(_)) => Ok(answer),
            Ok(Err(refused)) => Err(unavailable(refused.to_string())),
            // It may still be written. Sent again it is the same.
            Err(_) => Err(unavailable("more arrives than can be written".to_owned())),
        }
    }

    fn record_refused(&self, _: RequestHead, _: &RequestRefusal) {}
}
