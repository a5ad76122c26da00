//! One contract for every destination that keeps positions, and what standard output promises instead.
#![expect(clippy::unwrap_used, reason = "a test says what broke by panicking")]

use schema::{Edit, Reason, Rejection};
use sink::aside::{Aside, Replayed};
use sink::batch::{Batch, Fate, Hole, Part, Row, UNKNOWN};
use sink::error::WriteError;
use sink::prune::{Prune, Pruned};
use sink::writer::{Base, Claim, Place, Position, Writer};
use sink::writers::postgres::Postgres;
use sink::writers::postgres::connection::DatabaseConfig;
use sink::writers::sqlite::Sqlite;
use sink::writers::stdout::Stdout;
use uuid::Uuid;

const TOPIC: Uuid = Uuid::from_u128(7);

#[test]
fn what_was_set_aside_is_stored_once_after_its_cause_is_mended() {
    fn tell<W: Writer + Aside>(mut writer: W) {
        let epoch = claim(&mut writer, TOPIC, 0).unwrap().epoch;
        let refused = Rejection::new(Reason::RefusedByWriter, "not today");
        let mut rows = stored(0..5);
        rows[1].fate = Fate::Reject(refused.clone(), edit("e1").to_json());
        rows[2].fate = Fate::Reject(refused.clone(), edit("e0").to_json());
        rows[3].fate = Fate::Reject(refused, b"no edit".to_vec());
        assert_eq!(writer.write(&batch(epoch, rows)).unwrap().inserted, 2);
        let aside = writer.set_aside(0, 10).unwrap();
        assert_eq!(aside.iter().map(|row| row.seq).collect::<Vec<_>>(), [1, 2, 3]);
        let mut again = || aside.iter().map(|row| writer.replay(row).unwrap()).collect::<Vec<_>>();
        assert_eq!(again(), [Replayed::Stored, Replayed::Repeat, Replayed::Stays]);
        assert_eq!(again()[0], Replayed::Repeat, "each once");
        assert!(writer.holds(TOPIC, Place { partition: 3, seq: 1, id: "e1" }).unwrap(), "at its place");
        assert_eq!(writer.set_aside(0, 10).unwrap().len(), 2);
    }
    let folder = tempfile::tempdir().unwrap();
    tell(Sqlite::open(&folder.path().join("edits.db")).unwrap());
    tell(postgres(&e2e::postgres::database()));
}

#[test]
fn old_rows_are_pruned_from_the_front_in_steps_and_storing_continues_behind_them() {
    fn tell<W: Writer + Prune + Aside>(mut writer: W) {
        let epoch = claim(&mut writer, TOPIC, 0).unwrap().epoch;
        let mut rows = stored(0..10);
        rows[7].received_at_ms = 9;
        rows[2].fate = Fate::Reject(Rejection::new(Reason::InvalidJson, ""), b"{".to_vec());
        writer.write(&batch(epoch, rows)).unwrap();
        let of = writer.stored().unwrap()[0];
        assert_eq!((of.topic_id, of.partition), (TOPIC, 3));
        // The rejected row's dead letter is not delivered: it stays, and what is behind it.
        assert_eq!(writer.prune(of, 9, 100).unwrap(), Pruned { rows: 2, has_more: false });
        let pending: Vec<i64> = writer.outbox(TOPIC, &[3]).unwrap().iter().map(|rejected| rejected.id).collect();
        writer.told(&pending).unwrap();
        assert_eq!(writer.prune(of, 9, 3).unwrap(), Pruned { rows: 3, has_more: true });
        assert_eq!(writer.prune(of, 9, 3).unwrap(), Pruned { rows: 1, has_more: false }, "number 7 is not old");
        assert_eq!(writer.prune(of, 9, 3).unwrap(), Pruned::default());
        for (seq, is_there) in [(0, false), (6, false), (7, true), (8, true)] {
            let id = format!("e{seq}");
            assert_eq!(writer.holds(TOPIC, Place { partition: 3, seq, id: &id }).unwrap(), is_there, "{seq}");
        }
        assert_eq!(writer.set_aside(0, 10).unwrap(), []);
        let written = writer.write(&batch(epoch, stored(8..12))).unwrap();
        assert_eq!((written.inserted, written.repeats), (2, 2), "the position stays");
    }
    let folder = tempfile::tempdir().unwrap();
    tell(Sqlite::open(&folder.path().join("edits.db")).unwrap());
    tell(postgres(&e2e::postgres::database()));
}

