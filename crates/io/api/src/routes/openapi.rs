//! `/openapi.json`: generated from the handlers, and completed from `openapi.json` beside this file.
//!
//! Each handler says what it takes and answers. The file says once what many of them share: what a
//! parameter of a name may be, what any route may answer, and the shapes of types of other crates.

use super::{chain, duty, events, evidence, health, metrics, tx};
use crate::app::App;
use crate::backend::Backend;
use crate::reply::{JSON, ok, with_type};
use axum::Router;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;
use utoipa::OpenApi;

/// See the module.
const SHARED: &str = include_str!("openapi.json");
/// Beginnings of paths that exist with `--enable-tx-api` only.
const TX_PATHS: [&str; 3] = ["/v1/tx", "/v1/accounts", "/v1/mempool"];

/// Paths that answer with SSZ too.
const BLOCK_PATHS: [&str; 2] = ["/v1/blocks/latest", "/v1/blocks/{height}"];

pub(crate) fn router<B: Backend>(tx_api: bool) -> Router<Arc<App<B>>> {
    let whole = Bytes::from(api_document(tx_api).to_string());
    let answer = move || async move { with_type(StatusCode::OK, JSON, whole) };
    Router::new().route("/openapi.json", super::read(answer))
}

/// The routes of both listeners that exist.
pub fn api_document(tx_api: bool) -> Value {
    let mut document = serde_json::to_value(ApiDoc::openapi()).unwrap_or_default();
    let shared: Value = serde_json::from_str(SHARED).unwrap_or_default();
    if let Some(paths) = document["paths"].as_object_mut() {
        paths.retain(|path, _| tx_api || !TX_PATHS.iter().any(|start| path.starts_with(start)));
        for (method, operation) in paths.values_mut().filter_map(Value::as_object_mut).flatten() {
            complete(method, operation, &shared);
        }
    }
    for path in BLOCK_PATHS {
        let content = &mut document["paths"][path]["get"]["responses"]["200"]["content"];
        content["application/octet-stream"] = json!({"schema": {"type": "string", "format": "binary"}});
    }
    let schemas = &mut document["components"]["schemas"];
    for (name, schema) in entries(&shared["schemas"]) {
        schemas[name] = schema.clone();
    }
    for (name, properties) in entries(&shared["properties"]) {
        for (property, schema) in entries(properties) {
            schemas[name]["properties"][property] = schema.clone();
        }
    }
    document
}

/// Adds to an operation what it shares with others.
fn complete(method: &str, operation: &mut Value, shared: &Value) {
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        let known = parameter["name"].as_str().and_then(|name| shared["parameters"].get(name));
        if let Some(schema) = known {
            parameter["schema"] = schema.clone();
        }
    }
    for (status, response) in operation["responses"].as_object_mut().into_iter().flatten() {
        if response["description"].is_null() {
            let reason =
                StatusCode::from_bytes(status.as_bytes()).ok().and_then(|code| code.canonical_reason());
            response["description"] = reason.unwrap_or_default().into();
        }
    }
    let of_method = entries(&shared["post_responses"]).filter(|_| method == "post");
    for (status, description) in entries(&shared["responses"]).chain(of_method) {
        let response = &mut operation["responses"][status];
        if response["description"].is_null() {
            response["description"] = description.clone();
        }
        let content = &mut response["content"]["application/json"];
        if content.is_null() {
            *content = json!({"schema": {"$ref": "#/components/schemas/ErrorBody"}});
        }
    }
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// What the handlers say of themselves.
#[derive(OpenApi)]
#[openapi(
    info(title = "Aequa node", description = "REST API of one operator's node.", license(name = "BUSL-1.1")),
    components(schemas(crate::reply::ErrorBody, crate::backend::DutyView)),
    paths(
        health::health,
        health::livez,
        health::readyz,
        health::status,
        metrics::metrics,
        duty::post_duty,
        duty::read_duty,
        tx::post_tx,
        tx::post_plain,
        tx::post_auction,
        tx::post_private,
        tx::read_tx,
        tx::account,
        tx::mempool,
        chain::headers,
        chain::latest,
        chain::block,
        chain::certificate,
        chain::cluster,
        chain::state_root,
        chain::indexer_state_root,
        evidence::evidence,
        events::events,
        document,
    )
)]
struct ApiDoc;

/// This document.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, body = ref("#/components/schemas/Document"))))]
#[allow(dead_code, reason = "carries the annotation; the route answers with what was completed")]
fn document() -> Response {
    ok(&api_document(true))
}
