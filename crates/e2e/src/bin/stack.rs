//! The compose stack, judged: `stack [moves] [secure] [course] [alerts] [PROTOCOL …]`; all parts, and moves in all three
//! protocols, where none is given.

use std::process::ExitCode;

use e2e::stack::{alerts, course, moves, secure};

const PARTS: [&str; 4] = ["moves", "secure", "course", "alerts"];
const PROTOCOLS: [&str; 3] = ["cooperative", "eager", "consumer"];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let is_known = |word: &&String| PROTOCOLS.contains(&word.as_str()) || PARTS.contains(&word.as_str());
    if let Some(unknown) = words.iter().find(|word| !is_known(word)) {
        eprintln!("stack: {unknown}? usage: stack [moves] [secure] [course] [alerts] [cooperative] [eager] [consumer]");
        return ExitCode::from(2);
    }
    let wants = |word: &str| words.iter().any(|wanted| wanted == word);
    let any_part = PARTS.into_iter().any(wants);
    let any_protocol = PROTOCOLS.into_iter().any(wants);
    if !any_part || wants("moves") {
        for protocol in PROTOCOLS.into_iter().filter(|protocol| !any_protocol || wants(protocol)) {
            moves::tell(protocol);
        }
    }
    if !any_part || wants("secure") {
        secure::tell();
    }
    if !any_part || wants("course") {
        course::tell();
    }
    if !any_part || wants("alerts") {
        alerts::tell();
    }
    println!("the stack is as it should be");
    ExitCode::SUCCESS
}
