//! Every help text as `docs/commands` has it, and what `wiki groups` does to a group that rests and to one at work.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use e2e::pages;
use e2e::pipeline::{Parts, Pipeline, start_broker};
use e2e::process::Program;
use e2e::wait_until;

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn every_help_text_stands_in_the_pages_of_commands() {
    let mut compared = 0;
    let pages = pages::read("docs/commands");
    for section in pages.values().flat_map(|page| page.split("\n## ").skip(1)) {
        let (name, rest) = section.split_once('\n').unwrap();
        let written = rest.split("```").nth(1).unwrap().trim_start_matches("text\n");
        // A service is a binary of its own too: "wiki run sink, or sink".
        for name in name.split(", or ") {
            let mut words = name.split(' ');
            let program = Program::new(words.next().unwrap()).with(words).with(["--help"]);
            let (code, help, errors) = program.run(LIMIT);
            assert_eq!(code, 0, "{name}: {errors}");
            assert_eq!(
                help.trim_end(),
                written.trim_end(),
                "{name} --help is not what docs/commands says: `make docs`"
            );
            compared += 1;
        }
    }
    assert!(compared > 30, "{compared} help texts");
    // And none is left out.
    let (_, help, _) = Program::new("wiki").with(["--help"]).run(LIMIT);
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for command in listed.filter_map(|line| line.split_whitespace().next()).filter(|command| *command != "help") {
        assert!(pages.contains_key(command), "wiki {command} has no page: `make docs`");
    }
}

#[test]
fn offsets_move_where_nobody_is_in_the_group_and_nowhere_else() {
    let mut pipeline = Pipeline::start(&Parts::with_simulator(&[]));
    let brokers = pipeline.target.bootstrap.clone();
    let wiki = |words: &str| {
        let arguments = words.split(' ').chain(["--kafka-bootstrap-servers", &brokers]);
        Program::new("wiki").with(arguments).run(LIMIT)
    };
    let done = |words: &str| {
        let (code, output, errors) = wiki(words);
        assert_eq!(code, 0, "{words}: {errors}");
        output
    };
    let refused = |words: &str, expected: i32, said: &str| {
        let (code, output, errors) = wiki(words);
        assert_eq!((code, errors.contains(said)), (expected, true), "{words}: {output}{errors}");
    };
    done("topics create t");
    done("produce t --value %n --count 30");
    done("consume t --group g --from earliest --until-end");
    refused("groups reset g --topic t --to 5", 2, "--yes is needed to move the offsets of g");
    refused("groups reset g --topic t --to 5 --yes --partition 1", 2, "has no partition 1");
    refused("groups reset g --topic t --to soon --yes", 78, "earliest, latest, an offset");
    done("groups reset g --topic t --to 25 --yes");
    assert_eq!(done("consume t --group g --until-end --format json"), "25\n26\n27\n28\n29\n");
    done("groups reset g --topic t --to 999 --yes");
    assert_eq!(done("consume t --group g --until-end"), "", "beyond the end is the end");
    done("groups reset g --topic t --to 2000-01-01T00:00:00Z --yes");
    assert_eq!(done("consume t --group g --until-end").lines().count(), 30, "an old time is the beginning");

    let folder = tempfile::tempdir().unwrap();
    let member = Program::new("wiki").with(["consume", "t", "--group", "g", "--kafka-bootstrap-servers", &brokers]);
    let member = member.start("member", folder.path());
    wait_until("somebody is in the group", LIMIT, || done("groups describe g").contains("1 members"));
    refused("groups reset g --topic t --to 0 --yes", 78, "1 member is in g");
    refused("groups delete g --yes", 78, "1 member is in g");
    drop(member);
    wait_until("nobody is in the group", LIMIT, || done("groups describe g").contains(" 0 members"));
    assert_eq!(done("groups delete g --yes"), "g deleted\n");
    refused("groups delete g --yes", 78, "there is no consumer group g");
    refused("groups reset fresh --topic t --to 7", 2, "there is no consumer group fresh yet");
    done("groups reset fresh --topic t --to 7 --yes");
    assert!(done("groups list").contains("fresh"), "a group that was given offsets is one");
    pipeline.expect_all_alive();
}

fn shell(script: &str) -> (Option<i32>, Vec<u8>, String) {
    let done = std::process::Command::new("bash").args(["-o", "pipefail", "-c", script]).output().unwrap();
    (done.status.code(), done.stdout, String::from_utf8_lossy(&done.stderr).into_owned())
}

