//! The macros and what they expand to.
//!
//! A literal is taken apart token by token, so that every key in it becomes a static string and its
//! depth is checked by the compiler. Below a key that is an expression, and after the first 32 elements
//! of an array, keys are built at run time.

/// Attaches feedback to a span.
///
/// The feedback is attached to the nearest captured span around the caller, or to the span given by `span`.
/// With `target` it is sent at once as a carrier about that span, which may be of another service and may
/// have ended.
///
/// # Syntax
///
/// ```text
/// enrich_span!([span = &Span,] [target = TARGET,] [id = "…",] NAMESPACE = VALUE, …)
/// ```
///
/// - NAMESPACE is `feedback`, `metrics`, `metadata`, `user_properties`, `inputs`, `outputs` or
///   `config`.
/// - VALUE is a JSON literal as `serde_json::json!` takes it, with Rust expressions inside, or any
///   expression that is `serde::Serialize` and serializes to an object; `null` retracts the whole
///   namespace. [`enrich`](mod@crate::enrich) lists the attribute of each type.
/// - TARGET is an [`opentelemetry::trace::SpanContext`], or with the feature `tickets` a verified
///   `Ticket`, which limits the namespaces and keys.
/// - `id` names a submission, only with `target`: a submission that is sent twice under one id counts once.
///
/// Values are evaluated only if the enrichment has a destination. The macro is a statement; it evaluates to
/// an [`Enrichment`](crate::Enrichment), which may be ignored.
///
/// # Examples
///
/// ```
/// use tracing_feedback::enrich_span;
/// # use tracing_subscriber::prelude::*;
/// # let (layer, _telemetry) = tracing_feedback::builder().build()?;
/// # tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
///
/// let _span = tracing::info_span!("answer").entered();
/// let user_id = "u-17";
/// let outcome = enrich_span!(feedback = {
///     "rating": true,
///     "comment": "The model hallucinated the capital of New York",
///     "user_id": user_id,
///     "ground_truth": "The capital of New York is Albany",
///     "step1": { "retry": true },
///     "edits": [{ "value": "New York" }],
/// });
/// assert!(outcome.is_ok());
/// # });
/// # Ok::<(), tracing_feedback::BuildError>(())
/// ```
#[macro_export]
macro_rules! enrich_span {
    ($($input:tt)*) => {
        $crate::__enrich!(@options span ($crate::enrich::current_span()) $($input)*)
    };
}

