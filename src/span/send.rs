//! Sending a carrier: to the outbox if that is written ahead, and to the pipeline.

use opentelemetry::Value;

use super::{LayerCore, RandomIds};
use crate::export::{DropReason, NotDurable};
use crate::feedback::carrier::Carrier;
use crate::feedback::document::Document;
use crate::outbox::Finalizers;

/// The outcome of a document that was merged or sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Applied {
    /// How many leaves the limit of attributes left out.
    pub(crate) left_out: usize,
    /// Whether the outbox has it. `true` if the outbox isn't written ahead.
    pub(crate) is_durable: bool,
}

impl Carrier {
    /// Hands the carrier to the pipeline.
    ///
    /// # Errors
    ///
    /// The carrier was dropped, for this reason.
    pub(crate) fn send(mut self, core: &LayerCore) -> Result<Applied, DropReason> {
        let finalizers = std::mem::take(&mut self.finalizers);
        let target = self.target.as_ref().map(|target| target.trace_id());
        let (mut record, _) = self.into_record(&core.settings, core, core.most_attributes());
        let left_out = record.details.dropped_attributes as usize;
        let mut is_durable = true;
        record.details.finalizers = match finalizers.is_empty() {
            true => core.write_ahead(&record, true).unwrap_or_else(|_| {
                is_durable = false;
                finalizers
            }),
            false => finalizers,
        };
        let processors = core.processors();
        let data = processors.map(|processors| processors.data(&record));
        let pushed = core.push(&mut record);
        if let (Some(processors), Some(data)) = (processors, data) {
            processors.on_end(core, data);
        }
        pushed?;
        if let Some(target) = target {
            core.keep(target);
        }
        Ok(Applied { left_out, is_durable })
    }

    /// Writes the carrier to the outbox, for a document that is sent with its span, and returns the
    /// document. Calls no foreign code: the ids are random.
    pub(super) fn write_ahead(
        self,
        core: &LayerCore,
    ) -> (Document<Value>, Result<Finalizers, NotDurable>) {
        // The document isn't cut here: the limit is applied on its span.
        let (mut record, cleared) = self.into_record(&core.settings, &RandomIds, usize::MAX);
        let finalizers = core.write_ahead(&record, false);
        let leaves = std::mem::take(&mut record.details.enrichments.leaves);
        (Document::from_parts(leaves, cleared), finalizers)
    }
}
