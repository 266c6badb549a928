//! The description of the JSON API in OpenAPI 3.1: paths from the table of operations, schemas from the descriptors of the
//! messages.

use std::sync::LazyLock;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use serde_json::{Map, Value, json};
use vaylix_admin_proto::DESCRIPTORS;

use crate::api::{self, Operation};
use crate::caps::PAGE_MAX;

const PACKAGE: &str = ".vaylix.admin.v1.";

/// The document.
pub(crate) fn document() -> &'static Value {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(write);
    &DOCUMENT
}

fn write() -> Value {
    let descriptors = FileDescriptorSet::decode(DESCRIPTORS).unwrap_or_default();
    let mut schemas = Map::new();
    for file in descriptors.file.iter().filter(|file| file.package() == PACKAGE.trim_matches('.')) {
        schemas.extend(file.message_type.iter().map(|message| (message.name().to_owned(), object(message))));
        schemas.extend(file.enum_type.iter().map(|names| (names.name().to_owned(), choice(names))));
    }
    schemas.insert("Problem".to_owned(), problem());
    let mut paths = Map::new();
    for operation in api::table() {
        let path = paths.entry(operation.path.to_owned()).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(path) = path {
            path.insert(operation.method.as_str().to_lowercase(), describe(&operation, &schemas));
        }
    }
    for (name, described) in [
        (api::BACKUP_CONTENT, backup_content()),
        (api::EVENTS, json!({ "get": status_events() })),
        (api::AUDIT_EVENTS, json!({ "get": audit_events() })),
    ] {
        paths.insert(name.to_owned(), described);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Vaylix control plane",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "security": [{ "basic": [] }, { "bearer": [] }, { "cookie": [] }, { "cookie": [], "confirmation": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "basic": { "type": "http", "scheme": "basic" },
                "bearer": { "type": "http", "scheme": "bearer" },
                "cookie": {
                    "type": "apiKey", "in": "cookie", "name": "vaylix_session",
                    "description": "Set by a login with `cookie`; its name goes on with a part of the node's id. Suffices for GET.",
                },
                "confirmation": {
                    "type": "apiKey", "in": "header", "name": "x-csrf-token",
                    "description": "What every other method needs beside the cookie: `csrfToken` of the session.",
                },
            },
        },
    })
}

fn describe(operation: &Operation, schemas: &Map<String, Value>) -> Value {
    let in_path: Vec<&str> =
        operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
    let mut parameters: Vec<Value> = in_path
        .iter()
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    let has_body = matches!(operation.method, http::Method::POST | http::Method::PUT);
    let properties = schemas[operation.request]["properties"].as_object();
    for (name, schema) in properties.into_iter().flatten() {
        if name == "page" {
            parameters.push(in_query("pageSize", &json!({ "type": "integer" })));
            parameters.push(in_query("pageToken", &json!({ "type": "string" })));
        } else if !has_body && !in_path.contains(&name.as_str()) {
            parameters.push(in_query(name, schema));
        }
    }
    let mut described = json!({
        "operationId": operation.rpc,
        "tags": [operation.service],
        "parameters": parameters,
        "responses": {
            "200": { "description": "Done.", "content": content("application/json", operation.response) },
            "307": { "description": "Only the leader can do it: the same request goes to `Location`." },
            "default": refused(),
        },
    });
    if has_body {
        described["requestBody"] = json!({ "content": content("application/json", operation.request) });
    }
    described
}

fn in_query(name: &str, schema: &Value) -> Value {
    json!({ "name": name, "in": "query", "schema": schema })
}

/// The bytes of a backup, out and in.
fn backup_content() -> Value {
    let parameters =
        json!([{ "name": "name", "in": "path", "required": true, "schema": { "type": "string" } }]);
    let bytes = json!({ "application/json": { "schema": { "type": "string", "format": "binary" } } });
    json!({
        "get": {
            "operationId": "download_backup",
            "tags": ["BackupService"],
            "parameters": parameters,
            "responses": {
                "200": { "description": "The backup as it is in its file.", "content": bytes },
                "default": refused(),
            },
        },
        "put": {
            "operationId": "upload_backup",
            "tags": ["BackupService"],
            "parameters": parameters,
            "requestBody": { "content": bytes },
            "responses": {
                "200": { "description": "Done.", "content": content("application/json", "UploadBackupResponse") },
                "default": refused(),
            },
        },
    })
}

fn status_events() -> Value {
    let events = [
        ("history", "LiveHistory", "Once, at the beginning"),
        ("status", "LiveStatus", "At once, and every second"),
        ("end", "StreamEnd", "Why nothing more follows"),
    ];
    stream("status_events", "ClusterService", &[], &events)
}

fn audit_events() -> Value {
    let events = [
        ("audit", "TailEventsResponse", "Each event that is chosen"),
        ("end", "StreamEnd", "Why nothing more follows"),
    ];
    let text = json!({ "type": "string" });
    let mut parameters: Vec<Value> =
        ["user", "eventType", "status"].iter().map(|name| in_query(name, &text)).collect();
    parameters.push(in_query("last", &json!({ "type": "integer", "maximum": PAGE_MAX })));
    stream("audit_events", "AuditService", &parameters, &events)
}

