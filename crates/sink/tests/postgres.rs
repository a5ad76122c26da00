//! What only PostgreSQL can do to the sink, on a real server.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what broke by panicking")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use e2e::postgres::{Server, ask, database, try_ask};
use schema::{Edit, Reason};
use sink::batch::{Batch, Fate, Part, Row};
use sink::error::WriteError;
use sink::writer::{Base, Claim, Position, Writer as _};
use sink::writers::postgres::Postgres;
use sink::writers::postgres::connection::DatabaseConfig;
use uuid::Uuid;

#[path = "postgres/tls.rs"]
mod tls;

const TOPIC: Uuid = Uuid::from_u128(7);

fn writer(url: &str) -> Postgres {
    Postgres::new(&DatabaseConfig { database_url: Some(url.to_owned().into()), ..DatabaseConfig::default() }).unwrap()
}

fn edit(id: &str) -> Edit<'static> {
    let event = format!(
        r#"{{"meta":{{"id":"{id}","domain":"d","dt":"2026-01-01T00:00:00.25Z"}},"type":"edit","id":9007199254740993,
        "namespace":0,"title":"T","wiki":"w","user":"U","bot":true,"length":{{"old":2147483648,"new":null}},
        "revision":{{"old":1,"new":6000000000}},"minor":true,"comment":"c"}}"#
    );
    schema::Mapping::new(&["edit".to_owned()]).enrich(event.as_bytes()).unwrap().unwrap().into_owned()
}

fn row(seq: i64, edit: Edit<'static>) -> Row {
    Row {
        seq,
        offset: seq * 2,
        raw_offset: seq * 3,
        received_at_ms: 1_500,
        is_base: false,
        fate: Fate::Store(Box::new(edit)),
    }
}

fn rows(seqs: std::ops::Range<i64>) -> Vec<Row> {
    seqs.map(|seq| row(seq, edit(&format!("e{seq}")))).collect()
}

fn batch(epoch: i64, rows: Vec<Row>) -> Batch {
    Batch { topic_id: TOPIC, parts: [(3, Part { epoch, rows })].into() }
}

fn claim(writer: &mut Postgres) -> Position {
    let base = Base { seq: 0, offset: 0 };
    writer.claim(&[Claim { topic: "events", topic_id: TOPIC, partition: 3, owner: "me", base }]).unwrap()[0]
}

#[test]
fn every_field_stands_in_its_column() {
    let url = database();
    let mut writer = writer(&url);
    let epoch = claim(&mut writer).epoch;
    writer.write(&batch(epoch, rows(0..1))).unwrap();
    let stored = ask(
        &url,
        "SET timezone = 'UTC'; SELECT event_id, id, domain, namespace, title, timestamp, user_name, user_type, old_length, \
         new_length, type, wiki, namespace_id, namespace_local, user_kind, revision_old, revision_new, minor, patrolled, \
         comment, topic_id, partition, seq, received_at, stored_at > '2026-01-01' FROM edits",
    );
    assert_eq!(
        stored,
        "e0|9007199254740993|d|main namespace|T|2026-01-01 00:00:00.25+00|U|bot|2147483648||edit|w|0||bot|1|6000000000|t|\
         |c|00000000-0000-0000-0000-000000000007|3|0|1970-01-01 00:00:01.5+00|t"
    );
    for view in ["edits_per_minute", "busiest_pages", "bots_and_humans", "edits_by_wiki"] {
        assert!(ask(&url, &format!("SELECT * FROM {view}")).contains("|1|"), "{view}");
    }
}

#[test]
fn a_row_that_postgresql_refuses_costs_that_row() {
    let mut writer = writer(&database());
    let epoch = claim(&mut writer).epoch;
    let mut rows = rows(0..40);
    rows[7] = row(7, Edit { title: "a\0b".into(), ..edit("e7") });
    rows[20] = row(20, edit("e3"));
    rows[33] = row(33, Edit { timestamp: "yesterday".into(), ..edit("e33") });
    // Longer than an index takes, and not to be compressed.
    let long: String = (0..200).map(|_| uuid::Uuid::new_v4().to_string()).collect();
    rows[36] = row(36, edit(&long));
    let written = writer.write(&batch(epoch, rows)).unwrap();
    assert_eq!(written.inserted, 36);
    let refused = Reason::RefusedByWriter;
    assert_eq!(written.rejected, [refused, Reason::DuplicateId, refused, refused]);
    let waiting = writer.outbox(TOPIC, &[3]).unwrap();
    let seqs: Vec<i64> = waiting.iter().map(|rejected| rejected.seq).collect();
    assert_eq!(seqs, [7, 20, 33, 36]);
    assert!(waiting[0].value.starts_with(b"{\"id\":9007199254740993"), "the value is kept");
    assert_eq!(claim(&mut writer).next_seq, Some(40), "their sequence numbers count as stored");
}

