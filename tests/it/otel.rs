//! Beside the OpenTelemetry API: its active context, its SDK's parts, and `SpanExt`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, SystemTime};

use opentelemetry::baggage::BaggageExt;
use opentelemetry::trace::{
    Link, Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId,
    TraceState, Tracer, TracerProvider,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    IdGenerator, Sampler, SamplingDecision, SamplingResult, SdkTracerProvider, ShouldSample,
};
use tracing::dispatcher::WeakDispatch;
use tracing::field::Empty;
use tracing::span::Attributes;
use tracing::{Dispatch, Subscriber, info, info_span};
use tracing_feedback::collector::Collector;
use tracing_feedback::{
    Builder, EnrichError, SpanError, SpanExt, enrich_session, enrich_span, otel_context,
    propagation,
};
use tracing_subscriber::filter::{EnvFilter, LevelFilter, filter_fn};
use tracing_subscriber::layer::Context as LayerContext;
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry, reload};

use crate::rig::is_alone;
use crate::show::{attributes, events, is_child, one, status, with_timeout};
use crate::{Rig, build};

fn remote() -> SpanContext {
    let state = TraceState::from_key_value([("vendor", "x")]).unwrap();
    SpanContext::new(TraceId::from(0xabc), SpanId::from(0xdef), TraceFlags::SAMPLED, true, state)
}

fn provider(rig: &Rig) -> SdkTracerProvider {
    SdkTracerProvider::builder().with_span_processor(rig.telemetry.span_processor()).build()
}

// ---- the active context ------------------------------------------------------------------------

/// More than OpenTelemetry's stack of contexts holds; it logs through `tracing` that it is full.
const TOO_MANY: usize = 65_540;

#[test]
fn spans_past_the_limit_of_the_context_stack_keep_their_parents() {
    let rig = Rig::new();
    rig.run(|| {
        let outer = info_span!("outer");
        // Entered again and again, since the registry compares each other span with all entered.
        let entered: Vec<_> = (0..TOO_MANY).map(|_| outer.enter()).collect();
        info_span!("deep").in_scope(|| {
            let deepest = info_span!("deepest").entered();
            let mut headers = HashMap::new();
            propagation::inject(&mut headers);
            let context = propagation::extract(&headers).span().span_context().clone();
            assert_eq!(context.span_id(), deepest.span_context().unwrap().span_id());
        });
        drop(entered);
        assert!(!Context::current().has_active_span());
    });
    let [outer, deep, deepest] = ["outer", "deep", "deepest"].map(|name| one(&rig.collector, name));
    assert!(is_child(&deep, &outer) && is_child(&deepest, &deep), "{}", rig.collector.tree());
    let not_attached = (TOO_MANY + 2 - 60_000) as u64;
    assert_eq!(rig.telemetry.stats().refused["context_not_attached"], not_attached);
}

#[test]
fn a_full_context_stack_of_others_costs_no_panic() {
    let rig = Rig::new();
    rig.run(|| {
        let mut guards: Vec<_> = (0..TOO_MANY).map(|_| Context::new().attach()).collect();
        let span = info_span!("span").entered();
        guards.push(Context::new().attach());
        info!("event");
        drop(span);
        while guards.pop().is_some() {}
    });
    let span = one(&rig.collector, "span");
    assert!(span.events.iter().any(|event| event.name == "event"), "{}", events(&span));
}

#[test]
fn the_active_span_is_ours_and_live() {
    let rig = Rig::new();
    let kept = rig.run(|| {
        let _span = info_span!("span", field = 1).entered();
        let context = Context::current();
        let active = context.span();
        assert_eq!(active.span_context(), &tracing::Span::current().span_context().unwrap());
        assert!(active.is_recording());
        active.set_attribute(KeyValue::new("field", 2));
        active.set_attribute(KeyValue::new("feedback.rating", 3));
        active.set_attributes([KeyValue::new("model", "small")]);
        active.add_event("happened", vec![KeyValue::new("n", 1)]);
        active.add_link(remote(), vec![]);
        active.set_status(Status::error("no luck"));
        active.update_name("renamed");
        context
    });
    let span = one(&rig.collector, "renamed");
    assert_eq!(attributes(&span), "feedback.rating=3 field=2 model=\"small\"");
    assert_eq!(events(&span), "happened: n=1\n");
    assert_eq!(status(&span), "error: no luck");
    assert_eq!((span.links[0].span_id, span.links[0].flags), (remote().span_id(), 0x301));
    assert_eq!(span.links[0].trace_state, "vendor=x");
    assert!(!kept.span().is_recording());
    kept.span().set_attribute(KeyValue::new("too", "late"));
    kept.span().end();
    rig.telemetry.flush().unwrap();
    assert_eq!(rig.collector.spans().len(), 1);
}

#[test]
fn an_end_by_the_api_counts() {
    let rig = Rig::new();
    let end = SystemTime::now() + Duration::from_secs(60);
    rig.run(|| {
        let _span = info_span!("span").entered();
        Context::current().span().end_with_timestamp(end);
    });
    let nanos = end.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
    assert_eq!(u128::from(one(&rig.collector, "span").end_time_unix_nano), nanos);
}

