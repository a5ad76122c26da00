//! The committed schema is the types' schema, and edits of today keep its promises.

use serde_json::Value;

const COMMITTED: &str = include_str!("../wikipedia-events.schema.json");

#[test]
fn the_committed_schema_is_current() {
    assert!(COMMITTED == schema::edit::json_schema(), "wikipedia-events.schema.json is stale: run `make docs`");
}

#[test]
fn the_nine_tutorial_fields_come_first_and_are_required() {
    let schema: Value = serde_json::from_str(COMMITTED).unwrap();
    let nine =
        ["id", "domain", "namespace", "title", "timestamp", "user_name", "user_type", "old_length", "new_length"];
    for field in nine {
        assert!(schema["properties"].get(field).is_some(), "{field} is gone");
    }
    let event = br#"{"meta":{"domain":"d","dt":"t"},"type":"edit","namespace":0,"title":"T","wiki":"w"}"#;
    let edit = schema::Mapping::new(&["edit".to_owned()]).enrich(event).unwrap().unwrap();
    let line = String::from_utf8(edit.to_json()).unwrap();
    let places: Vec<usize> = nine.iter().map(|field| line.find(&format!("\"{field}\":")).unwrap()).collect();
    assert!(places.is_sorted(), "{line}");
}
