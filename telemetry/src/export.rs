//! From spans to a collector, over OTLP.

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter as _};
use parking_lot::Mutex;
use tokio::runtime::{Handle, Runtime};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use crate::TARGET;
use crate::trace::Ids;

/// How long a stop waits for the collector to take the last spans.
const STOP_TIME_MAX: Duration = Duration::from_secs(3);

const SERVICE_NAME: &str = "service.name";
const SERVICE_VERSION: &str = "service.version";
const INSTANCE_ID: &str = "service.instance.id";

/// What the environment asks for, where it asks for a collector.
///
/// The rest is read by the libraries from the same environment: addresses, headers, time limits, the sampler, the bounds of
/// the queue.
#[derive(Debug)]
pub struct Settings {
    service_name: Option<String>,
    /// The authorities that certify the collector, instead of those of the system.
    authorities: Option<PathBuf>,
}

/// The environment asks for something that there is not.
#[derive(Debug, thiserror::Error)]
#[error("{variable}={value:?}: {advice}")]
pub struct SettingsError {
    variable: &'static str,
    value: String,
    advice: &'static str,
}

/// The way to the collector cannot be set up. That it does not answer is no reason.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The environment does not say where it is, or what to tell it, in a way that can be understood.
    #[error("the settings of OpenTelemetry cannot be used: {0}")]
    Exporter(#[from] ExporterBuildError),
    /// The authorities cannot be read.
    #[error("OTEL_EXPORTER_OTLP_CERTIFICATE: cannot read {path}: {source}", path = path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The system has no thread for it.
    #[error("no thread to send spans: {0}")]
    Runtime(io::Error),
}

impl Settings {
    /// What the environment asks for; none without an endpoint, or where it turns traces off. A variable that is empty counts as
    /// not set.
    ///
    /// # Errors
    /// [`SettingsError`] for another protocol, exporter or sampler than there is, and for an endpoint, headers, a time-out or a
    /// ratio that cannot be understood: the library would go on without a word, and without spans.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, SettingsError> {
        let read = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let either = |traces: &'static str, all: &'static str| {
            read(traces).map(|value| (traces, value)).or_else(|| read(all).map(|value| (all, value)))
        };
        let endpoint = either("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT");
        let is_off = read("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        if endpoint.is_none() || is_off {
            return Ok(None);
        }
        match read("OTEL_TRACES_EXPORTER").as_deref() {
            None | Some("otlp") => {}
            Some("none") => return Ok(None),
            Some(other) => {
                return Err(SettingsError {
                    variable: "OTEL_TRACES_EXPORTER",
                    value: other.to_owned(),
                    advice: "spans are exported with otlp, or with none",
                });
            }
        }
        let protocol = either("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL");
        if let Some((variable, value)) = protocol.filter(|(_, value)| value != "grpc") {
            let advice = "spans are exported with grpc; collectors listen for it on port 4317";
            return Err(SettingsError { variable, value, advice });
        }
        check(endpoint, "a collector is at http://HOST:PORT or https://HOST:PORT", is_endpoint)?;
        let headers = either("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS");
        check(headers, "headers are NAME=VALUE, with commas between them", are_headers)?;
        let timeout = either("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT");
        let is_time = |text: &str| text.trim().parse().is_ok_and(|millis| (1..=MILLIS_MAX).contains(&millis));
        check(timeout, "a time is a number of milliseconds, from 1 to 3600000", is_time)?;
        let said = |name: &'static str| read(name).map(|value| (name, value));
        check(
            said("OTEL_BSP_SCHEDULE_DELAY"),
            "a time is a number of milliseconds, from 1 to 3600000",
            is_time,
        )?;
        let is_count = |text: &str| text.trim().parse().is_ok_and(|spans| (1..=SPANS_MAX).contains(&spans));
        for name in ["OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"] {
            check(said(name), "a number of spans is from 1 to 1000000", is_count)?;
        }
        let sampler = said("OTEL_TRACES_SAMPLER");
        let takes_ratio = sampler.as_ref().is_some_and(|(_, name)| name.trim().ends_with("traceidratio"));
        check(sampler, SAMPLERS_ADVICE, |name| SAMPLERS.contains(&name.trim()))?;
        if takes_ratio {
            let is_ratio =
                |text: &str| text.trim().parse().is_ok_and(|ratio: f64| (0.0..=1.0).contains(&ratio));
            check(said("OTEL_TRACES_SAMPLER_ARG"), "the ratio is a number from 0 to 1", is_ratio)?;
        }
        let authorities = either("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE");
        Ok(Some(Self {
            service_name: read("OTEL_SERVICE_NAME"),
            authorities: authorities.map(|(_, path)| path.into()),
        }))
    }

    /// Who sends the spans. What the operator says comes first.
    fn resource(&self, version: &'static str, node: Option<&str>) -> Resource {
        let given = Resource::builder_empty()
            .with_detectors(&[Box::new(TelemetryResourceDetector), Box::new(EnvResourceDetector::new())])
            .build();
        let own = [(SERVICE_NAME, Some("vaylix")), (SERVICE_VERSION, Some(version)), (INSTANCE_ID, node)];
        let missing = own
            .into_iter()
            .filter(|(name, _)| given.get(&(*name).into()).is_none())
            .filter_map(|(name, value)| Some(KeyValue::new(name, value?.to_owned())));
        let said = self.service_name.clone().map(|name| KeyValue::new(SERVICE_NAME, name));
        Resource::builder_empty()
            .with_attributes(given.iter().map(|(name, value)| KeyValue::new(name.clone(), value.clone())))
            .with_attributes(missing)
            .with_attributes(said)
            .build()
    }
}