#[test]
fn after_an_end_by_the_api_only_feedback_changes() {
    for activation in [true, false] {
        let rig = Rig::with(|builder| builder.with_context_activation(activation));
        rig.run(|| {
            let span = info_span!("span", a = 1, feedback.rating = Empty);
            let _entered = span.enter();
            let context = span.context().unwrap();
            let api = context.span();
            assert!(api.is_recording());
            api.end();
            assert!(!api.is_recording());
            api.set_attribute(KeyValue::new("a", 2));
            api.set_attribute(KeyValue::new("feedback.of.the.api", 2));
            api.add_event("too late", vec![]);
            api.set_status(Status::error("too late"));
            api.update_name("too late");
            api.add_link(remote(), vec![]);
            let end = SystemTime::now() + Duration::from_secs(60);
            api.end_with_timestamp(end);
            tracing::error!("too late");
            span.record("a", 3);
            span.follows_from(&info_span!("other"));
            assert_eq!(span.set_attribute("b", 1), Err(SpanError::Closed));
            assert_eq!(span.set_status(Status::Ok), Err(SpanError::Closed));
            assert_eq!(span.add_event("too late", vec![]), Err(SpanError::Closed));
            assert_eq!(span.add_link(remote()), Err(SpanError::Closed));
            // It is open for what users say, and for children.
            span.record("feedback.rating", 4);
            assert!(enrich_span!(feedback = { "comment": "late" }).is_ok());
            info_span!("child").in_scope(|| ());
        });
        let span = one(&rig.collector, "span");
        assert_eq!(attributes(&span), "a=1 feedback.comment=\"late\" feedback.rating=4");
        assert_eq!((status(&span), events(&span)), ("unset".to_owned(), String::new()));
        assert!(span.links.is_empty());
        let soon = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
        assert!(u128::from(span.end_time_unix_nano) <= soon);
        assert!(is_child(&one(&rig.collector, "child"), &span));
    }
}

#[test]
fn without_activation_the_context_stays_as_it_is() {
    let rig = Rig::with(|builder| builder.with_context_activation(false));
    rig.run(|| {
        let _parent = info_span!("parent").entered();
        assert!(!Context::current().has_active_span());
        let _child = info_span!("child").entered();
        let mut headers = HashMap::new();
        propagation::inject(&mut headers);
        let context = tracing::Span::current().span_context().unwrap();
        assert!(headers["traceparent"].contains(&context.span_id().to_string()));
    });
    assert_eq!(rig.collector.tree(), "parent\n  child\n");
}

#[test]
fn a_suppressed_context_creates_nothing() {
    let rig = Rig::new();
    rig.run(|| {
        let before = info_span!("before");
        let _around = info_span!("around").entered();
        {
            let _suppressed = Context::enter_telemetry_suppressed_scope();
            info!("unheard");
            let unseen = info_span!("unseen").entered();
            info_span!("unseen either").in_scope(|| ());
            assert_eq!(unseen.span_context(), Err(SpanError::SpanDisabled));
            // A span from before doesn't lift it.
            before.in_scope(|| {
                assert!(Context::is_current_telemetry_suppressed());
                info_span!("unseen as well").in_scope(|| ());
            });
        }
        assert!(!Context::is_current_telemetry_suppressed());
        info_span!("after").in_scope(|| ());
    });
    assert_eq!(rig.collector.tree(), "before\naround\n  after\n");
    assert_eq!(events(&one(&rig.collector, "around")), "");
}

// ---- spans made with the API -------------------------------------------------------------------

#[test]
fn spans_of_an_sdk_provider_arrive_in_the_same_trace() {
    let rig = Rig::with(|builder| builder.with_session_propagation(true));
    let provider = provider(&rig);
    let tracer = provider.tracer("library");
    rig.run(|| {
        let _ours = info_span!("ours", session.id = "s").entered();
        let mut theirs = tracer
            .span_builder("theirs")
            .with_kind(SpanKind::Client)
            .with_attributes([KeyValue::new("key", 1), KeyValue::new("key", 2)])
            .with_links(vec![Link::with_context(remote())])
            .start(&tracer);
        theirs.add_event("sent", vec![KeyValue::new("bytes", 3)]);
        theirs.set_status(Status::error("refused"));
        let _theirs = Context::current_with_span(theirs).attach();
        info_span!("ours again").in_scope(|| {
            assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
            tracer.in_span("theirs again", |_| ());
        });
    });
    assert_eq!(
        rig.collector.tree(),
        "ours\n  theirs\n    ours again\n        feedback.rating = 1\n      theirs again\n"
    );
    let theirs = one(&rig.collector, "theirs");
    assert_eq!(attributes(&theirs), "key=2 session.id=\"s\"");
    assert_eq!(events(&theirs), "sent: bytes=3\n");
    assert_eq!((theirs.kind.clone(), status(&theirs)), (SpanKind::Client, "error: refused".into()));
    assert_eq!(theirs.links[0].span_id, remote().span_id());
    assert_eq!(theirs.scope.name, "library");
    assert!(rig.collector.spans().iter().all(|span| span.attributes["session.id"] == "s"));
    provider.shutdown().unwrap();
    rig.run(|| info_span!("the layer goes on").in_scope(|| ()));
    one(&rig.collector, "the layer goes on");
}