#[test]
fn a_bad_line_a_bad_byte_an_offset_that_is_gone_and_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (_broker, address) = start_broker(folder.path());
    let wiki = format!("WIKI_KAFKA_BOOTSTRAP_SERVERS={address} {}", e2e::process::binary("wiki").display());
    assert_eq!(
        shell(&format!("{wiki} topics create lines --partitions 1; {wiki} topics create bytes --partitions 1")).0,
        Some(0)
    );

    let (code, _, said) =
        shell(&format!("(seq 500 | sed 's/.*/k&:v&/'; echo bad) | {wiki} produce lines --key-separator :"));
    assert!(code == Some(1) && said.contains("500 records delivered") && said.contains("line 501"), "{said}");
    let read = |topic: &str| shell(&format!("{wiki} consume {topic} --from earliest --until-end --format json")).1;
    assert_eq!(read("lines").split(|byte| *byte == b'\n').count(), 501);

    assert_eq!(shell(&format!("printf 'a\\377b\\n' | {wiki} produce bytes")).0, Some(0));
    let target = e2e::target::Target::whole(address);
    let bytes = e2e::checker::read_topic(&target, "bytes").remove(&0).unwrap();
    assert_eq!(rdkafka::Message::payload(&bytes[0]), Some(b"a\xffb".as_slice()));

    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition_offset("lines", 0, rdkafka::Offset::Offset(200)).unwrap();
    e2e::block_on(target.admin().delete_records(&list, &rdkafka::admin::AdminOptions::new())).unwrap();
    let (code, out, said) = shell(&format!("{wiki} consume lines --from 5 --until-end"));
    assert_eq!((code, out.split(|byte| *byte == b'\n').count()), (Some(0), 301), "{said}");
    assert!(said.contains("offset 5 of lines:0 is gone: reading from 200"), "{said}");

    for command in ["consume lines --from earliest --until-end", "topics list", "groups list", "gaps list --all"] {
        let (code, _, said) = shell(&format!("{wiki} {command} > /dev/full"));
        assert!(code == Some(1) && said.contains("No space left on device"), "{command}: {code:?} {said}");
        let (code, _, said) = shell(&format!("{wiki} {command} | head -n 1"));
        assert!(code == Some(0) && !said.contains("cannot be written"), "{command}: {said}");
    }
}

/// Joins a group as Kafka Connect's workers do; it is a member as long as the socket is open.
fn join_as_connect(broker: std::net::SocketAddr, group: &str) -> std::net::TcpStream {
    fn text(frame: &mut Vec<u8>, text: &str) {
        frame.extend(i16::try_from(text.len()).unwrap().to_be_bytes());
        frame.extend(text.as_bytes());
    }
    // JoinGroup, version 0.
    let mut frame = [11_i16.to_be_bytes(), 0_i16.to_be_bytes()].concat();
    frame.extend(1_i32.to_be_bytes());
    text(&mut frame, "worker");
    text(&mut frame, group);
    frame.extend(30_000_i32.to_be_bytes());
    text(&mut frame, "");
    text(&mut frame, "connect");
    frame.extend(1_i32.to_be_bytes());
    text(&mut frame, "default");
    frame.extend(0_i32.to_be_bytes());
    let mut socket = std::net::TcpStream::connect(broker).unwrap();
    socket.write_all(&i32::try_from(frame.len()).unwrap().to_be_bytes()).unwrap();
    socket.write_all(&frame).unwrap();
    let mut length = [0; 4];
    socket.read_exact(&mut length).unwrap();
    socket
}

#[test]
fn a_group_of_kafka_connect_is_listed_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (_broker, address) = start_broker(folder.path());
    let _worker = join_as_connect(address, "connect-cluster");
    let wiki = format!("WIKI_KAFKA_BOOTSTRAP_SERVERS={address} {}", e2e::process::binary("wiki").display());
    assert_eq!(shell(&format!("{wiki} topics create t --partitions 1; {wiki} produce t --value v")).0, Some(0));
    assert_eq!(shell(&format!("{wiki} consume t --group normal --from-beginning --until-end")).0, Some(0));
    let (code, out, said) = shell(&format!("{wiki} groups list"));
    let out = String::from_utf8_lossy(&out).into_owned();
    assert_eq!(code, Some(0), "{said}");
    let row = |name: &str| out.lines().find(|line| line.starts_with(name)).map(str::to_owned);
    assert!(row("connect-cluster").is_some_and(|row| row.contains("connect  ")) && row("normal").is_some(), "{out}");
    for command in
        ["describe connect-cluster", "delete connect-cluster --yes", "reset connect-cluster --topic t --to 0 --yes"]
    {
        let (code, _, said) = shell(&format!("{wiki} groups {command}"));
        assert!(code != Some(0) && said.contains("is a connect group and not a consumer group"), "{command}: {said}");
    }
}
