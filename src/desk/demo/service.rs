//! One version of a service: the layer, and a tracer of the OpenTelemetry API on the same pipeline.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, SpanLimits};
use tracing::Dispatch;
use tracing_subscriber::prelude::*;

use super::DemoError;
use super::random::DemoIds;
use crate::{FlushError, Telemetry};

pub(super) struct Service {
    pub(super) dispatch: Dispatch,
    pub(super) tracer: SdkTracer,
    telemetry: Telemetry,
    /// A tracer makes spans as long as its provider is there.
    _provider: SdkTracerProvider,
}

impl Service {
    /// Sends to `endpoint`, regardless of the environment.
    pub(super) fn start(
        (name, version): (&'static str, &'static str),
        endpoint: &str,
        token: Option<&str>,
        ids: &DemoIds,
    ) -> Result<Self, DemoError> {
        let resource = Resource::builder_empty().with_attributes([
            KeyValue::new("service.version", version),
            KeyValue::new("deployment.environment.name", "demo"),
            KeyValue::new("demo", true),
        ]);
        let mut builder = crate::builder()
            .with_service_name(name)
            .with_resource(resource.build())
            .with_endpoint(endpoint)
            .with_sampler(Sampler::AlwaysOn)
            .with_id_generator(ids.clone())
            .with_location(false)
            .with_threads(false)
            .with_schedule_delay(Duration::from_millis(200));
        if let Some(token) = token {
            builder = builder.with_header("authorization", format!("Bearer {token}"));
        }
        let (layer, telemetry) = builder.build_without_env()?;
        let provider = SdkTracerProvider::builder()
            .with_span_processor(telemetry.span_processor())
            .with_sampler(Sampler::AlwaysOn)
            .with_span_limits(SpanLimits::default())
            .with_id_generator(ids.clone())
            .build();
        let dispatch = Dispatch::new(tracing_subscriber::registry().with(layer));
        Ok(Self { dispatch, tracer: provider.tracer("demo"), telemetry, _provider: provider })
    }

    pub(super) fn flush(&self) -> Result<(), FlushError> {
        self.telemetry.flush()
    }

    pub(super) fn sent(&self) -> u64 {
        self.telemetry.stats().exported
    }
}