#[test]
fn feedback_on_a_span_that_is_only_recorded_arrives_whoever_made_it() {
    #[derive(Clone, Debug)]
    struct RecordOnly;
    impl ShouldSample for RecordOnly {
        fn should_sample(
            &self,
            _: Option<&Context>,
            _: TraceId,
            _: &str,
            _: &SpanKind,
            _: &[KeyValue],
            _: &[Link],
        ) -> SamplingResult {
            let (attributes, trace_state) = (Vec::new(), TraceState::default());
            SamplingResult { decision: SamplingDecision::RecordOnly, attributes, trace_state }
        }
    }
    let rig = Rig::new();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(rig.telemetry.span_processor())
        .with_sampler(RecordOnly)
        .build();
    let tracer = provider.tracer("library");
    rig.run(|| {
        tracer.in_span("silent", |_| ());
        tracer.in_span("rated", |context| {
            context.span().set_attribute(KeyValue::new("feedback.rating", 1));
        });
    });
    let spans = rig.collector.spans();
    assert_eq!(spans.len(), 1);
    let rated = one(&rig.collector, "rated");
    assert_eq!(attributes(&rated), "feedback.rating=1 tracing_feedback.sampled=false");
    assert_eq!(rated.flags & 1, 0);
    assert_eq!(rig.telemetry.stats().unsampled, 1);
}

#[test]
fn a_root_below_which_we_are_keeps_its_sampling_decision() {
    let rig = Rig::new();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(rig.telemetry.span_processor())
        .with_sampler(Sampler::AlwaysOff)
        .build();
    rig.run(|| {
        provider.tracer("library").in_span("unsampled", |_| {
            info_span!("ours").in_scope(|| ());
            info_span!(parent: None, "root").in_scope(|| ());
        });
    });
    assert_eq!(rig.collector.tree(), "root\n");
}

// ---- the SDK's parts ---------------------------------------------------------------------------

/// A sampler that records its arguments, and makes spans and events itself.
#[derive(Clone, Debug, Default)]
struct RecordingSampler(Arc<Mutex<Vec<String>>>);

impl ShouldSample for RecordingSampler {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        info!("asked");
        let _span = info_span!("asked").entered();
        let _ = enrich_span!(feedback = { "asked": true });
        let _ = enrich_session!(feedback = { "asked": true });
        let _ = tracing::Span::current().context();
        propagation::inject(&mut HashMap::new());
        assert_ne!(trace_id, TraceId::INVALID);

        let of = parent.map(|context| context.span().span_context().clone());
        let of = of.filter(SpanContext::is_valid);
        let mut shown: Vec<_> = attributes
            .iter()
            .map(|attribute| format!("{}={}", attribute.key, attribute.value))
            .collect();
        shown.sort();
        self.0.lock().unwrap().push(format!(
            "{name} {kind:?} below {} with {} and {} links",
            of.as_ref()
                .map_or("none".to_owned(), |parent| parent.trace_flags().to_u8().to_string()),
            shown.join(","),
            links.len()
        ));
        let trace_state = of.map_or_else(TraceState::default, |of| of.trace_state().clone());
        SamplingResult {
            decision: match name {
                "drop" => SamplingDecision::Drop,
                "record" => SamplingDecision::RecordOnly,
                _ => SamplingDecision::RecordAndSample,
            },
            attributes: vec![
                KeyValue::new("sampler.ratio", 0.5),
                KeyValue::new("metadata.tenant", "of the sampler"),
            ],
            trace_state: trace_state.insert("sampler", name.replace(' ', "_")).unwrap(),
        }
    }
}

