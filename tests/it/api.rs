//! What the types of the API promise: checked by the compiler, so a broken promise fails the build.

use std::panic::catch_unwind;
use std::time::Duration;

use tracing_feedback::web::{FeedbackRoutes, feedback_routes};
use tracing_feedback::{BuildError, FeedbackLayer, Session, Telemetry};

/// Compiles only if the type doesn't implement the trait: if it does, two implementations of `Check` fit.
macro_rules! assert_not_impl {
    ($type:ty: $($absent:tt)+) => {{
        trait Check<Fits> {
            fn check() {}
        }
        impl<T: ?Sized> Check<()> for T {}
        struct Implemented;
        impl<T: ?Sized + $($absent)+> Check<Implemented> for T {}
        <$type as Check<_>>::check();
    }};
}

#[test]
fn errors_of_others_do_not_turn_into_ours_by_a_question_mark() {
    assert_not_impl!(BuildError: From<std::io::Error>);
}

#[test]
fn a_session_is_never_begun_by_default() {
    // `#[derive(Default)]` on a service's own type would begin one unasked.
    assert_not_impl!(Session: Default);
    assert_ne!(Session::new(), Session::new());
}

/// Handles are kept in statics and in the state of servers, errors go through threads and `anyhow`.
#[test]
fn every_type_may_go_to_another_thread_and_be_shared() {
    fn shared<T: Send + Sync + 'static>() {}
    fn error<T: std::error::Error + Send + Sync + 'static>() {}

    {
        use tracing_feedback::*;
        shared::<Builder>();
        shared::<Convention>();
        shared::<DropReason>();
        shared::<Enrichment>();
        shared::<FeedbackLayer>();
        shared::<FeedbackSpanProcessor>();
        shared::<Keep>();
        shared::<KeepLimits>();
        shared::<LateTraces>();
        shared::<Session>();
        shared::<SpanLoss>();
        shared::<Stats>();
        shared::<Telemetry>();
        shared::<fold::Document<String>>();
        shared::<fold::Submission<String>>();
        error::<BuildError>();
        error::<ConfigError>();
        error::<EnrichError>();
        error::<FlushError>();
        error::<PersistError>();
        error::<SessionIdError>();
        error::<SpanError>();
        error::<traceparent::TraceparentError>();
        // By feature:
        shared::<Compression>();
        shared::<OutboxOptions>();
        shared::<OutboxPolicy>();
        shared::<Protocol>();
        shared::<Ticket>();
        shared::<TicketKeys>();
        shared::<TicketOptions>();
        shared::<TicketVerifier>();
        error::<OutboxPolicyError>();
        error::<TicketError>();
        error::<TicketKeyError>();
    }
    {
        use tracing_feedback::collector::*;
        shared::<Answer>();
        shared::<Collector>();
        shared::<Outcome>();
        shared::<Protocol>();
        shared::<ReceivedEvent>();
        shared::<ReceivedLink>();
        shared::<ReceivedRequest>();
        shared::<ReceivedSpan>();
        shared::<Role>();
        shared::<Scope>();
        shared::<Target>();
        shared::<Value>();
        error::<WaitError>();
    }
    {
        use tracing_feedback::desk::*;
        shared::<Desk>();
        shared::<Options>();
        error::<StartError>();
    }
    {
        use tracing_feedback::web::*;
        shared::<FeedbackHttpLayer>();
        shared::<FeedbackHttpService<()>>();
        shared::<FeedbackRoutes>();
        shared::<Problem>();
    }
}

#[test]
fn what_is_awaited_may_be_awaited_on_any_thread() {
    fn sent<F: Future + Send + 'static>(_: impl FnOnce() -> F) {}

    sent(|| tracing_feedback::enrich::persist_async(std::time::Duration::ZERO));
    let (_layer, telemetry) = tracing_feedback::builder().build().unwrap();
    sent(|| telemetry.flush_async());
    sent(|| telemetry.shutdown_async());
}

#[test]
fn routes_panic_at_their_start_where_axum_can_not_route_the_path() {
    let routes = |path: &str| {
        let path = path.to_owned();
        catch_unwind(|| drop(feedback_routes::<()>(FeedbackRoutes::new().with_path(path))))
    };
    for path in ["", "/", "votes", "/votes/", "/{tenant}/votes", "//"] {
        assert!(routes(path).is_ok(), "{path}");
    }
    for path in ["/:tenant/votes", "/*votes", "/{tenant", "/votes/{id}", "/votes/{*rest}"] {
        assert!(routes(path).is_err(), "{path}");
    }
}

/// Each of these values does nothing by itself, so the compiler warns where it is dropped. Where it doesn't, the
/// expectation is not fulfilled, which is an error in the gate.
#[expect(dead_code, reason = "only compiled")]
fn dropped_values(telemetry: &Telemetry, layer: fn() -> FeedbackLayer) {
    #[expect(unused_must_use)]
    {
        tracing_feedback::builder().with_service_name("chat");
    }
    #[expect(unused_must_use)]
    {
        layer();
    }
    #[expect(unused_must_use)]
    {
        tracing_feedback::init().unwrap();
    }
    #[expect(unused_must_use)]
    {
        telemetry.stats();
    }
    #[expect(unused_must_use)]
    {
        telemetry.span_processor();
    }
    #[expect(unused_must_use)]
    {
        telemetry.ticket_keys();
    }
    #[expect(unused_must_use)]
    {
        telemetry.ticket_verifier();
    }
    #[expect(unused_must_use)]
    {
        telemetry.flush_async();
    }
    #[expect(unused_must_use)]
    {
        tracing_feedback::enrich::persist_async(Duration::ZERO);
    }
    #[expect(unused_must_use)]
    {
        tracing_feedback::enrich::current_span();
    }
    #[expect(unused_must_use)]
    {
        tracing_feedback::enrich::session().feedback(&true);
    }
    #[expect(unused_must_use)]
    {
        tracing_feedback::Session::new();
    }
    #[expect(unused_must_use)]
    {
        tracing_feedback::TicketKeys::default();
    }
    #[expect(unused_must_use)]
    {
        tracing_feedback::TicketOptions::new();
    }
    #[expect(unused_must_use)]
    {
        tracing_feedback::KeepLimits::default();
    }
    #[expect(unused_must_use)]
    {
        tracing_feedback::OutboxOptions::new("outbox");
    }
    #[expect(unused_must_use)]
    {
        tracing_feedback::web::FeedbackHttpLayer::new();
    }
    #[expect(unused_must_use)]
    {
        tracing_feedback::web::FeedbackRoutes::new();
    }
    #[expect(unused_must_use)]
    {
        tracing_feedback::collector::Collector::start().unwrap();
    }
    #[expect(unused_must_use)]
    {
        tracing_feedback::desk::Options::new("desk.sqlite").with_any_ports();
    }
}

/// The compiler's message for each mistake a user can make, in a package of few dependencies: the compiler
/// would otherwise check all those of the tests once more.
#[test]
fn mistakes_are_named_by_the_compiler() {
    let target = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("library");
    let tests = std::process::Command::new(env!("CARGO"))
        .args(["test", "--quiet", "--locked", "--manifest-path", "tests/library/Cargo.toml"])
        .env("CARGO_TARGET_DIR", target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&tests.stdout), String::from_utf8_lossy(&tests.stderr));
    assert!(tests.status.success(), "{out}{err}");
}
