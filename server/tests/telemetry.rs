//! Spans on their way from a server to a collector.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use tonic::{Request, Response, Status};
use vaylix_proto::request::Metadata;
use vaylix_proto::{Command, Reply};
use vaylix_testkit::process::PATIENCE;
use vaylix_testkit::{Cluster, Server, http, wait, wire};

const TRACE: [u8; 16] = [0x4b; 16];
const FAST: &str = "OTEL_BSP_SCHEDULE_DELAY=20";

/// What a collector was sent.
#[derive(Clone, Default)]
struct Taken(Arc<Mutex<Vec<Told>>>);

/// A span, with who says that it is from them.
#[derive(Clone)]
struct Told {
    resource: BTreeMap<String, String>,
    span: Span,
}

impl Told {
    fn attribute(&self, name: &str) -> String {
        attributes(&self.span.attributes).remove(name).unwrap_or_default()
    }

    fn links_to(&self, other: &Self) -> bool {
        self.span
            .links
            .iter()
            .any(|link| (&link.trace_id, &link.span_id) == (&other.span.trace_id, &other.span.span_id))
    }

    fn is_part_of(&self, other: &Self) -> bool {
        (&self.span.trace_id, &self.span.parent_span_id) == (&other.span.trace_id, &other.span.span_id)
            && self.span.start_time_unix_nano >= other.span.start_time_unix_nano
    }

    fn has_failed(&self) -> bool {
        self.span.status.as_ref().is_some_and(|status| status.code == StatusCode::Error as i32)
    }
}

fn attributes(given: &[KeyValue]) -> BTreeMap<String, String> {
    given
        .iter()
        .map(|attribute| {
            let value = match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
                Some(any_value::Value::StringValue(text)) => text.clone(),
                Some(any_value::Value::IntValue(number)) => number.to_string(),
                other => format!("{other:?}"),
            };
            (attribute.key.clone(), value)
        })
        .collect()
}