#[test]
fn a_sampler_sees_the_span_and_adds_to_it() {
    let (rig, sampler) = with_timeout(|| {
        let sampler = RecordingSampler::default();
        let rig = Rig::with(|builder| builder.with_sampler(sampler.clone()));
        rig.run(|| {
            let span = info_span!(
                "static",
                a = 1,
                session.id = "s",
                otel.name = Empty,
                b = Empty,
                metadata.tenant = "t"
            );
            span.record("otel.name", "dynamic");
            span.record("b", 2);
            span.add_link(remote()).unwrap();
            let _span = span.entered();
            assert!(enrich_span!(metadata = { "plan": "free" }).is_ok());
            info_span!("child", otel.kind = "client").in_scope(|| ());
            info_span!("drop").in_scope(|| info_span!("below drop").in_scope(|| ()));
            info_span!("record").in_scope(|| ());
        });
        (rig, sampler)
    });
    let recorded = sampler.0.lock().unwrap().clone();
    assert_eq!(
        recorded,
        [
            "dynamic Internal below none with a=1,b=2,metadata.tenant=t,session.id=s and 1 links",
            "child Client below 1 with session.id=s and 0 links",
            "drop Internal below 1 with session.id=s and 0 links",
            "below drop Internal below 0 with session.id=s and 0 links",
            "record Internal below 1 with session.id=s and 0 links",
        ]
    );
    // An attribute that a sampler adds in a namespace belongs to the same document as a field.
    let tenant = "metadata.tenant = \"of the sampler\"";
    assert_eq!(
        rig.collector.tree(),
        format!(
            "dynamic\n    metadata.plan = \"free\"\n    {tenant}\n  child\n      {tenant}\nbelow \
             drop\n    {tenant}\n"
        )
    );
    let span = one(&rig.collector, "dynamic");
    assert_eq!(span.attributes["sampler.ratio"], 0.5);
    assert_eq!(span.trace_state, "sampler=dynamic");
    assert!(span.events.is_empty());
    assert_eq!(one(&rig.collector, "child").trace_state, "sampler=child");
}

#[test]
fn ratio_samplers_decide_by_trace() {
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(0.5)));
    let rig = Rig::with(|builder| builder.with_sampler(sampler));
    rig.run(|| {
        for _ in 0..200 {
            info_span!("root").in_scope(|| info_span!("child").in_scope(|| ()));
        }
    });
    let spans = rig.collector.spans();
    let roots: Vec<_> = spans.iter().filter(|span| span.name == "root").collect();
    assert!((40..160).contains(&roots.len()), "{}", roots.len());
    assert_eq!(spans.len(), 2 * roots.len());
    let is_below_half =
        |id: TraceId| u64::from_be_bytes(id.to_bytes()[8..].try_into().unwrap()) >> 63 == 0;
    assert!(roots.iter().all(|root| is_below_half(root.trace_id)));
    assert_eq!(rig.telemetry.stats().unsampled as usize, 400 - spans.len());
}

/// An id generator that counts.
#[derive(Debug, Default)]
struct Counting(AtomicU64);

impl IdGenerator for Counting {
    fn new_trace_id(&self) -> TraceId {
        let _span = info_span!("counting").entered();
        TraceId::from(0xffff_0000 + u128::from(self.0.fetch_add(1, Ordering::Relaxed)))
    }

    fn new_span_id(&self) -> SpanId {
        SpanId::from(1 + self.0.fetch_add(1, Ordering::Relaxed))
    }
}

#[test]
fn ids_resource_and_scope_of_ones_own() {
    let rig = Rig::with(|builder| {
        builder
            .with_id_generator(Counting::default())
            .with_resource(
                Resource::builder_empty()
                    .with_attributes([
                        KeyValue::new("service.name", "from the resource"),
                        KeyValue::new("region", "eu"),
                    ])
                    .build(),
            )
            .with_service_name("from the name")
            .with_instrumentation_scope(
                InstrumentationScope::builder("mine").with_version("7").build(),
            )
    });
    rig.run(|| info_span!("root").in_scope(|| info_span!("child").in_scope(|| ())));
    let (root, child) = (one(&rig.collector, "root"), one(&rig.collector, "child"));
    assert_eq!((root.span_id, root.trace_id), (SpanId::from(1), TraceId::from(0xffff_0001)));
    assert_eq!((child.span_id, child.trace_id), (SpanId::from(3), root.trace_id));
    assert_eq!(root.resource["service.name"], "from the name");
    assert_eq!(root.resource["region"], "eu");
    assert_eq!(root.resource["telemetry.sdk.language"], "rust");
    assert_eq!((root.scope.name.as_str(), root.scope.version.as_str()), ("mine", "7"));
    assert_eq!(rig.collector.spans().len(), 2);
}

// ---- SpanExt -----------------------------------------------------------------------------------

#[test]
fn every_method_of_the_extension_reaches_the_span() {
    let rig = Rig::new();
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(7);
    let context = rig.run(|| {
        let span = info_span!("span");
        span.set_parent(Context::new().with_remote_span_context(remote())).unwrap();
        span.set_session(&tracing_feedback::Session::with_id("s").unwrap()).unwrap();
        span.set_attribute("a", 1).unwrap();
        span.set_attribute("a", "last").unwrap();
        span.set_attribute("feedback.rating", true).unwrap();
        span.set_attribute("tracing_feedback.scope", "forged").unwrap();
        span.add_link(remote()).unwrap();
        span.add_link_with_attributes(remote(), vec![KeyValue::new("why", "because")]).unwrap();
        span.add_event("now", vec![KeyValue::new("n", 1)]).unwrap();
        span.add_event_with_timestamp("then", then, vec![]).unwrap();
        span.set_status(Status::error("first")).unwrap();
        span.set_status(Status::Unset).unwrap();
        span.set_status(Status::error("second")).unwrap();
        let context = span.context().unwrap();
        assert_eq!(context.span().span_context(), &span.span_context().unwrap());
        let done = info_span!("done");
        done.set_status(Status::Ok).unwrap();
        done.set_status(Status::error("no more")).unwrap();
        span.span_context().unwrap()
    });
    let span = one(&rig.collector, "span");
    assert_eq!((span.trace_id, span.span_id), (context.trace_id(), context.span_id()));
    assert_eq!((span.trace_id, span.parent_span_id), (remote().trace_id(), remote().span_id()));
    assert_eq!(span.trace_state, "vendor=x");
    assert_eq!(attributes(&span), "a=\"last\" feedback.rating=true session.id=\"s\"");
    assert_eq!(span.dropped_attributes_count, 1, "the forged one");
    assert_eq!(events(&span), "now: n=1\nthen: \n");
    assert_eq!(span.events[1].time_unix_nano, 7_000_000_000);
    assert_eq!(span.links.len(), 2);
    assert_eq!(span.links[1].attributes["why"], "because");
    assert_eq!(status(&span), "error: second");
    assert_eq!(status(&one(&rig.collector, "done")), "ok");
}

