//! The API's description, its shapes taken from the types themselves.

use axum::Json;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use crate::board::view::RebalanceView;
use crate::control::Action;
use crate::edits::RecordView;
use crate::live::Snapshot;

pub(super) async fn document() -> Json<Value> {
    Json(describe())
}

fn answer(text: &str, kind: &str, schema: Value) -> Value {
    json!({ "description": text, "content": { kind: { "schema": schema } } })
}

/// The description, OpenAPI 3.1.
fn describe() -> Value {
    let mut shapes = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
    });
    shapes.meta_schema = None;
    let mut shapes: SchemaGenerator = shapes.into_generator();
    let snapshot = shapes.subschema_for::<Snapshot>();
    let rebalance = shapes.subschema_for::<RebalanceView>();
    let record = shapes.subschema_for::<RecordView>();
    let action = shapes.subschema_for::<Action>();
    let partition = json!([{ "name": "partition", "in": "path", "required": true, "schema": { "type": "integer" } }]);
    let sentence = json!({ "type": "object", "properties": { "error": { "type": "string" } } });
    let refused = |text: &str| answer(text, "application/json", sentence.clone());
    let paths = json!({
        "/api/state": { "get": {
            "summary": "Everything that is known now; with an ETag, so that an unchanged one is not sent again.",
            "responses": { "200": answer("The snapshot.", "application/json", json!(snapshot)), "304": { "description": "Unchanged." } },
        }},
        "/api/stream": { "get": {
            "summary": "The same as it changes: server-sent events hello, snapshot, group, rebalance, rates, edits, alert and bye; the data of each but hello and bye is {seq, ts, data}.",
            "responses": {
                "200": answer("The stream.", "text/event-stream", json!({ "type": "string" })),
                "503": { "description": "As many pages are open as may be; Retry-After says when to come again." },
            },
        }},
        "/api/rebalances": { "get": {
            "summary": "Every rebalance that is known, one JSON object a line, the oldest first.",
            "responses": { "200": answer("The log.", "application/x-ndjson", json!(rebalance)) },
        }},
        "/api/partitions/{partition}/records": { "get": {
            "summary": "The last twenty records of a partition that were read, the oldest first.",
            "parameters": partition,
            "responses": { "200": answer("The records.", "application/json", json!({ "type": "array", "items": record })) },
        }},
        "/api/control": { "post": {
            "summary": "Changes the pipeline, where whoever runs it allows that; the header x-wiki-control carries the token of the stream's hello.",
            "requestBody": { "required": true, "content": { "application/json": { "schema": action } } },
            "responses": {
                "200": answer("What was done.", "application/json", json!({ "type": "object", "properties": { "done": { "type": "string" } } })),
                "403": refused("Another site's request, or a wrong token."),
                "404": refused("Nothing can be controlled from here."),
                "409": refused("It cannot be done, and why."),
            },
        }},
        "/openapi.json": { "get": {
            "summary": "This document.",
            "responses": { "200": answer("This document.", "application/json", json!({ "type": "object" })) },
        }},
    });
    let components = shapes.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": { "title": "wikipedia-events console", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": { "schemas": components },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described_and_every_shape_that_is_named_is_there() {
        let document = describe();
        let described: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
        assert_eq!(described.len(), super::super::PATHS.len());
        assert!(super::super::PATHS.iter().all(|path| document["paths"].get(path).is_some()), "{described:?}");
        let text = document.to_string();
        for name in text.split("\"#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(document["components"]["schemas"].get(name).is_some(), "{name} is not described");
        }
        assert!(text.contains("#/components/schemas/Snapshot"));
    }
}