/// The destinations that keep positions. A new one is a line here.
fn exact_writers(folder: &std::path::Path) -> Vec<Box<dyn Writer>> {
    vec![Box::new(Sqlite::open(&folder.join("edits.db")).unwrap()), Box::new(postgres(&e2e::postgres::database()))]
}

fn postgres(url: &str) -> Postgres {
    Postgres::new(&DatabaseConfig { database_url: Some(url.to_owned().into()), ..DatabaseConfig::default() }).unwrap()
}

fn edit(id: &str) -> Edit<'static> {
    let event = format!(
        r#"{{"meta":{{"id":"{id}","domain":"d","dt":"2026-01-01T00:00:00Z"}},"type":"edit","namespace":0,"title":"T","wiki":"w"}}"#
    );
    let mapped = schema::Mapping::new(&["edit".to_owned()]).enrich(event.as_bytes()).unwrap();
    mapped.unwrap().into_owned()
}

fn row(seq: i64, fate: Fate) -> Row {
    Row { seq, offset: seq * 2, raw_offset: seq * 3, received_at_ms: 5, is_base: false, fate }
}

fn stored(seqs: std::ops::Range<i64>) -> Vec<Row> {
    seqs.map(|seq| row(seq, Fate::Store(Box::new(edit(&format!("e{seq}")))))).collect()
}

fn batch(epoch: i64, rows: Vec<Row>) -> Batch {
    Batch { topic_id: TOPIC, parts: [(3, Part { epoch, rows })].into() }
}

fn claim(writer: &mut dyn Writer, topic_id: Uuid, base: i64) -> Result<Position, WriteError> {
    let base = Base { seq: base, offset: base * 2 };
    let claim = Claim { topic: "events", topic_id, partition: 3, owner: "me", base };
    writer.claim(&[claim]).map(|positions| positions[0])
}

#[test]
fn a_claim_begins_at_its_base_once_and_raises_the_epoch_each_time() {
    let folder = tempfile::tempdir().unwrap();
    for mut writer in exact_writers(folder.path()) {
        let first = claim(writer.as_mut(), TOPIC, 10).unwrap();
        assert_eq!((first.next_seq, first.next_offset, first.last_raw_offset), (Some(10), 20, -1));
        let second = claim(writer.as_mut(), TOPIC, 99).unwrap();
        assert_eq!((second.next_seq, second.next_offset), (Some(10), 20), "a base counts once");
        assert_eq!(second.epoch, first.epoch + 1);
    }
}

#[test]
fn rows_and_position_move_together_and_repeats_are_dropped() {
    let folder = tempfile::tempdir().unwrap();
    for mut writer in exact_writers(folder.path()) {
        let epoch = claim(writer.as_mut(), TOPIC, 0).unwrap().epoch;
        assert_eq!(writer.write(&batch(epoch, stored(0..4))).unwrap().inserted, 4);
        let again = writer.write(&batch(epoch, stored(2..6))).unwrap();
        assert_eq!((again.inserted, again.repeats), (2, 2));
        let position = claim(writer.as_mut(), TOPIC, 0).unwrap();
        assert_eq!((position.next_seq, position.next_offset, position.last_raw_offset), (Some(6), 11, 15));
    }
}

