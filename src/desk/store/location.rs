//! Where a store is.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::Store;
use super::clickhouse::{Address, ClickHouse};
use super::sqlite::Sqlite;

/// What stands before the address of a ClickHouse.
const CLICKHOUSE: &str = "clickhouse=";

/// Where a store is: a file, or `clickhouse=` and an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    File(PathBuf),
    ClickHouse(Address),
}

impl Location {
    /// As it stands on a command line. The password may be in `CLICKHOUSE_PASSWORD`.
    ///
    /// # Errors
    ///
    /// The address is invalid; the text says why.
    pub(crate) fn read(text: OsString) -> Result<Self, String> {
        let Some(address) = text.to_str().and_then(|text| text.strip_prefix(CLICKHOUSE)) else {
            return Ok(Self::File(text.into()));
        };
        let password = std::env::var("CLICKHOUSE_PASSWORD").ok();
        let address: Address = address.parse()?;
        Ok(Self::ClickHouse(address.or_password(password.filter(|password| !password.is_empty()))))
    }

    /// The file, if it is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::ClickHouse(_) => None,
        }
    }

    /// A store that is there already, to be read. A query that takes longer than `limit` ends with an error.
    ///
    /// # Errors
    ///
    /// The store is missing, or is not a desk's; the text says what to do.
    pub(crate) fn open(&self, limit: Duration) -> Result<Arc<dyn Store>, String> {
        match self {
            Self::File(path) if !path.exists() => {
                Err(format!("there is no {self}: say which file with --store"))
            }
            Self::File(path) => match Sqlite::existing(path, limit) {
                Ok(store) => Ok(Arc::new(store)),
                Err(error) => Err(format!("{self}: {error}")),
            },
            Self::ClickHouse(address) => match ClickHouse::open(address.clone(), limit) {
                Ok(store) => Ok(Arc::new(store)),
                Err(error) => Err(error.to_string()),
            },
        }
    }
}

impl From<PathBuf> for Location {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

/// Without a password.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => fmt::Display::fmt(&path.display(), f),
            Self::ClickHouse(address) => fmt::Display::fmt(address, f),
        }
    }
}