#[test]
fn a_table_that_refuses_what_it_was_made_for_sets_nothing_aside() {
    let url = database();
    let mut writer = writer(&url);
    let epoch = claim(&mut writer).epoch;
    let raise = "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not today'; END $$; \
                 CREATE TRIGGER no BEFORE INSERT ON edits FOR EACH ROW EXECUTE FUNCTION no()";
    let rules = [
        (raise, "DROP TRIGGER no ON edits; DROP FUNCTION no()", "not today"),
        ("ALTER TABLE edits ADD CONSTRAINT few CHECK (seq < 0)", "ALTER TABLE edits DROP CONSTRAINT few", "few"),
        ("ALTER TABLE edits ADD COLUMN note text NOT NULL", "ALTER TABLE edits DROP COLUMN note", "note"),
        ("CREATE UNIQUE INDEX one ON edits ((wiki))", "DROP INDEX one", "one"),
        (
            "ALTER TABLE edits RENAME TO whole; CREATE TABLE edits (LIKE whole) PARTITION BY RANGE (seq)",
            "DROP TABLE edits; ALTER TABLE whole RENAME TO edits",
            "no partition",
        ),
    ];
    for (rule, undo, said) in rules {
        ask(&url, rule);
        let refused = writer.write(&batch(epoch, rows(0..20)));
        assert!(matches!(&refused, Err(WriteError::Refused(why)) if why.contains(said)), "{rule}: {refused:?}");
        assert_eq!(ask(&url, "SELECT (SELECT count(*) FROM edits) + (SELECT count(*) FROM edits_rejected)"), "0");
        ask(&url, undo);
    }
    assert_eq!(writer.write(&batch(epoch, rows(0..20))).unwrap().inserted, 20);
}

#[test]
fn a_column_of_ones_own_that_needs_no_value_changes_nothing() {
    let url = database();
    let mut writer = writer(&url);
    let epoch = claim(&mut writer).epoch;
    ask(&url, "ALTER TABLE edits ADD COLUMN note text, ADD COLUMN more text NOT NULL DEFAULT 'x'");
    assert_eq!(writer.write(&batch(epoch, rows(0..20))).unwrap().inserted, 20);
}

#[test]
fn a_write_that_takes_too_long_is_told_from_other_failures() {
    let url = database();
    let mut writer = writer(&url);
    let epoch = claim(&mut writer).epoch;
    // As the database's own limit ends a statement, from ten rows on.
    ask(
        &url,
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF (SELECT count(*) FROM fresh) > 10 THEN \
         RAISE EXCEPTION 'too slow' USING ERRCODE = '57014'; END IF; RETURN NULL; END $$; CREATE TRIGGER slow AFTER INSERT \
         ON edits REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION slow()",
    );
    assert!(matches!(writer.write(&batch(epoch, rows(0..20))), Err(WriteError::TooSlow { .. })));
    assert_eq!(writer.write(&batch(epoch, rows(0..10))).unwrap().inserted, 10);
}

#[test]
fn a_killed_server_costs_a_retry_and_nothing_else() {
    let mut server = Server::make();
    let mut writer = writer(&server.database());
    let epoch = claim(&mut writer).epoch;
    assert_eq!(writer.write(&batch(epoch, rows(0..3))).unwrap().inserted, 3);
    server.kill();
    for _ in 0..2 {
        assert!(matches!(writer.write(&batch(epoch, rows(3..6))), Err(WriteError::Retry { .. })));
    }
    server.start();
    assert_eq!(writer.write(&batch(epoch, rows(3..6))).unwrap().inserted, 3);
    assert_eq!(claim(&mut writer).next_seq, Some(6));
}

#[test]
fn a_commit_whose_answer_is_lost_is_resolved_from_the_position() {
    let server = Server::make();
    let (proxy, loses_answers) = losing_proxy(server.address());
    let url = server.database().replace(&server.address().to_string(), &proxy.to_string());
    let mut writer = writer(&url);
    let epoch = claim(&mut writer).epoch;
    loses_answers.store(true, Ordering::SeqCst);
    assert!(matches!(writer.write(&batch(epoch, rows(0..5))), Err(WriteError::Retry { doing: "commit", .. })));
    let again = writer.write(&batch(epoch, rows(0..5))).unwrap();
    assert_eq!((again.inserted, again.repeats), (0, 5), "it was stored");
}