/// The result of every method on a span.
fn outcomes(span: &tracing::Span) -> Vec<Result<(), SpanError>> {
    vec![
        span.set_parent(Context::new()),
        span.context().map(drop),
        span.span_context().map(drop),
        span.set_session(&tracing_feedback::Session::new()),
        span.add_link(remote()),
        span.add_link_with_attributes(remote(), vec![]),
        span.set_attribute("a", 1),
        span.set_status(Status::Ok),
        span.add_event("e", vec![]),
        span.add_event_with_timestamp("e", SystemTime::now(), vec![]),
    ]
}

#[test]
fn every_method_says_where_it_has_no_effect() {
    if !is_alone(concat!(module_path!(), "::every_method_says_where_it_has_no_effect")) {
        return;
    }
    // No subscriber at all, one without the layer, and one that isn't based on a registry.
    assert_eq!(outcomes(&tracing::Span::none()), vec![Err(SpanError::SpanDisabled); 10]);
    tracing::subscriber::with_default(tracing_subscriber::registry(), || {
        assert_eq!(outcomes(&info_span!("span")), vec![Err(SpanError::NotInstalled); 10]);
    });

    let collector = Collector::start().unwrap();
    let (layer, _telemetry) = build(&collector, |builder| builder);
    let filtered = layer.with_filter(filter_fn(|metadata| metadata.name() != "hidden"));
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::sink);
    let subscriber = tracing_subscriber::registry().with(log).with(filtered);
    tracing::subscriber::with_default(subscriber, || {
        assert_eq!(outcomes(&info_span!("hidden")), vec![Err(SpanError::SpanDisabled); 10]);
        assert_eq!(outcomes(&tracing::Span::none()), vec![Err(SpanError::SpanDisabled); 10]);
        assert_eq!(outcomes(&info_span!("seen")), vec![Ok(()); 10]);
        let span = info_span!("linked");
        assert_eq!(span.add_link(SpanContext::NONE), Err(SpanError::InvalidTarget));
        // A child of a hidden span is below the captured one around.
        let top = info_span!("top").entered();
        let hidden = info_span!("hidden").entered();
        let hidden_outcome = enrich_span!(span = &hidden, feedback = { "rating": 1 });
        assert_eq!(hidden_outcome.into_result(), Err(EnrichError::SpanDisabled));
        let mut headers = HashMap::new();
        propagation::inject(&mut headers);
        let id = top.span_context().unwrap().span_id().to_string();
        assert!(headers["traceparent"].contains(&id));
    });
}

