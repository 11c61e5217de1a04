//! `/openapi.json`: generated from the handlers, and completed from `openapi.json` beside this file.
//!
//! Each handler says what it takes and answers. The file says once what many of them share: what a
//! parameter of a name may be, what any route may answer, and the shapes of types of other crates.

use super::{Kind, Route};
use crate::app::Shared;
use crate::backend::Backend;
use crate::reply::{JSON, with_type};
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};
use utoipa::OpenApi;
use utoipa_axum::routes;

/// See the module.
const SHARED: &str = include_str!("openapi.json");
/// Paths that answer with SSZ too.
const BLOCK_PATHS: [&str; 2] = ["/v1/blocks/latest", "/v1/blocks/{height}"];

pub(super) fn routes<B: Backend>() -> Vec<Route<B>> {
    vec![Route::new(Kind::Work, routes!(document))]
}

/// The routes of both listeners that exist.
pub fn api_document<B: Backend>(tx_api: bool) -> Value {
    let mut document = ApiDoc::openapi();
    for route in super::validator::<B>(tx_api).into_iter().chain(super::monitoring()) {
        (route.describe)(&mut document);
    }
    let mut document = serde_json::to_value(document).unwrap_or_default();
    let shared: Value = serde_json::from_str(SHARED).unwrap_or_default();
    for operations in document["paths"].as_object_mut().into_iter().flat_map(|paths| paths.values_mut()) {
        for (method, operation) in operations.as_object_mut().into_iter().flatten() {
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

/// What no handler says of itself.
#[derive(OpenApi)]
#[openapi(
    info(title = "Aequa node", description = "REST API of one operator's node.", license(name = "BUSL-1.1")),
    components(schemas(crate::reply::ErrorBody, crate::backend::DutyView))
)]
struct ApiDoc;

/// This document.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, body = ref("#/components/schemas/Document"))))]
pub(crate) async fn document<B: Backend>(State(app): Shared<B>) -> Response {
    with_type(StatusCode::OK, JSON, app.document.clone())
}
