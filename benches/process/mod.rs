//! Processes that a benchmark starts beside itself: itself, once more, in another role.

mod helper;
mod receiver;

pub(crate) use helper::Helper;
pub(crate) use receiver::serve;
