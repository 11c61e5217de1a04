//! EIP-2335's own keystores, in both directions.
//!
//! A file is a keystore of the standard's secret under its password, or an object (or a list `cases` of such)
//! with the fields `keystore`, `password` and `secret`.

use super::{bytes, run};
use crate::keystore::Keystore;
use crate::keystore::tests::PASSWORD;
use serde_json::Value;

const SECRET: &str = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f";

#[test]
fn vectors_of_eip_2335_open_and_are_made_again() {
    let cases = run("eip2335", |vector| {
        let json = &vector.json;
        let cases = json["cases"].as_array().map_or(std::slice::from_ref(json), Vec::as_slice);
        for case in cases {
            if case["crypto"].is_object() {
                check(&vector.name, case, PASSWORD, &SECRET.into());
            } else {
                check(&vector.name, &case["keystore"], case["password"].as_str().unwrap(), &case["secret"]);
            }
        }
        cases.len()
    });
    assert_eq!(cases, 2);
}

fn check(name: &str, keystore: &Value, password: &str, secret: &Value) {
    let text = keystore.as_str().map_or_else(|| keystore.to_string(), str::to_owned);
    let keystore = Keystore::from_json(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let opened = keystore.decrypt(password).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(*opened, bytes(secret), "{name}");
    let made = keystore.made_again(&opened, password);
    let json: Value = serde_json::from_str(&made.to_json()).unwrap();
    let original: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["crypto"], original["crypto"], "{name}");
}