/// The longest time that makes sense here, in milliseconds.
const MILLIS_MAX: u64 = 3_600_000;
/// Most spans that may wait: the library sets memory aside for all of them.
const SPANS_MAX: u64 = 1_000_000;

/// The samplers that the library knows.
const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];
const SAMPLERS_ADVICE: &str =
    "a sampler is always_on, always_off or traceidratio, each perhaps with parentbased_ in front";

/// Refuses a variable that is set to something else than it may be.
fn check(
    given: Option<(&'static str, String)>,
    advice: &'static str,
    is_good: impl FnOnce(&str) -> bool,
) -> Result<(), SettingsError> {
    match given {
        Some((variable, value)) if !is_good(&value) => Err(SettingsError { variable, value, advice }),
        _ => Ok(()),
    }
}

fn is_endpoint(text: &str) -> bool {
    let uri = text.trim().parse::<http::Uri>();
    uri.is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
}

fn are_headers(text: &str) -> bool {
    text.split(',').filter(|pair| !pair.trim().is_empty()).all(|pair| {
        pair.split_once('=').is_some_and(|(name, _)| name.trim().parse::<http::HeaderName>().is_ok())
    })
}

/// Spans on their way to a collector.
pub struct Telemetry {
    settings: Settings,
    version: &'static str,
    provider: SdkTracerProvider,
    way: Arc<Way>,
    /// What the connection to the collector lives on.
    runtime: Runtime,
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Telemetry {
    /// Begins to export spans of a server of this version. The collector need not be there.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(settings: Settings, version: &'static str) -> Result<Self, StartError> {
        let mut tls = ClientTlsConfig::new();
        tls = match settings.authorities.clone() {
            None => tls.with_enabled_roots(),
            Some(path) => {
                let pem = fs::read(&path).map_err(|source| StartError::Authorities { path, source })?;
                tls.ca_certificate(Certificate::from_pem(pem))
            }
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("telemetry")
            .enable_all()
            .build()
            .map_err(StartError::Runtime)?;
        let exporter = {
            let _here = runtime.enter();
            SpanExporter::builder().with_tonic().with_tls_config(tls).build()?
        };
        let resource = settings.resource(version, None);
        let way = Arc::new(Way {
            exporter: tokio::sync::Mutex::new(exporter),
            resource: Mutex::new(Some(resource.clone())),
            is_failing: AtomicBool::new(false),
            lost: AtomicU64::new(0),
        });
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(Exporter { way: Arc::clone(&way), runtime: runtime.handle().clone() })
            .with_id_generator(Ids::default())
            .with_resource(resource)
            .build();
        Ok(Self { settings, version, provider, way, runtime })
    }

    /// Takes the spans of this process.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + 'static
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("vaylix"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false)
            .with_filter(filter_fn(is_for_collectors))
    }

    /// From now on spans say which node they are from.
    pub fn identify(&self, node: &str) {
        *self.way.resource.lock() = Some(self.settings.resource(self.version, Some(node)));
    }

    /// Sends what there is, if the collector takes it within some seconds.
    pub fn stop(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(STOP_TIME_MAX) {
            tracing::warn!(%error, "the last spans were not sent");
        }
        let lost = self.way.lost.load(Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(lost, "the collector did not take all spans");
        }
        self.runtime.shutdown_background();
    }
}

/// Spans that are made for collectors, and those of the log that say something to them.
fn is_for_collectors(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let is_own = target.strip_prefix(TARGET).is_some_and(|rest| rest.starts_with('.'));
    metadata.is_span() && (is_own || target == "server.connection")
}

/// The way to the collector.
struct Way {
    exporter: tokio::sync::Mutex<SpanExporter>,
    /// Who the next spans are from, if that has changed.
    resource: Mutex<Option<Resource>>,
    is_failing: AtomicBool,
    /// Spans that the collector did not take.
    lost: AtomicU64,
}

impl Way {
    async fn send(&self, spans: Vec<SpanData>) {
        let count = spans.len() as u64;
        let mut exporter = self.exporter.lock().await;
        let resource = self.resource.lock().take();
        if let Some(resource) = resource {
            exporter.set_resource(&resource);
        }
        match exporter.export(spans).await {
            Ok(()) => {
                if self.is_failing.swap(false, Ordering::Relaxed) {
                    let lost = self.lost.load(Ordering::Relaxed);
                    tracing::info!(lost, "the collector takes spans again");
                }
            }
            Err(error) => {
                self.lost.fetch_add(count, Ordering::Relaxed);
                if !self.is_failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "the collector does not take spans: they are dropped until it does");
                }
            }
        }
    }
}