#[test]
fn an_old_epoch_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for mut writer in exact_writers(folder.path()) {
        let old = claim(writer.as_mut(), TOPIC, 0).unwrap().epoch;
        let new = claim(writer.as_mut(), TOPIC, 0).unwrap().epoch;
        let refused = writer.write(&batch(old, stored(0..4)));
        assert!(matches!(refused, Err(WriteError::Fenced { partitions }) if partitions == [3]));
        assert_eq!(writer.write(&batch(new, stored(0..4))).unwrap().inserted, 4, "nothing of the old one stands");
    }
}

#[test]
fn a_hole_is_named_and_nothing_is_stepped_over() {
    let folder = tempfile::tempdir().unwrap();
    for mut writer in exact_writers(folder.path()) {
        let epoch = claim(writer.as_mut(), TOPIC, 0).unwrap().epoch;
        let written = writer.write(&batch(epoch, stored(1..3))).unwrap();
        assert_eq!((written.inserted, &written.holes[..]), (0, &[(3, Hole { expected: 0, found: 1 })][..]));
        assert_eq!(claim(writer.as_mut(), TOPIC, 0).unwrap().next_seq, Some(0));
    }
}

#[test]
fn a_jump_behind_an_emptied_log_is_noted_as_lost_and_gone_on_from() {
    let folder = tempfile::tempdir().unwrap();
    for mut writer in exact_writers(folder.path()) {
        let epoch = claim(writer.as_mut(), TOPIC, 10).unwrap().epoch;
        let mut rows = [stored(10..12), stored(20..22)].concat();
        rows[2].is_base = true;
        let written = writer.write(&batch(epoch, rows)).unwrap();
        assert_eq!((written.inserted, written.lost), (4, vec![(3, (12, 20))]));
        assert_eq!(claim(writer.as_mut(), TOPIC, 0).unwrap().next_seq, Some(22));
    }
}

#[test]
fn where_nothing_is_known_the_first_record_is_the_base() {
    let folder = tempfile::tempdir().unwrap();
    for mut writer in exact_writers(folder.path()) {
        let first = claim(writer.as_mut(), TOPIC, UNKNOWN).unwrap();
        assert_eq!(first.next_seq, None);
        let written = writer.write(&batch(first.epoch, stored(70..73))).unwrap();
        assert_eq!((written.inserted, written.lost.len()), (3, 0));
        assert_eq!(claim(writer.as_mut(), TOPIC, 0).unwrap().next_seq, Some(73));
    }
}

#[test]
fn a_record_is_held_only_at_its_place_with_its_id_stored_or_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    for mut writer in exact_writers(folder.path()) {
        let epoch = claim(writer.as_mut(), TOPIC, 0).unwrap().epoch;
        let mut rows = stored(0..3);
        rows[2] = row(2, Fate::Store(Box::new(edit("e0"))));
        assert_eq!(writer.write(&batch(epoch, rows)).unwrap().rejected, [Reason::DuplicateId]);
        let mut holds = |seq, id| writer.holds(TOPIC, Place { partition: 3, seq, id }).unwrap();
        assert!(holds(1, "e1") && holds(2, "e0"));
        assert!(!holds(1, "e0") && !holds(2, "e2") && !holds(9, "e1"));
    }
}

