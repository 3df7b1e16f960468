//! The signals that ask a process to stop.

use std::future::{Future, poll_fn};
use std::io;
use std::task::{Context, Poll};

/// Waits for a signal that asks the process to stop: SIGTERM, which orchestrators and service managers
/// send, or SIGINT, which is Ctrl-C. On Windows these are Ctrl-C, Ctrl-Break, the closing of the console,
/// and the shutdown of the system.
///
/// The call installs the handlers, before the future is awaited: call it before the service starts, so
/// that no signal is missed. Give the future to the server for its graceful shutdown, and shut telemetry
/// down after that:
///
/// ```no_run
/// # #[cfg(feature = "axum")] {
/// use std::time::Duration;
///
/// #[tokio::main]
/// async fn serve(service: axum::Router) -> std::io::Result<()> {
///     let stop = tracing_feedback::shutdown_signal()?;
///     let listener = tokio::net::TcpListener::bind("0.0.0.0:3000").await?;
///     axum::serve(listener, service).with_graceful_shutdown(stop).await
/// }
///
/// let telemetry = tracing_feedback::init()?;
/// serve(axum::Router::new())?; // returns once the requests in flight have been answered
/// telemetry.shutdown_within(Duration::from_secs(10))?; // well before the orchestrator kills the process
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # A second signal
///
/// A second signal does nothing by itself: after the first call of this function these signals no longer
/// end the process. To let a second signal cut a slow shutdown short, call the function again after the
/// first signal, as `examples/graceful_stop.rs` does. Several futures may wait: a signal resolves them all.
///
/// # Errors
///
/// The handlers could not be installed, or there is no Tokio runtime around the call.
///
/// # Panics
///
/// In a Tokio runtime that was built without `enable_io` or `enable_all`.
///
/// ```
/// # #[cfg(unix)] {
/// # fn send(signal: &str) -> std::io::Result<std::process::ExitStatus> {
/// #     let kill = format!("kill -{signal} {}", std::process::id());
/// #     std::process::Command::new("sh").args(["-c", &kill]).status()
/// # }
/// use tracing_feedback::shutdown_signal;
///
/// assert!(shutdown_signal().is_err()); // no runtime
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// // Within one:
/// let stop = shutdown_signal()?;
/// assert!(send("TERM")?.success());
/// stop.await; // the process goes on
/// # std::io::Result::Ok(())
/// # })?;
/// # }
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn shutdown_signal() -> io::Result<impl Future<Output = ()> + Send + Unpin + 'static> {
    // Without a runtime Tokio would panic.
    if tokio::runtime::Handle::try_current().is_err() {
        return Err(io::Error::other(
            "no Tokio runtime around `shutdown_signal`: call it in asynchronous code",
        ));
    }
    let mut signals = signals::listen()?;
    Ok(poll_fn(move |context| {
        let is_received = signals.iter_mut().any(|signal| signal(context).is_ready());
        if is_received { Poll::Ready(()) } else { Poll::Pending }
    }))
}

/// Polls for a signal, and wakes the task when it arrives.
type Signal = Box<dyn FnMut(&mut Context<'_>) -> Poll<Option<()>> + Send>;

#[cfg(unix)]
mod signals {
    use std::io;

    use tokio::signal::unix::{SignalKind, signal};

    use super::Signal;

    pub(super) fn listen() -> io::Result<[Signal; 2]> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        Ok([
            Box::new(move |context| terminate.poll_recv(context)),
            Box::new(move |context| interrupt.poll_recv(context)),
        ])
    }
}

#[cfg(windows)]
mod signals {
    use std::io;

    use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown};

    use super::Signal;

    pub(super) fn listen() -> io::Result<[Signal; 4]> {
        let (mut interrupt, mut terminate) = (ctrl_c()?, ctrl_break()?);
        let (mut close, mut shutdown) = (ctrl_close()?, ctrl_shutdown()?);
        Ok([
            Box::new(move |context| interrupt.poll_recv(context)),
            Box::new(move |context| terminate.poll_recv(context)),
            Box::new(move |context| close.poll_recv(context)),
            Box::new(move |context| shutdown.poll_recv(context)),
        ])
    }
}