/// A stream of events, each with the name and the schema of its data.
fn stream(id: &str, tag: &str, parameters: &[Value], events: &[(&str, &str, &str)]) -> Value {
    let told = events.iter().map(|(name, schema, when)| format!("`{name}` ({schema}): {when}."));
    let told = told.collect::<Vec<_>>().join(" ");
    let data: Vec<Value> = events.iter().map(|(_, schema, _)| reference(schema)).collect();
    json!({
        "operationId": id,
        "tags": [tag],
        "parameters": parameters,
        "responses": {
            "200": {
                "description": format!("Server-Sent Events, whose data are JSON. {told}"),
                "content": { "text/event-stream": { "schema": { "oneOf": data } } },
            },
            "default": refused(),
        },
    })
}

fn refused() -> Value {
    json!({ "description": "Refused or failed.", "content": content("application/problem+json", "Problem") })
}

fn content(media_type: &str, schema: &str) -> Value {
    json!({ media_type: { "schema": reference(schema) } })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn object(message: &DescriptorProto) -> Value {
    let properties: Map<String, Value> =
        message.field.iter().map(|field| (field.json_name().to_owned(), property(message, field))).collect();
    json!({ "type": "object", "properties": properties })
}

fn property(message: &DescriptorProto, field: &FieldDescriptorProto) -> Value {
    // A map is a list of entries, which are messages inside the message; here all are of text.
    let entry = field.type_name().rsplit('.').next().unwrap_or_default();
    if message
        .nested_type
        .iter()
        .any(|nested| nested.name() == entry && nested.options.as_ref().is_some_and(|o| o.map_entry()))
    {
        return json!({ "type": "object", "additionalProperties": { "type": "string" } });
    }
    let one = match field.r#type() {
        Type::Bool => json!({ "type": "boolean" }),
        Type::Int32 | Type::Uint32 => json!({ "type": "integer" }),
        // Numbers of JSON are not exact beyond 2^53.
        Type::Int64 | Type::Uint64 => json!({ "type": "string", "format": "int64" }),
        Type::Message | Type::Enum => reference(field.type_name().trim_start_matches(PACKAGE)),
        _ => json!({ "type": "string" }),
    };
    if field.label() == Label::Repeated { json!({ "type": "array", "items": one }) } else { one }
}

fn choice(names: &EnumDescriptorProto) -> Value {
    let names: Vec<&str> = names.value.iter().map(|value| value.name()).collect();
    json!({ "type": "string", "enum": names })
}

fn problem() -> Value {
    json!({
        "type": "object",
        "properties": {
            "type": { "type": "string" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string" },
            "code": { "type": "string", "description": "The stable code, for example SRV-017." },
            "retry": { "type": "string", "enum": ["never", "backoff", "at_leader", "outcome_unknown"] },
            "field": { "type": "string" },
            "leaderAdminAddress": { "type": "string" },
        },
        "required": ["type", "title", "status", "detail", "code", "retry"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever refers to a schema finds one.
    fn check_references(value: &Value, schemas: &Value) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(target)) = fields.get("$ref") {
                    let name = target.rsplit('/').next().unwrap();
                    assert!(schemas.get(name).is_some(), "{target}");
                }
                fields.values().for_each(|field| check_references(field, schemas));
            }
            Value::Array(items) => items.iter().for_each(|item| check_references(item, schemas)),
            _ => {}
        }
    }

    #[test]
    fn every_operation_is_described_and_every_reference_leads_somewhere() {
        let document = document();
        check_references(document, &document["components"]["schemas"]);
        for operation in api::table() {
            let described = &document["paths"][operation.path][operation.method.as_str().to_lowercase()];
            assert_eq!(described["operationId"], operation.rpc);
        }
        let names = |path: &str, method: &str| -> Vec<String> {
            let parameters = document["paths"][path][method]["parameters"].as_array().unwrap();
            parameters.iter().map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names("/v1/keys", "get"), ["glob", "pageSize", "pageToken", "prefix"]);
        assert_eq!(names("/v1/keys/{key}", "delete"), ["key", "expectedVersion"]);
        assert_eq!(names("/v1/keys/{key}", "put"), ["key"]);
        assert_eq!(
            names("/v1/cluster/members/{name}", "delete"),
            ["name", "expectedConfigVersion", "validateOnly"]
        );
        let status = &document["components"]["schemas"]["NodeStatus"]["properties"];
        assert_eq!(status["appliedIndex"]["type"], "string");
        assert_eq!(status["members"]["items"]["$ref"], "#/components/schemas/Member");
    }

    #[test]
    fn what_is_no_operation_of_the_table_is_described_too() {
        let paths = &document()["paths"];
        assert_eq!(paths[api::BACKUP_CONTENT]["put"]["operationId"], "upload_backup");
        for path in [api::EVENTS, api::AUDIT_EVENTS] {
            let answer = &paths[path]["get"]["responses"]["200"];
            assert!(answer["content"]["text/event-stream"]["schema"]["oneOf"].is_array(), "{path}");
        }
    }

    /// What the descriptors know and JSON does not: the streams.
    #[test]
    fn only_streams_have_no_json_form() {
        let descriptors = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
        let services = descriptors
            .file
            .iter()
            .filter(|file| file.package() == "vaylix.admin.v1")
            .flat_map(|f| &f.service);
        let table = api::table();
        for service in services {
            let streams = |method: &&prost_types::MethodDescriptorProto| {
                method.server_streaming() || method.client_streaming()
            };
            for method in service.method.iter().filter(|method| !streams(method)) {
                let input = method.input_type().trim_start_matches(PACKAGE);
                assert!(
                    table
                        .iter()
                        .any(|operation| operation.service == service.name() && operation.request == input),
                    "{}/{}",
                    service.name(),
                    method.name()
                );
            }
        }
    }
}
