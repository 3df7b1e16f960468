//! Resolves host names on threads of its own.
//!
//! The connectors of `hyper` resolve names on the blocking pool of their runtime. That pool panics where
//! the system has no thread to give, which ends the channel of gRPC, and the end of the runtime waits for
//! it. Here a thread that can't be started is an ordinary failure, and nothing waits for a thread that the
//! resolver of the system keeps for a minute.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::thread;

use tokio::sync::watch;

use crate::suppress;
use crate::sync::lock;

/// How many names are resolved at a time. There are two of one transport: that of the collector and that
/// of a proxy.
const MOST_LOOKUPS: usize = 4;

/// The addresses of a name, or why there are none. An `io::Error` can't be cloned.
type Found = Result<Vec<SocketAddr>, (io::ErrorKind, String)>;

/// Resolves names by `lookup`, each by one thread at a time.
#[derive(Clone)]
pub(crate) struct Resolver {
    lookup: fn(&str) -> io::Result<Vec<SocketAddr>>,
    /// The lookups that are under way, by name.
    lookups: Lookups,
}

type Lookups = Arc<Mutex<Vec<(String, watch::Receiver<Option<Found>>)>>>;

impl Default for Resolver {
    /// Asks the resolver of the system.
    fn default() -> Self {
        Self { lookup: |name| Ok((name, 0).to_socket_addrs()?.collect()), lookups: Arc::default() }
    }
}

impl Resolver {
    /// The addresses of a name, with port 0.
    ///
    /// # Errors
    ///
    /// The name has no address, or no thread could be started to look it up.
    async fn resolve(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        let mut found = self.started(name)?;
        let found = found.wait_for(Option::is_some).await.map(|found| found.clone());
        match found {
            Ok(Some(Ok(addresses))) => Ok(addresses),
            Ok(Some(Err((kind, message)))) => Err(io::Error::new(kind, message)),
            Ok(None) | Err(_) => Err(io::Error::other("the lookup has ended without a result")),
        }
    }

    /// The lookup of a name that is under way, or a new one.
    fn started(&self, name: &str) -> io::Result<watch::Receiver<Option<Found>>> {
        let mut lookups = lock(&self.lookups);
        if let Some((_, found)) = lookups.iter().find(|(other, _)| other == name) {
            return Ok(found.clone());
        }
        if lookups.len() >= MOST_LOOKUPS {
            return Err(io::Error::other("too many names are being resolved"));
        }
        let (sender, found) = watch::channel(None);
        let name = name.to_owned();
        let end = LookupEnd { lookups: self.lookups.clone(), name: name.clone() };
        let lookup = self.lookup;
        let work = move || {
            let sender = sender;
            let end = end; // dropped before the sender, also in a panic
            suppress::mark_this_thread();
            let result = lookup(&end.name).map_err(|error| (error.kind(), error.to_string()));
            drop(end);
            let _ = sender.send(Some(result)); // the callers may have given up
        };
        lookups.push((name, found.clone()));
        drop(lookups); // the work is dropped if no thread can be started, and `end` with it
        thread::Builder::new().name("tracing-feedback-dns".to_owned()).spawn(work).map_err(
            |error| {
                let message = format!("no thread could be started to resolve the name: {error}");
                io::Error::new(error.kind(), message)
            },
        )?;
        Ok(found)
    }
}

/// Removes a lookup when it is dropped.
struct LookupEnd {
    lookups: Lookups,
    name: String,
}

impl Drop for LookupEnd {
    fn drop(&mut self) {
        lock(&self.lookups).retain(|(name, _)| *name != self.name);
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

#[cfg(feature = "grpc")]
mod for_hyper {
    use std::future::Future;
    use std::io;
    use std::net::SocketAddr;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use hyper_util::client::legacy::connect::dns::Name;
    use tower_service::Service;

    use super::Resolver;

    impl Service<Name> for Resolver {
        type Response = std::vec::IntoIter<SocketAddr>;
        type Error = io::Error;
        type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, name: Name) -> Self::Future {
            let resolver = self.clone();
            Box::pin(async move { Ok(resolver.resolve(name.as_str()).await?.into_iter()) })
        }
    }
}

#[cfg(feature = "_http-client")]
impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let addresses = Self::resolve(&resolver, name.as_str()).await?;
            Ok(Box::new(addresses.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
    }

    #[test]
    fn the_system_is_asked() {
        let addresses = runtime().block_on(Resolver::default().resolve("localhost")).unwrap();
        assert!(addresses.iter().all(|address| address.ip().is_loopback()), "{addresses:?}");
        assert!(!addresses.is_empty());
    }

    #[test]
    fn one_thread_resolves_a_name_however_often_it_is_asked_for() {
        static LOOKUPS: AtomicUsize = AtomicUsize::new(0);
        static RELEASED: (Mutex<bool>, std::sync::Condvar) =
            (Mutex::new(false), std::sync::Condvar::new());
        let lookup = |_: &str| {
            LOOKUPS.fetch_add(1, Ordering::SeqCst);
            drop(RELEASED.1.wait_while(lock(&RELEASED.0), |released| !*released));
            Ok(vec![SocketAddr::from(([127, 0, 0, 1], 0))])
        };
        let resolver = Resolver { lookup, ..Resolver::default() };
        runtime().block_on(async {
            let given_up = Duration::from_millis(10);
            for _ in 0..3 {
                tokio::time::timeout(given_up, resolver.resolve("slow")).await.unwrap_err();
            }
            *lock(&RELEASED.0) = true;
            RELEASED.1.notify_all();
            assert_eq!(resolver.resolve("slow").await.unwrap().len(), 1);
        });
        // The first lookup may have ended before the last call, which then needs another one.
        assert!(LOOKUPS.load(Ordering::SeqCst) <= 2);
        assert!(lock(&resolver.lookups).is_empty());
    }

    #[test]
    fn a_lookup_that_panics_is_an_error() {
        let lookup = |_: &str| panic!("a resolver of the system");
        let resolver = Resolver { lookup, ..Resolver::default() };
        runtime().block_on(resolver.resolve("name")).unwrap_err();
        assert!(lock(&resolver.lookups).is_empty());
    }
}