#[test]
fn one_bad_row_costs_that_row_and_waits_in_the_outbox() {
    let folder = tempfile::tempdir().unwrap();
    for mut writer in exact_writers(folder.path()) {
        let epoch = claim(writer.as_mut(), TOPIC, 0).unwrap().epoch;
        let mut rows = stored(0..2);
        rows.push(row(2, Fate::Reject(Rejection::new(Reason::NulInText, "why"), b"bytes".to_vec())));
        rows.push(row(3, Fate::Store(Box::new(edit("e0")))));
        rows.extend(stored(4..6));
        let written = writer.write(&batch(epoch, rows)).unwrap();
        assert_eq!(written.inserted, 4);
        assert_eq!(written.rejected, [Reason::NulInText, Reason::DuplicateId]);
        assert_eq!(claim(writer.as_mut(), TOPIC, 0).unwrap().next_seq, Some(6));

        let waiting = writer.outbox(TOPIC, &[3]).unwrap();
        let places: Vec<(i64, i64, Reason)> =
            waiting.iter().map(|row| (row.seq, row.offset, row.rejection.reason)).collect();
        assert_eq!(places, [(2, 4, Reason::NulInText), (3, 6, Reason::DuplicateId)]);
        assert_eq!(waiting[0].value, b"bytes");
        assert!(writer.outbox(TOPIC, &[1]).unwrap().is_empty(), "only partitions that are owned");
        writer.told(&[waiting[0].id]).unwrap();
        assert_eq!(writer.outbox(TOPIC, &[3]).unwrap().len(), 1);
    }
}

#[test]
fn a_topic_made_anew_under_the_same_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for mut writer in exact_writers(folder.path()) {
        claim(writer.as_mut(), TOPIC, 0).unwrap();
        assert!(matches!(claim(writer.as_mut(), Uuid::from_u128(8), 0), Err(WriteError::Stop(_))));
    }
}

#[test]
fn two_sinks_share_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Sqlite::open(&folder.path().join("edits.db")).unwrap();
    let mut second = Sqlite::open(&folder.path().join("edits.db")).unwrap();
    let old = claim(&mut first, TOPIC, 0).unwrap().epoch;
    first.write(&batch(old, stored(0..3))).unwrap();
    let taken = claim(&mut second, TOPIC, 0).unwrap();
    assert_eq!(taken.next_seq, Some(3));
    assert!(matches!(first.write(&batch(old, stored(3..5))), Err(WriteError::Fenced { .. })));
    assert_eq!(second.write(&batch(taken.epoch, stored(3..5))).unwrap().inserted, 2);
}

#[test]
fn after_an_orderly_end_the_file_stands_alone_and_one_who_may_only_read_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edits.db");
    let (mut first, second) = (Sqlite::open(&path).unwrap(), Sqlite::open(&path).unwrap());
    let epoch = claim(&mut first, TOPIC, 0).unwrap().epoch;
    first.write(&batch(epoch, stored(0..3))).unwrap();
    drop(second);
    first.write(&batch(epoch, stored(3..5))).unwrap();
    drop(first);
    let beside: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(beside, ["edits.db"]);
    let reader = rusqlite::Connection::open_with_flags(&path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mode: String = reader.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    let rows: i64 = reader.query_row("SELECT count(*) FROM edits", [], |row| row.get(0)).unwrap();
    assert_eq!((mode.as_str(), rows), ("delete", 5));
}

#[test]
fn a_file_that_another_sink_is_making_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edits.db");
    // Before it is in WAL mode SQLite's own time-out does not cover a change of the mode.
    let maker = rusqlite::Connection::open(&path).unwrap();
    maker.execute_batch("BEGIN IMMEDIATE; CREATE TABLE being_made (x)").unwrap();
    let opening = std::thread::spawn(move || Sqlite::open(&path).map(|_| ()));
    std::thread::park_timeout(std::time::Duration::from_millis(300));
    assert!(!opening.is_finished(), "it waits: only the commit below can end it");
    maker.execute_batch("COMMIT").unwrap();
    opening.join().unwrap().unwrap();
}

#[test]
fn standard_output_carries_partition_and_sequence_in_each_line() {
    let mut bytes = Vec::new();
    let mut writer = Stdout::new(&mut bytes);
    assert_eq!(claim(&mut writer, TOPIC, 4).unwrap().next_seq, None, "it keeps no position");
    writer.write(&batch(0, stored(4..6))).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(
        lines[0].starts_with("{\"id\":null,\"domain\":\"d\"") && lines[0].ends_with("\"partition\":3,\"seq\":4}"),
        "{text}"
    );
}