/// Hands spans over to the runtime that the connection lives on.
struct Exporter {
    way: Arc<Way>,
    runtime: Handle,
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}

impl opentelemetry_sdk::trace::SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let way = Arc::clone(&self.way);
        let count = batch.len() as u64;
        if self.runtime.spawn(async move { way.send(batch).await }).await.is_err() {
            // It was stopped meanwhile.
            self.way.lost.fetch_add(count, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: &[(&str, &str)]) -> Result<Option<Settings>, SettingsError> {
        Settings::read(|name| {
            given.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317");

    #[test]
    fn without_an_endpoint_nothing_is_exported() {
        assert!(read(&[]).unwrap().is_none());
        assert!(
            read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " "), ("OTEL_SERVICE_NAME", "db")]).unwrap().is_none()
        );
        assert!(read(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")]).unwrap().is_none());
        assert!(read(&[ENDPOINT]).unwrap().is_some());
        assert!(read(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", ENDPOINT.1)]).unwrap().is_some());
    }

    #[test]
    fn it_can_be_turned_off() {
        assert!(read(&[ENDPOINT, ("OTEL_SDK_DISABLED", "True")]).unwrap().is_none());
        assert!(read(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")]).unwrap().is_none());
        assert!(read(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "otlp")]).unwrap().is_some());
        assert!(read(&[ENDPOINT, ("OTEL_SDK_DISABLED", "no")]).unwrap().is_some());
    }

    #[test]
    fn what_there_is_not_is_refused() {
        for (variable, value) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "127.0.0.1:4317"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://collector"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "token"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "to ken=x"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "99999999999"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "all"),
            ("OTEL_BSP_SCHEDULE_DELAY", "0"),
        ] {
            let error = read(&[(variable, value), ENDPOINT]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{variable}={value:?}: ")), "{error}");
        }
        for ratio in ["", "1.5", "-0.1", "half"] {
            let given =
                [ENDPOINT, ("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", ratio)];
            assert_eq!(read(&given).is_err(), !ratio.is_empty(), "{ratio:?}");
        }
        let all = [
            ENDPOINT,
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=1, b=2"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ];
        assert!(read(&all).unwrap().is_some());
        let both = [
            ENDPOINT,
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
        ];
        assert!(read(&both).unwrap().is_some(), "what is said of traces counts");
    }

    #[test]
    fn a_resource_names_the_service_and_its_node() {
        let settings = Settings { service_name: Some("db".to_owned()), authorities: None };
        let resource = settings.resource("1.2.3", Some("n1"));
        let attribute = |name: &'static str| resource.get(&name.into()).map(|value| value.to_string());
        assert_eq!(attribute(SERVICE_NAME).as_deref(), Some("db"));
        assert_eq!(attribute(SERVICE_VERSION).as_deref(), Some("1.2.3"));
        assert_eq!(attribute(INSTANCE_ID).as_deref(), Some("n1"));
        assert_eq!(attribute("telemetry.sdk.language").as_deref(), Some("rust"));
    }
}
