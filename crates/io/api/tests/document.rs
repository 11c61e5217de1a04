//! `/openapi.json` against what is answered.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_api::api_document;
use aequa_testkit::{bid, unsigned};
use aequa_types::json::{BlockJson, EvidenceJson};
use aequa_types::{CertifiedBlock, Evidence, Proof, Seal};
use common::{Node, SENDER, account_proof, certified, certified_header, checkpoint, evidence_view, plain_tx};
use serde_json::{Value, json};

fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str));
            members.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn every_reference_of_the_document_leads_to_a_shape() {
    for tx_api in [false, true] {
        let document = api_document::<Node>(tx_api);
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 50, "{}", found.len());
        for reference in found {
            let shape = document.pointer(reference.strip_prefix('#').unwrap());
            assert!(shape.is_some_and(Value::is_object), "{reference}");
        }
    }
}

#[test]
fn what_any_route_may_answer_is_described_at_every_one() {
    let document = api_document::<Node>(true);
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            for status in ["400", "403", "421", "429", "503", "508"] {
                let content = &operation["responses"][status]["content"]["application/json"];
                assert!(content.is_object(), "{method} {path}: {status}");
            }
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(response["description"].is_string(), "{method} {path}: {status}");
            }
        }
    }
}

#[test]
fn no_height_limit_or_address_is_left_open() {
    let document = api_document::<Node>(true);
    let mut bounded = 0;
    for operations in document["paths"].as_object().unwrap().values() {
        for operation in operations.as_object().unwrap().values() {
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let schema = &parameter["schema"];
                let closed =
                    ["$ref", "pattern", "enum", "maximum"].iter().any(|key| schema.get(key).is_some());
                assert!(closed, "{parameter}");
                bounded += 1;
            }
        }
    }
    assert!(bounded > 10, "{bounded}");
}

/// That a value has the keys its shape names, at every level.
fn assert_shape(document: &Value, shape: &Value, value: &Value, place: &str) {
    if let Some(reference) = shape["$ref"].as_str() {
        return assert_shape(document, document.pointer(&reference[1..]).unwrap(), value, reference);
    }
    match value {
        Value::Object(members) => {
            let properties = shape["properties"].as_object().unwrap_or_else(|| panic!("{place}: {value}"));
            for required in shape["required"].as_array().unwrap() {
                assert!(members.contains_key(required.as_str().unwrap()), "{place} lacks {required}");
            }
            for (key, value) in members {
                let shape = properties.get(key).unwrap_or_else(|| panic!("{place} does not describe {key}"));
                assert_shape(document, shape, value, &format!("{place}.{key}"));
            }
        }
        Value::Array(items) => {
            items.iter().for_each(|item| assert_shape(document, &shape["items"], item, place));
        }
        scalar => {
            let name = match scalar {
                Value::Null => "null",
                Value::String(_) => "string",
                Value::Number(_) => "integer",
                _ => "boolean",
            };
            let types = &shape["type"];
            let fits = types == name || types.as_array().is_some_and(|types| types.contains(&json!(name)));
            assert!(fits, "{place}: {scalar} is no {types}");
        }
    }
}

#[test]
fn blocks_and_evidence_have_the_shapes_described() {
    let document = api_document::<Node>(false);
    let schema = |name: &str| &document["components"]["schemas"][name];
    let items = vec![plain_tx(0), unsigned(bid(SENDER, 0, 2, SENDER))];
    let mut block = CertifiedBlock::clone(&certified(1, items));
    let pending: Vec<EvidenceJson> = evidence_view().pending;
    let evidence: Vec<Evidence> = pending.into_iter().map(|json| json.try_into().unwrap()).collect();
    block.block.evidence = evidence.try_into().unwrap();
    let shown = serde_json::to_value(BlockJson::from(&block)).unwrap();
    assert_shape(&document, schema("Block"), &shown, "Block");
    block.certificate.proof = Proof::Group(Seal::ZERO);
    let shown = serde_json::to_value(BlockJson::from(&block)).unwrap();
    assert_shape(&document, schema("Block"), &shown, "Block");
    let proof = serde_json::to_value(account_proof(&certified_header(&block))).unwrap();
    assert_shape(&document, schema("AccountProof"), &proof, "AccountProof");
    let shown = serde_json::to_value(checkpoint(&block, &block)).unwrap();
    assert_shape(&document, schema("Checkpoint"), &shown, "Checkpoint");
    let view = serde_json::to_value(evidence_view()).unwrap();
    assert_shape(&document, schema("EvidenceView"), &view, "EvidenceView");
}