/// Passes everything on, but not the answer to one COMMIT: that connection is cut.
fn losing_proxy(server: SocketAddr) -> (SocketAddr, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let armed = Arc::new(AtomicBool::new(false));
    let loses = Arc::clone(&armed);
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let upstream = TcpStream::connect(server).unwrap();
            let is_cut = Arc::new(AtomicBool::new(false));
            let (mut answers, mut back) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
            let cut = Arc::clone(&is_cut);
            std::thread::spawn(move || {
                pass(&mut answers, &mut back, |_| !cut.load(Ordering::SeqCst));
                let _ = back.shutdown(std::net::Shutdown::Both);
            });
            let (mut requests, mut forward, loses) = (client, upstream, Arc::clone(&loses));
            std::thread::spawn(move || {
                pass(&mut requests, &mut forward, |bytes| {
                    let commits = bytes.windows(6).any(|window| window == b"COMMIT");
                    if commits && loses.swap(false, Ordering::SeqCst) {
                        is_cut.store(true, Ordering::SeqCst);
                    }
                    true
                });
                let _ = forward.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    (address, armed)
}

fn pass(from: &mut TcpStream, to: &mut TcpStream, mut passes: impl FnMut(&[u8]) -> bool) {
    let mut bytes = [0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        if !passes(&bytes[..length]) || to.write_all(&bytes[..length]).is_err() {
            return;
        }
    }
}

#[test]
fn sinks_that_start_together_make_the_tables_once() {
    let url = database();
    std::thread::scope(|scope| {
        let sinks: Vec<_> = (0..6).map(|_| scope.spawn(|| writer(&url).prepare().unwrap())).collect();
        sinks.into_iter().for_each(|sink| sink.join().unwrap());
    });
    assert_eq!(ask(&url, "SELECT version FROM wiki_migrations"), "1\n2");
}

#[test]
fn the_sinks_role_needs_no_more_than_it_is_granted() {
    let server = Server::make();
    let superuser = server.database();
    let name = superuser.rsplit_once('/').unwrap().1.to_owned();
    for statement in [
        "CREATE ROLE wiki_owner LOGIN",
        "CREATE ROLE wiki_sink LOGIN",
        "CREATE ROLE wiki_reader LOGIN",
        &format!("ALTER DATABASE {name} OWNER TO wiki_owner"),
    ] {
        ask(&superuser, statement);
    }
    let as_role = |role: &str| superuser.replace("postgres@", &format!("{role}@"));
    let alone = writer(&as_role("wiki_sink")).prepare();
    let Err(WriteError::Stop(sentence)) = alone else { panic!("it may not make tables: {alone:?}") };
    assert!(sentence.contains("WIKI_DATABASE_OWNER_URL") && sentence.contains("as wiki_sink"), "{sentence}");

    let both = DatabaseConfig {
        database_url: Some(as_role("wiki_sink").into()),
        database_owner_url: Some(as_role("wiki_owner").into()),
        ..DatabaseConfig::default()
    };
    let mut writer = Postgres::new(&both).unwrap();
    let epoch = claim(&mut writer).epoch;
    let mut batch = batch(epoch, rows(0..3));
    batch.parts.get_mut(&3).unwrap().rows.push(row(3, edit("e0")));
    assert_eq!(writer.write(&batch).unwrap().inserted, 3);
    let waiting = writer.outbox(TOPIC, &[3]).unwrap();
    writer.told(&[waiting[0].id]).unwrap();
    for forbidden in
        ["DELETE FROM edits", "UPDATE edits SET title = ''", "TRUNCATE edits_rejected", "DROP VIEW busiest_pages"]
    {
        let refused = try_ask(&as_role("wiki_sink"), forbidden).unwrap_err();
        assert!(refused.contains("permission denied") || refused.contains("must be owner"), "{forbidden}: {refused}");
    }
    assert_eq!(ask(&as_role("wiki_reader"), "SELECT sum(edits) FROM edits_by_wiki"), "3");
    assert!(try_ask(&as_role("wiki_reader"), "INSERT INTO sink_progress SELECT * FROM sink_progress").is_err());
}

#[test]
fn a_wrong_password_is_said_without_it() {
    let config =
        DatabaseConfig { database_url: Some("postgres://me:geheim@".to_owned().into()), ..DatabaseConfig::default() };
    assert!(!format!("{config:?}").contains("geheim"));
    let unreadable = DatabaseConfig { database_url: Some("geheim".to_owned().into()), ..DatabaseConfig::default() };
    let refused = Postgres::new(&unreadable).unwrap_err().to_string();
    assert!(refused.contains("WIKI_DATABASE_URL") && !refused.contains("geheim"), "{refused}");
    let missing = Postgres::new(&DatabaseConfig::default()).unwrap_err().to_string();
    assert!(missing.contains("WIKI_DATABASE_URL_FILE"), "{missing}");
}

#[test]
fn a_pooler_that_loses_prepared_statements_is_named_and_nothing_is_retried() {
    let mut client = postgres::Client::connect(&database(), postgres::NoTls).unwrap();
    client.batch_execute("PREPARE ours AS SELECT 1").unwrap();
    // What such a pooler makes of two sinks, and of one.
    for statement in ["PREPARE ours AS SELECT 1", "EXECUTE another"] {
        let error = client.batch_execute(statement).unwrap_err();
        let judged = sink::writers::postgres::connection::failed("read")(error);
        assert!(matches!(&judged, WriteError::Stop(said) if said.contains("session pooling")), "{judged:?}");
    }
}
