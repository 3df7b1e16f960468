//! The desk's own tables: small, filled by materialized views while the Collector writes, so that charts
//! need not look at every span. The desk never makes them itself: it says what it would run
//! (`feedback-desk clickhouse --ddl`), and reads them where they are.
//!
//! | table | filled |
//! | --- | --- |
//! | `feedback_desk_resources` | with each insert |
//! | `feedback_desk_trace_parts` | with each insert: what its spans add to their traces |
//! | `feedback_desk_said` | with each insert: the documents of its spans |
//! | `feedback_desk_leaves` | every ten seconds: folded documents |

pub(super) const RESOURCES: &str = "feedback_desk_resources";
pub(super) const TRACE_PARTS: &str = "feedback_desk_trace_parts";
pub(super) const SAID: &str = "feedback_desk_said";
pub(super) const LEAVES: &str = "feedback_desk_leaves";

pub(super) const NAMES: [&str; 4] = [RESOURCES, TRACE_PARTS, SAID, LEAVES];
