//! What each event costs in memory: read as ingest reads it, mapped as the enricher maps it, read as a sink reads it.
//!
//! Events are the recorded ones that `WIKI_RECORDED` names a folder of, else made from one sample.

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use schema::{Edit, Mapping, event};

const SAMPLE: &str = r#"{"$schema":"/mediawiki/recentchange/1.0.0","meta":{"uri":"https://en.wikipedia.org/wiki/Sample","request_id":"5f1c1a0e-0000-4000-8000-00000000@","id":"6fd38eb4-ae36-4c7e-89a9-0000000000@@","domain":"en.wikipedia.org","stream":"mediawiki.recentchange","dt":"2026-01-02T03:04:05.678Z","topic":"eqiad.mediawiki.recentchange","partition":0,"offset":61000000@},"id":190000000@,"type":"edit","namespace":0,"title":"Sample @","title_url":"https://en.wikipedia.org/wiki/Sample_@","comment":"/* History */ a \"quoted\" word","timestamp":1767323045,"user":"Somebody","bot":false,"notify_url":"https://en.wikipedia.org/w/index.php?diff=1&oldid=2","minor":false,"length":{"old":1000,"new":1024},"revision":{"old":1300000000,"new":1300000001},"server_url":"https://en.wikipedia.org","server_name":"en.wikipedia.org","server_script_path":"/w","wiki":"enwiki","parsedcomment":"<span class=\"autocomment\">History</span> a &quot;quoted&quot; word"}"#;

fn events() -> Vec<Vec<u8>> {
    if let Some(folder) = std::env::var_os("WIKI_RECORDED") {
        let path = Path::new(&folder).join("recentchange.jsonl");
        let lines = std::fs::read_to_string(&path).expect("WIKI_RECORDED holds recentchange.jsonl");
        return lines.lines().map(|line| line.as_bytes().to_vec()).collect();
    }
    (0..1_000).map(|number| SAMPLE.replace('@', &(number % 10).to_string()).into_bytes()).collect()
}

fn benches(criterion: &mut Criterion) {
    let events = events();
    let mapping = Mapping::new(&["edit".to_owned()]);
    let edits: Vec<Vec<u8>> =
        events.iter().filter_map(|event| mapping.enrich(event).ok().flatten()).map(|edit| edit.to_json()).collect();
    let mut group = criterion.benchmark_group("events");
    group.throughput(Throughput::Elements(events.len() as u64));
    group.bench_function("read", |bencher| {
        bencher.iter(|| events.iter().filter(|event| black_box(event::read(event)).is_ok()).count());
    });
    group.bench_function("map", |bencher| {
        bencher.iter(|| events.iter().filter(|event| black_box(mapping.enrich(event)).is_ok()).count());
    });
    let mut json = Vec::new();
    group.bench_function("map and encode", |bencher| {
        bencher.iter(|| {
            for event in &events {
                json.clear();
                if let Ok(Some(edit)) = mapping.enrich(event) {
                    edit.write_json(&mut json);
                }
                black_box(&json);
            }
        });
    });
    group.throughput(Throughput::Elements(edits.len() as u64));
    group.bench_function("decode edits", |bencher| {
        bencher.iter(|| edits.iter().filter(|edit| black_box(Edit::from_json(edit)).is_ok()).count());
    });
    group.finish();
}

criterion_group!(hot_paths, benches);
criterion_main!(hot_paths);
