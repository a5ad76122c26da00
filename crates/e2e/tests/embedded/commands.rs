//! Every help text as `docs/commands` has it, and what `wiki groups` does to a group that rests and to one at work.

use std::time::Duration;

use e2e::pages;
use e2e::pipeline::{Parts, Pipeline};
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
