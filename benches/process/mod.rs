//! Child processes of a benchmark: the same program in another role.

mod helper;
mod receiver;

pub(crate) use helper::Helper;
pub(crate) use receiver::serve;