/// The headers of a request with a span and baggage.
fn headers_with_baggage() -> HashMap<String, String> {
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [("traceparent", trace), ("baggage", "tenant=acme")];
    headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Deadline(u32);

#[test]
fn children_have_the_context_of_their_parent_however_they_are_made() {
    for activation in [true, false] {
        let rig = Rig::with(|builder| builder.with_context_activation(activation));
        let seen = rig.run(|| {
            let request = info_span!("request");
            let context = propagation::extract(&headers_with_baggage());
            request.set_parent(context.with_value(Deadline(7))).unwrap();
            let explicit = info_span!(parent: &request, "explicit");
            let deeper = info_span!(parent: explicit.id(), "deeper");
            let below = deeper.in_scope(|| info_span!("below"));
            let beside = request.in_scope(|| info_span!("beside"));
            let there = thread::scope(|threads| {
                let there = || {
                    tracing::dispatcher::with_default(&rig.dispatch, || {
                        below.in_scope(|| info_span!("there"))
                    })
                };
                threads.spawn(there).join().unwrap()
            });
            let seen = [&explicit, &deeper, &below, &beside, &there].map(|span| {
                let context = span.context().unwrap();
                assert_eq!(context.get::<Deadline>(), Some(&Deadline(7)));
                let (mut of_span, mut of_caller) = (HashMap::new(), HashMap::new());
                propagation::inject_span(span, &mut of_span);
                span.in_scope(|| propagation::inject(&mut of_caller));
                assert_eq!(of_span, of_caller);
                of_span
            });
            let root = info_span!(parent: None, "root");
            assert_eq!(root.context().unwrap().get::<Deadline>(), None);
            seen
        });
        for headers in seen {
            assert_eq!(headers.get("baggage").map(String::as_str), Some("tenant=acme"));
        }
        assert_eq!(
            rig.collector.tree(),
            "request\n  explicit\n    deeper\n      below\n        there\n  beside\nroot\n"
        );
    }
}

#[test]
fn a_session_of_the_parents_context_is_the_one_that_is_sent_on() {
    for activation in [true, false] {
        let rig = Rig::with(|builder| {
            builder.with_context_activation(activation).with_session_propagation(true)
        });
        rig.run(|| {
            let request = info_span!("request");
            let headers = HashMap::from([("baggage".to_owned(), "session.id=remote".to_owned())]);
            request.set_parent(propagation::extract(&headers)).unwrap();
            let turn = info_span!(parent: &request, "turn", session.id = "own");
            let answer = info_span!(parent: &turn, "answer");
            let mut headers = HashMap::new();
            answer.in_scope(|| propagation::inject(&mut headers));
            assert_eq!(headers["baggage"], "session.id=own");
            headers.clear();
            let other = info_span!(parent: &request, "other");
            other.in_scope(|| propagation::inject(&mut headers));
            assert_eq!(headers["baggage"], "session.id=remote");
        });
        assert_eq!(one(&rig.collector, "answer").attributes["session.id"], "own");
        assert_eq!(one(&rig.collector, "other").attributes["session.id"], "remote");
    }
}

#[test]
fn a_context_without_a_span_makes_a_root_where_it_is_set() {
    let rig = Rig::new();
    rig.run(|| {
        let _around = info_span!("around").entered();
        let request = info_span!("request");
        let headers = HashMap::from([("baggage".to_owned(), "tenant=acme".to_owned())]);
        request.set_parent(propagation::extract(&headers)).unwrap();
        let mut sent = HashMap::new();
        request.in_scope(|| {
            info_span!("call").in_scope(|| propagation::inject(&mut sent));
        });
        assert_eq!(sent["baggage"], "tenant=acme");
        // Where it is only active, the captured span around is the parent.
        let _attached = propagation::extract(&headers).attach();
        sent.clear();
        propagation::inject(&mut sent);
        let around = tracing::Span::current().span_context().unwrap().span_id().to_string();
        assert!(sent["traceparent"].contains(&around), "{sent:?}");
        assert_eq!(sent["baggage"], "tenant=acme");
        sent.clear();
        info_span!("inside").in_scope(|| propagation::inject(&mut sent));
        assert_eq!(sent["baggage"], "tenant=acme");
    });
    assert_eq!(rig.collector.tree(), "around\n  inside\nrequest\n  call\n");
}

#[test]
fn without_activation_a_span_that_was_entered_may_get_a_parent() {
    let rig = Rig::with(|builder| builder.with_context_activation(false));
    let other = || Context::new().with_remote_span_context(remote());
    rig.run(|| {
        let late = info_span!("late").entered();
        info!("still without a parent");
        late.set_parent(other()).unwrap();
        let span = late.exit();
        span.in_scope(|| span.set_parent(other()).unwrap());
        span.in_scope(|| info_span!("child"));
        assert_eq!(span.set_parent(other()), Err(SpanError::AlreadyStarted));
        info_span!("never asked").in_scope(|| ());
    });
    let late = one(&rig.collector, "late");
    assert_eq!((late.trace_id, late.parent_span_id), (remote().trace_id(), remote().span_id()));
    assert!(is_child(&one(&rig.collector, "child"), &late));
    assert_eq!(one(&rig.collector, "never asked").parent_span_id, SpanId::INVALID);
}

#[test]
fn below_a_no_op_span_the_default_sampler_decides_as_the_same_one_does() {
    type With = fn(Builder) -> Builder;
    let samplers: [With; 4] = [
        |builder| builder,
        |builder| builder.with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn))),
        |builder| {
            let sampler: Box<dyn ShouldSample> =
                Box::new(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)));
            builder.with_sampler(sampler)
        },
        |builder| builder.with_sampler(Sampler::parent_based(Sampler::AlwaysOn)),
    ];
    for (at, with) in samplers.into_iter().enumerate() {
        let rig = Rig::with(with);
        let mut headers = HashMap::new();
        rig.run(|| {
            let no_op = Context::new().with_baggage([KeyValue::new("tenant", "acme")]);
            let no_op = no_op.with_remote_span_context(SpanContext::NONE);
            let attached = no_op.clone().attach();
            info_span!("root").in_scope(|| propagation::inject(&mut headers));
            drop(attached);
            let _around = info_span!("around").entered();
            let _attached = no_op.attach();
            info_span!("inside").in_scope(|| ());
        });
        assert_eq!(rig.collector.tree(), "root\naround\n  inside\n", "{at}");
        assert!(headers["traceparent"].ends_with("-01"));
        assert_eq!(headers["baggage"], "tenant=acme");
    }
    // The sampler of roots is asked, which sees no parent either.
    let rig = Rig::with(|builder| {
        let of_roots = Sampler::ParentBased(Box::new(Sampler::AlwaysOff));
        builder.with_sampler(Sampler::ParentBased(Box::new(of_roots)))
    });
    rig.run(|| {
        let no_op = Context::new().with_remote_span_context(SpanContext::NONE);
        let _attached = no_op.attach();
        info_span!("root").in_scope(|| ());
    });
    assert_eq!(rig.collector.tree(), "");
}