#[tonic::async_trait]
impl TraceService for Taken {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        if request.metadata().get("x-key").is_none_or(|key| key != "of the test") {
            return Err(Status::unauthenticated("the header is missing"));
        }
        let mut taken = self.0.lock().expect("nobody panics with it");
        for sent in request.into_inner().resource_spans {
            let resource = attributes(&sent.resource.unwrap_or_default().attributes);
            let spans = sent.scope_spans.into_iter().flat_map(|scope| scope.spans);
            taken.extend(spans.map(|span| Told { resource: resource.clone(), span }));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A collector on a port of its own, as long as it lives.
struct Collector {
    taken: Taken,
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Collector {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let taken = Taken::default();
        let service = TraceServiceServer::new(taken.clone());
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("its address");
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("it listens");
                let service = TowerToHyperService::new(service.clone());
                let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service);
                // A server that stops may break it off.
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        Self { taken, address, _runtime: runtime }
    }

    fn variables(&self) -> Vec<String> {
        [
            &format!("OTEL_EXPORTER_OTLP_ENDPOINT=http://{}", self.address),
            "OTEL_EXPORTER_OTLP_HEADERS=x-key=of the test",
            "OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=test",
            FAST,
        ]
        .map(str::to_owned)
        .to_vec()
    }

    fn told(&self) -> Vec<Told> {
        self.taken.0.lock().expect("nobody panics with it").clone()
    }

    fn find(&self, is_it: impl Fn(&Told) -> bool) -> Option<Told> {
        self.told().into_iter().find(is_it)
    }

    /// The span with this name and one attribute, as soon as there is one.
    fn await_span(&self, name: &str, (key, value): (&str, &str)) -> Told {
        wait::until(&format!("{name} with {key}={value}"), || {
            self.find(|told| told.span.name == name && told.attribute(key) == value)
        })
    }
}

fn flags(variables: &[String]) -> Vec<&str> {
    variables.iter().map(String::as_str).collect()
}

fn traced(trace_id: [u8; 16]) -> Metadata {
    Metadata { trace_id: Some(trace_id), ..Metadata::default() }
}

#[test]
fn a_write_is_followed_from_its_connection_to_the_disk_and_into_the_state() {
    let collector = Collector::start();
    let variables = collector.variables();
    let mut server = Server::start(&flags(&variables)).unwrap();
    let mut client = wire::Connection::login(server.address()).unwrap();
    let set = wire::set_command("a-secret-key", Bytes::from_static(b"a-secret-value"));
    assert_eq!(client.call_with(&traced(TRACE), &set).unwrap(), Ok(Reply::Ok));

    let request = collector.await_span("request", ("db.operation.name", "SET"));
    assert_eq!(request.span.trace_id, TRACE);
    assert!(request.span.parent_span_id.is_empty(), "VTP2 names no span");
    assert_eq!(request.span.kind, SpanKind::Server as i32);
    assert_eq!(request.attribute("db.system.name"), "vaylix");
    assert!(!request.has_failed());
    let part = |name: &str, of: &Told| {
        wait::until(name, || collector.find(|told| told.span.name == name && told.is_part_of(of)))
    };
    let proposal = part("proposal", &request);
    assert_eq!(proposal.attribute("batch.commands"), "1");
    let index: u64 = proposal.attribute("log.index").parse().unwrap();
    let (sync, apply) = (part("wal_sync", &proposal), part("apply", &proposal));
    assert_eq!(apply.attribute("log.index"), index.to_string());
    assert!(
        sync.span.end_time_unix_nano <= apply.span.start_time_unix_nano,
        "a node that is alone applies what is on disk"
    );
    assert!(apply.span.end_time_unix_nano <= proposal.span.end_time_unix_nano);
    assert!(proposal.span.end_time_unix_nano <= request.span.end_time_unix_nano);

    // What is asked for without a trace has one of its own, and what fails says why.
    let incr = Command::Incr { key: "a-secret-key".into() };
    let refusal = client.call(&incr).unwrap().unwrap_err();
    let failed = collector.await_span("request", ("db.operation.name", "INCR"));
    assert!(failed.has_failed());
    assert_eq!(failed.attribute("error.type"), &*refusal.code);
    assert_ne!(failed.span.trace_id, TRACE);
    assert_ne!(failed.span.trace_id, [0; 16]);
    assert_eq!(client.call_with(&traced([0; 16]), &Command::DbSize).unwrap(), Ok(Reply::Count(1)));
    let unnamed = collector.await_span("request", ("db.operation.name", "DBSIZE"));
    assert_ne!(unnamed.span.trace_id, [0; 16], "zeros are no trace");

    drop(client);
    assert!(server.stop("TERM").unwrap().success());
    let connection = collector.find(|told| told.span.name == "connection" && request.links_to(told));
    let connection = connection.expect("a stop sends what there is");
    assert_ne!(connection.attribute("peer"), "");
    assert_eq!(connection.resource["service.name"], "vaylix");
    assert_eq!(connection.resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(connection.resource["deployment.environment.name"], "test");
    assert!(connection.resource["service.instance.id"].parse::<u64>().is_ok(), "{:?}", connection.resource);
    for told in collector.told() {
        let text = format!("{:?}", told.span);
        assert!(!text.contains("secret") && !text.contains("password"), "{text}");
    }
}

#[test]
fn a_request_of_the_control_plane_joins_the_trace_of_its_client() {
    let collector = Collector::start();
    let variables = collector.variables();
    let mut server = Server::start(&flags(&variables)).unwrap();
    let admin = server.admin_address().unwrap();
    let ask = |path: &str, parent: &str| {
        let authorization = http::basic(wire::DEFAULT_LOGIN.0, wire::DEFAULT_LOGIN.1);
        let headers = [("authorization", authorization.as_str()), ("traceparent", parent)];
        http::request(admin, "GET", path, &headers, b"").unwrap().status
    };
    let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    assert_eq!(ask("/v1/cluster/status", &format!("00-{trace}-{span}-01")), 200);
    let request = collector.await_span("request", ("http.route", "/v1/cluster/status"));
    assert_eq!(request.span.trace_id, wire::unhex(trace).unwrap());
    assert_eq!(request.span.parent_span_id, wire::unhex(span).unwrap());
    assert_eq!(request.span.kind, SpanKind::Server as i32);
    assert_eq!(request.attribute("http.request.method"), "GET");
    assert_eq!(request.attribute("http.response.status_code"), "200");
    assert_eq!(request.attribute("surface"), "http");

    // A client that does not want its spans kept gets none; a parent that is none is none.
    assert_eq!(ask("/v1/backups", &format!("00-{trace}-{span}-00")), 200);
    assert_eq!(ask("/livez", &format!("00-{trace}-{span}-01")), 200);
    assert_eq!(ask("/v1/backups/a-secret-name/verify", &format!("00-{trace}-{span}-01-more")), 405);
    let refused = collector.await_span("request", ("http.route", "/v1/backups/{name}/verify"));
    assert_ne!(refused.span.trace_id, wire::unhex(trace).unwrap());
    assert!(refused.span.parent_span_id.is_empty() && refused.has_failed());

    assert!(server.stop("TERM").unwrap().success());
    let connection = collector.find(|told| told.span.name == "connection" && request.links_to(told));
    assert!(connection.is_some(), "its connection is told of too");
    let routes: Vec<_> = collector.told().iter().map(|told| told.attribute("http.route")).collect();
    assert!(!routes.contains(&"/v1/backups".to_owned()), "{routes:?}");
    for told in collector.told() {
        let text = format!("{:?}", told.span);
        assert!(!text.contains("secret") && !text.contains("livez"), "{text}");
    }
}

#[test]
fn a_write_is_followed_to_the_other_members() {
    let collector = Collector::start();
    let variables = collector.variables();
    let cluster = Cluster::start(3, &flags(&variables)).unwrap();
    let leader = cluster.await_leader(PATIENCE).unwrap();
    cluster.await_caught_up(PATIENCE).unwrap();
    let mut client = wire::Connection::login(cluster.addresses()[leader]).unwrap();
    // Whoever is slow hears of an entry when it is over already, so one write need not be followed to anybody.
    let replicated = wait::until("a write is followed to a member", || {
        client.call_with(&traced(TRACE), &wire::set_command("k", "v")).unwrap().unwrap();
        collector.find(|told| told.span.name == "replication")
    });
    assert_eq!(replicated.span.trace_id, TRACE);
    assert_eq!(replicated.span.kind, SpanKind::Client as i32);
    assert_ne!(replicated.attribute("peer.node"), "");
    assert_ne!(replicated.attribute("peer.node"), replicated.resource["service.instance.id"]);
    let proposal = wait::until("its proposal", || {
        collector.find(|told| told.span.name == "proposal" && replicated.is_part_of(told))
    });
    assert_eq!(proposal.attribute("batch.commands"), "1");
}

#[test]
fn a_collector_that_is_down_or_silent_hinders_nobody() {
    let down = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for address in [down, silent.local_addr().unwrap()] {
        let endpoint = format!("OTEL_EXPORTER_OTLP_ENDPOINT=http://{address}");
        let queue = "OTEL_BSP_MAX_QUEUE_SIZE=4";
        let flags = [endpoint.as_str(), queue, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=4", FAST];
        let mut server = Server::start(&flags).unwrap();
        let mut client = wire::Connection::login(server.address()).unwrap();
        for at in 0..200 {
            client.call(&wire::set_command(&format!("k{at}"), "v")).unwrap().unwrap();
        }
        assert_eq!(client.call(&Command::DbSize).unwrap(), Ok(Reply::Count(200)));
        let told = if address == down { "the collector does not take spans" } else { "SpanDroppingStarted" };
        server.logs(told).unwrap();
        assert!(server.stop("TERM").unwrap().success(), "{address}");
        server.restart().unwrap();
        assert!(server.stop("TERM").unwrap().success(), "{address}");
    }
    let (mut stream, _) = silent.accept().unwrap();
    let mut first = [0; 14];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"PRI * HTTP/2.0", "it was tried");
}

#[test]
fn settings_that_cannot_be_used_refuse_the_start() {
    for (endpoint, variable, expected) in [
        ("http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "OTEL_EXPORTER_OTLP_PROTOCOL"),
        ("http://127.0.0.1:1", "OTEL_TRACES_EXPORTER=zipkin", "OTEL_TRACES_EXPORTER"),
        ("not an address", FAST, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ("https://127.0.0.1:1", "OTEL_EXPORTER_OTLP_CERTIFICATE=/nowhere", "OTEL_EXPORTER_OTLP_CERTIFICATE"),
    ] {
        let refused = Server::start(&[&format!("OTEL_EXPORTER_OTLP_ENDPOINT={endpoint}"), variable]);
        let text = refused.expect_err("it does not start").to_string();
        assert!(text.contains("[SRV-030]") && text.contains(expected), "{text}");
    }
}