/// Attaches feedback to a session, or to the trace where there is no session.
///
/// The feedback is attached to the outermost open span around the caller that belongs to the session,
/// separate from that span's own feedback. With the id of another session, or a `target`, it is sent as a
/// carrier.
///
/// # Syntax
///
/// ```text
/// enrich_session!([session_id = "…",] [target = TARGET,] [id = "…",] NAMESPACE = VALUE, …)
/// ```
///
/// NAMESPACE, VALUE, TARGET and `id` are as in [`enrich_span!`](crate::enrich_span).
///
/// # Examples
///
/// ```
/// use tracing_feedback::enrich_session;
/// # use tracing_subscriber::prelude::*;
/// # let (layer, _telemetry) = tracing_feedback::builder().build()?;
/// # tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
///
/// let _span = tracing::info_span!("answer", session.id = "conversation-42").entered();
/// assert!(enrich_session!(feedback = { "rating": 5 }).is_ok());
/// // Another conversation, known by its id.
/// assert!(enrich_session!(session_id = "conversation-41", feedback = { "rating": 1 }).is_ok());
/// # });
/// # Ok::<(), tracing_feedback::BuildError>(())
/// ```
#[macro_export]
macro_rules! enrich_session {
    ($($input:tt)*) => {
        $crate::__enrich!(@options session ($crate::enrich::session()) $($input)*)
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __enrich {
    // ---- options -------------------------------------------------------------------------------
    (@options span ($request:expr) span = $span:expr, $($rest:tt)*) => {
        $crate::__enrich!(@options span ($request.span($span)) $($rest)*)
    };
    (@options session ($request:expr) session_id = $id:expr, $($rest:tt)*) => {
        $crate::__enrich!(@options session ($request.session_id($id)) $($rest)*)
    };
    (@options $scope:ident ($request:expr) target = $target:expr, $($rest:tt)*) => {
        $crate::__enrich!(@options $scope ($request.target($target)) $($rest)*)
    };
    (@options $scope:ident ($request:expr) id = $id:expr, $($rest:tt)*) => {
        $crate::__enrich!(@options $scope ($request.id($id)) $($rest)*)
    };
    (@options session ($request:expr) span = $($rest:tt)*) => {
        ::core::compile_error!("`enrich_session!` finds its span by itself: leave `span` out")
    };
    (@options span ($request:expr) session_id = $($rest:tt)*) => {
        ::core::compile_error!("`enrich_span!` takes no `session_id`: use `enrich_session!`")
    };
    (@options $scope:ident ($request:expr)) => {
        ::core::compile_error!("nothing to attach: give a namespace, for example `feedback = { … }`")
    };
    (@options $scope:ident ($request:expr) $($documents:tt)+) => {{
        let mut begun = $crate::__private::Begin::begin($request);
        if let ::core::result::Result::Ok(writer) = &mut begun {
            $crate::__enrich!(@documents writer $($documents)+);
        }
        $crate::__private::finish(begun)
    }};

    // ---- NAMESPACE = VALUE, … ------------------------------------------------------------------
    (@documents $w:ident) => {};
    (@documents $w:ident span = $($rest:tt)*) => {
        $crate::__enrich!(@late_option span)
    };
    (@documents $w:ident session_id = $($rest:tt)*) => {
        $crate::__enrich!(@late_option session_id)
    };
    (@documents $w:ident target = $($rest:tt)*) => {
        $crate::__enrich!(@late_option target)
    };
    (@documents $w:ident id = $($rest:tt)*) => {
        $crate::__enrich!(@late_option id)
    };
    (@documents $w:ident $namespace:ident = null $(, $($rest:tt)*)?) => {
        $w.null($crate::__enrich!(@position new [$crate::__enrich!(@namespace $namespace)] (0)));
        $crate::__enrich!(@documents $w $($($rest)*)?);
    };
    (@documents $w:ident $namespace:ident = { $($object:tt)* } $(, $($rest:tt)*)?) => {
        $crate::__enrich!(@object $w [$crate::__enrich!(@namespace $namespace)] (0) $($object)*);
        $crate::__enrich!(@documents $w $($($rest)*)?);
    };
    (@documents $w:ident $namespace:ident = $value:expr $(, $($rest:tt)*)?) => {
        $w.value(
            $crate::__enrich!(@position new [$crate::__enrich!(@namespace $namespace)] (0)),
            &$value,
        );
        $crate::__enrich!(@documents $w $($($rest)*)?);
    };
    (@documents $w:ident $($other:tt)*) => {
        ::core::compile_error!("expected `NAMESPACE = VALUE`, for example `feedback = { … }`")
    };

    (@late_option $option:ident) => {
        ::core::compile_error!(::core::concat!(
            "the option `", ::core::stringify!($option),
            "` stands after a namespace: give options first, then `feedback = { … }`"
        ))
    };

    (@namespace feedback) => { "feedback" };
    (@namespace metrics) => { "metrics" };
    (@namespace metadata) => { "metadata" };
    (@namespace user_properties) => { "user_properties" };
    (@namespace inputs) => { "inputs" };
    (@namespace outputs) => { "outputs" };
    (@namespace config) => { "config" };
    (@namespace $other:ident) => {
        ::core::compile_error!(::core::concat!(
            "unknown namespace `",
            ::core::stringify!($other),
            "`: use feedback, metrics, metadata, user_properties, inputs, outputs or config"
        ))
    };

    // A static key, checked by the compiler.
    (@position $kind:ident [$($path:expr),+] ($arrays:expr)) => {
        &const { $crate::__private::Position::$kind(::core::concat!($($path),+), $arrays) }
    };
    // The same check for `cargo check`, which doesn't evaluate inline constants.
    (@check $kind:ident [$($path:expr),+] ($arrays:expr)) => {
        const _: $crate::__private::Position =
            $crate::__private::Position::$kind(::core::concat!($($path),+), $arrays);
    };

    // ---- the value at a static key -------------------------------------------------------------
    (@value $w:ident [$($path:expr),+] ($arrays:expr) null) => {
        $crate::__enrich!(@check new [$($path),+] ($arrays));
        $w.null($crate::__enrich!(@position new [$($path),+] ($arrays)));
    };
    (@value $w:ident [$($path:expr),+] ($arrays:expr) { $($object:tt)* }) => {
        $crate::__enrich!(@check object [$($path),+] ($arrays));
        $crate::__enrich!(@object $w [$($path),+] ($arrays) $($object)*);
    };
    (@value $w:ident [$($path:expr),+] ($arrays:expr) [ $($array:tt)* ]) => {
        $crate::__enrich!(@check array [$($path),+] ($arrays));
        $w.null($crate::__enrich!(@position array [$($path),+] ($arrays)));
        $crate::__enrich!(@elements $w [$($path),+] ($arrays)
            [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31]
            $($array)*);
    };
    (@value $w:ident [$($path:expr),+] ($arrays:expr) $value:literal) => {
        $crate::__enrich!(@check new [$($path),+] ($arrays));
        $w.literal($crate::__enrich!(@position new [$($path),+] ($arrays)), $value);
    };
    (@value $w:ident [$($path:expr),+] ($arrays:expr) $value:expr) => {
        $crate::__enrich!(@check new [$($path),+] ($arrays));
        $w.value($crate::__enrich!(@position new [$($path),+] ($arrays)), &$value);
    };

    // ---- key: value, … -------------------------------------------------------------------------
    (@object $w:ident [$($path:expr),+] ($arrays:expr)) => {};
    (@object $w:ident [$($path:expr),+] ($arrays:expr)
        $key:literal : $value:tt $(, $($rest:tt)*)?) => {
        $crate::__enrich!(@value $w [$($path,)+ ".", $key] ($arrays) $value);
        $crate::__enrich!(@object $w [$($path),+] ($arrays) $($($rest)*)?);
    };
    (@object $w:ident [$($path:expr),+] ($arrays:expr)
        $key:literal : $value:expr $(, $($rest:tt)*)?) => {
        $crate::__enrich!(@value $w [$($path,)+ ".", $key] ($arrays) $value);
        $crate::__enrich!(@object $w [$($path),+] ($arrays) $($($rest)*)?);
    };
    (@object $w:ident [$($path:expr),+] ($arrays:expr) $($rest:tt)+) => {
        $crate::__enrich!(@key $w [$($path),+] ($arrays) [] $($rest)+);
    };

    // ---- a key that is an expression: tokens up to the colon -----------------------------------
    (@key $w:ident [$($path:expr),+] ($arrays:expr) [$($key:tt)+]
        : $value:tt $(, $($rest:tt)*)?) => {
        $crate::__enrich!(@entry $w [$($path),+] ($arrays) ($($key)+) $value);
        $crate::__enrich!(@object $w [$($path),+] ($arrays) $($($rest)*)?);
    };
    (@key $w:ident [$($path:expr),+] ($arrays:expr) [$($key:tt)+]
        : $value:expr $(, $($rest:tt)*)?) => {
        $crate::__enrich!(@entry $w [$($path),+] ($arrays) ($($key)+) $value);
        $crate::__enrich!(@object $w [$($path),+] ($arrays) $($($rest)*)?);
    };
    (@key $w:ident [$($path:expr),+] ($arrays:expr) [$($key:tt)*] $next:tt $($rest:tt)*) => {
        $crate::__enrich!(@key $w [$($path),+] ($arrays) [$($key)* $next] $($rest)*);
    };
    (@key $w:ident [$($path:expr),+] ($arrays:expr) [$($key:tt)*]) => {
        ::core::compile_error!(::core::concat!(
            "expected `key: value` at `", ::core::stringify!($($key)*), "`"
        ))
    };
    (@entry $w:ident [$($path:expr),+] ($arrays:expr) ($key:expr) $($value:tt)*) => {
        {
            $crate::__enrich!(@check object [$($path),+] ($arrays));
            let open = $w.open_object($crate::__enrich!(@position object [$($path),+] ($arrays)));
            let entered = $w.enter_key(&$key);
            $crate::__enrich!(@here $w $($value)*);
            $w.leave(entered);
            $w.end(open);
        }
    };

    // ---- the elements of an array, with static positions ---------------------------------------
    (@elements $w:ident [$($path:expr),+] ($arrays:expr) [$($at:literal)*]) => {};
    (@elements $w:ident [$($path:expr),+] ($arrays:expr) [$at:literal $($more:literal)*]
        null $(, $($rest:tt)*)?) => {
        $crate::__enrich!(@elements $w [$($path),+] ($arrays) [$($more)*] $($($rest)*)?);
    };
    (@elements $w:ident [$($path:expr),+] ($arrays:expr) [$at:literal $($more:literal)*]
        $value:tt $(, $($rest:tt)*)?) => {
        $crate::__enrich!(@value $w [$($path,)+ ".", $at] ($arrays + 1) $value);
        $crate::__enrich!(@elements $w [$($path),+] ($arrays) [$($more)*] $($($rest)*)?);
    };
    (@elements $w:ident [$($path:expr),+] ($arrays:expr) [$at:literal $($more:literal)*]
        $value:expr $(, $($rest:tt)*)?) => {
        $crate::__enrich!(@value $w [$($path,)+ ".", $at] ($arrays + 1) $value);
        $crate::__enrich!(@elements $w [$($path),+] ($arrays) [$($more)*] $($($rest)*)?);
    };
    // The 33rd and what follows.
    (@elements $w:ident [$($path:expr),+] ($arrays:expr) [] $($rest:tt)+) => {
        {
            $w.resume_array($crate::__enrich!(@position array [$($path),+] ($arrays)));
            let mut index = 32_usize;
            $crate::__enrich!(@list $w index $($rest)+);
            let _ = index;
        }
    };

    // ---- the value at the current key, built at run time ---------------------------------------
    (@here $w:ident null) => {
        $w.null_here();
    };
    (@here $w:ident { $($object:tt)* }) => {
        {
            let open = $w.begin_object();
            $crate::__enrich!(@entries $w [] $($object)*);
            $w.end(open);
        }
    };
    (@here $w:ident [ $($array:tt)* ]) => {
        {
            let open = $w.begin_array();
            let mut index = 0_usize;
            $crate::__enrich!(@list $w index $($array)*);
            let _ = index;
            $w.end(open);
        }
    };
    (@here $w:ident $value:expr) => {
        $w.here(&$value);
    };

    (@list $w:ident $index:ident) => {};
    (@list $w:ident $index:ident $value:tt $(, $($rest:tt)*)?) => {
        $crate::__enrich!(@element $w $index $value);
        $crate::__enrich!(@list $w $index $($($rest)*)?);
    };
    (@list $w:ident $index:ident $value:expr $(, $($rest:tt)*)?) => {
        $crate::__enrich!(@element $w $index $value);
        $crate::__enrich!(@list $w $index $($($rest)*)?);
    };
    (@element $w:ident $index:ident $($value:tt)*) => {
        let entered = $w.enter_index($index);
        $crate::__enrich!(@here $w $($value)*);
        $w.leave(entered);
        $index += 1;
    };

    (@entries $w:ident []) => {};
    (@entries $w:ident [$($key:tt)+] : $value:tt $(, $($rest:tt)*)?) => {
        $crate::__enrich!(@pair $w ($($key)+) $value);
        $crate::__enrich!(@entries $w [] $($($rest)*)?);
    };
    (@entries $w:ident [$($key:tt)+] : $value:expr $(, $($rest:tt)*)?) => {
        $crate::__enrich!(@pair $w ($($key)+) $value);
        $crate::__enrich!(@entries $w [] $($($rest)*)?);
    };
    (@entries $w:ident [$($key:tt)*] $next:tt $($rest:tt)*) => {
        $crate::__enrich!(@entries $w [$($key)* $next] $($rest)*);
    };
    (@entries $w:ident [$($key:tt)+]) => {
        ::core::compile_error!(::core::concat!(
            "expected `key: value` at `", ::core::stringify!($($key)*), "`"
        ))
    };
    (@pair $w:ident ($key:expr) $($value:tt)*) => {
        let entered = $w.enter_key(&$key);
        $crate::__enrich!(@here $w $($value)*);
        $w.leave(entered);
    };
}