#[test]
fn a_parent_is_fixed_once_the_span_has_started() {
    for activation in [true, false] {
        let rig = Rig::with(|builder| builder.with_context_activation(activation));
        a_parent_is_fixed(rig, activation);
    }
}

fn a_parent_is_fixed(rig: Rig, activation: bool) {
    let other = || Context::new().with_remote_span_context(remote());
    rig.run(|| {
        let entered = info_span!("entered");
        entered.in_scope(|| ());
        if activation {
            assert_eq!(entered.set_parent(other()), Err(SpanError::AlreadyStarted));
        }

        let parent = info_span!("parent");
        let child = info_span!(parent: &parent, "child");
        assert_eq!(parent.set_parent(other()), Err(SpanError::AlreadyStarted));

        let started = info_span!("started");
        started.context().unwrap();
        assert_eq!(started.set_parent(other()), Err(SpanError::AlreadyStarted));

        let moved = info_span!("moved");
        moved.set_parent(Context::new()).unwrap();
        moved.set_parent(other()).unwrap();
        moved.in_scope(|| info_span!("below moved").in_scope(|| ()));
        drop(child);
    });
    assert_eq!(rig.collector.tree(), "entered\nparent\n  child\nstarted\nmoved\n  below moved\n");
    let moved = one(&rig.collector, "moved");
    assert_eq!((moved.trace_id, moved.parent_span_id), (remote().trace_id(), remote().span_id()));
    assert!(is_child(&one(&rig.collector, "below moved"), &moved));
}

#[test]
fn a_parent_that_is_one_of_ours() {
    let rig = Rig::new();
    rig.run(|| {
        let request = info_span!("request", session.id = "s");
        let context = request.context().unwrap();
        // A worker that got only the context.
        let job = info_span!(parent: None, "job");
        job.set_parent(context).unwrap();
        job.in_scope(|| info_span!("step").in_scope(|| ()));
    });
    assert_eq!(rig.collector.tree(), "request\n  job\n    step\n");
    assert!(rig.collector.spans().iter().all(|span| span.attributes["session.id"] == "s"));
}

#[test]
fn trace_state_is_kept_and_passed_on() {
    let rig = Rig::new();
    let headers = HashMap::from([
        (
            "traceparent".to_owned(),
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        ),
        ("tracestate".to_owned(), "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7".to_owned()),
    ]);
    let mut onwards = HashMap::new();
    rig.run(|| {
        let span = info_span!("server");
        span.set_parent(propagation::extract(&headers)).unwrap();
        span.in_scope(|| info_span!("client").in_scope(|| propagation::inject(&mut onwards)));
    });
    assert_eq!(onwards["tracestate"], headers["tracestate"]);
    let client = one(&rig.collector, "client");
    assert_eq!(client.trace_state, headers["tracestate"]);
    assert_eq!(onwards["traceparent"], format!("00-{}-{}-01", client.trace_id, client.span_id));
}

#[test]
fn what_is_injected_is_the_innermost_span_whoever_made_it() {
    let rig = Rig::new();
    let provider = provider(&rig);
    rig.run(|| {
        let _ours = info_span!("ours").entered();
        provider.tracer("library").in_span("theirs", |context| {
            let mut headers = HashMap::new();
            propagation::inject(&mut headers);
            let id = context.span().span_context().span_id().to_string();
            assert!(headers["traceparent"].contains(&id), "{headers:?}");
        });
    });
    assert_eq!(rig.collector.tree(), "ours\n  theirs\n");
}

// ---- a layer of the service's own ----------------------------------------------------------------

/// Records the trace id and span id that `otel_context` returns at every event, entrance and close.
#[derive(Clone, Default)]
struct Correlation {
    dispatch: Arc<OnceLock<WeakDispatch>>,
    seen: Arc<Mutex<Vec<Correlated>>>,
}

/// The callback, and the span context that `otel_context` returned in it.
type Correlated = (String, Option<SpanContext>);

impl Correlation {
    fn note(&self, what: String, id: &tracing::Id) {
        let dispatch = self.dispatch.get().and_then(WeakDispatch::upgrade).unwrap();
        let context = otel_context(id, &dispatch);
        let context = context.map(|context| context.span().span_context().clone());
        self.seen.lock().unwrap().push((what, context));
    }
}

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for Correlation {
    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        let _ = self.dispatch.set(dispatch.downgrade());
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &tracing::Id, _: LayerContext<'_, S>) {
        if attributes.metadata().name() == "asked early" {
            self.note("created".to_owned(), id);
        }
    }

    fn on_event(&self, event: &tracing::Event<'_>, ctx: LayerContext<'_, S>) {
        if let Some(span) = ctx.event_span(event) {
            self.note(format!("event in {}", span.name()), &span.id());
        }
    }
}

#[test]
fn a_layer_of_the_service_gets_the_context_of_any_span() {
    for (activation, is_wrapped) in [(true, false), (false, false), (true, true)] {
        let collector = Collector::start().unwrap();
        let (layer, telemetry) =
            build(&collector, |builder| builder.with_context_activation(activation));
        let filter = filter_fn(|metadata| metadata.name() != "hidden");
        let layer: Box<dyn Layer<Registry> + Send + Sync> = match is_wrapped {
            true => {
                let (reload, _) = reload::Layer::new(Some(layer.with_filter(filter)));
                Box::new(vec![reload.boxed()])
            }
            false => layer.with_filter(filter).boxed(),
        };
        let correlation = Correlation::default();
        let subscriber = tracing_subscriber::registry().with(layer).with(correlation.clone());
        let dispatch = Dispatch::new(subscriber);
        let (span, early) = tracing::dispatcher::with_default(&dispatch, || {
            let span = info_span!("span").entered();
            info!("event");
            info_span!("hidden").in_scope(|| info!("hidden event"));
            let many: Vec<_> = (0..2000).map(|_| info_span!("many")).collect();
            many[1999].in_scope(|| info!("one of many"));
            let early = info_span!("asked early");
            assert_eq!(otel_context(&span.id().unwrap(), &Dispatch::none()).map(|_| ()), None);
            (span.span_context().unwrap(), early.span_context().unwrap())
        });
        let seen = correlation.seen.lock().unwrap().clone();
        let of = |what: &str| seen.iter().find(|(seen, _)| seen == what).unwrap().1.clone();
        assert_eq!(of("event in span"), Some(span.clone()));
        assert_eq!(of("event in hidden"), None);
        assert_eq!(of("event in many").unwrap().trace_id(), span.trace_id());
        assert_eq!(of("created"), Some(early));
        telemetry.flush().unwrap();
        // A closed span has none, and neither has one of a subscriber without the layer.
        let id =
            tracing::dispatcher::with_default(&dispatch, || info_span!("closed").id().unwrap());
        assert!(otel_context(&id, &dispatch).is_none());
        let other = Dispatch::new(tracing_subscriber::registry());
        assert!(otel_context(&id, &other).is_none());
    }
}

// ---- counted events ------------------------------------------------------------------------------

#[test]
fn events_are_counted_also_those_that_a_filter_hides() {
    let collector = Collector::start().unwrap();
    let (layer, telemetry) = build(&collector, |builder| builder);
    let layer = layer.with_counting_event_filter(LevelFilter::WARN);
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(layer));
    tracing::dispatcher::with_default(&dispatch, || {
        // The layer is found under the filter.
        assert_eq!(
            enrich_span!(feedback = { "rating": 1 }).into_result(),
            Err(EnrichError::NoActiveSpan)
        );
        let span = info_span!("span").entered();
        info!("hidden");
        tracing::warn!("shown");
        tracing::debug!(parent: &span, "hidden");
        tracing::trace!(parent: None, "of no span");
        tracing::debug_span!("inner").in_scope(|| info!("of the inner one"));
        info_span!("none").in_scope(|| ());
        let ended = info_span!("ended").entered();
        info!("before");
        Context::current().span().end();
        drop(ended);
        assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
    });
    telemetry.flush().unwrap();
    let span = one(&collector, "span");
    assert_eq!(attributes(&span), "feedback.rating=1 otel.tracing_event_count=3");
    assert_eq!(span.events.len(), 1);
    assert_eq!(span.events[0].name, "shown");
    let inner = one(&collector, "inner");
    assert_eq!((attributes(&inner), inner.events.len()), ("otel.tracing_event_count=1".into(), 0));
    assert_eq!(attributes(&one(&collector, "none")), "otel.tracing_event_count=0");
    assert_eq!(attributes(&one(&collector, "ended")), "");
}

/// The filter of the service looks at the spans around an event.
#[test]
fn a_counting_filter_may_be_one_that_looks_at_spans() {
    let collector = Collector::start().unwrap();
    let (layer, telemetry) = build(&collector, |builder| builder);
    let filter = EnvFilter::new("off,[{loud=true}]=info");
    let layer = layer.with_counting_event_filter(filter);
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(layer));
    tracing::dispatcher::with_default(&dispatch, || {
        info_span!("quiet").in_scope(|| info!("hidden"));
        info_span!("loud", loud = true).in_scope(|| info!("shown"));
    });
    telemetry.flush().unwrap();
    let (quiet, loud) = (one(&collector, "quiet"), one(&collector, "loud"));
    assert_eq!((quiet.events.len(), loud.events.len()), (0, 1));
    for span in [quiet, loud] {
        assert_eq!(span.attributes["otel.tracing_event_count"], 1);
    }
}
