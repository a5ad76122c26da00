//! The conformance suite as a process: `conformance --bootstrap HOST:PORT [FILTER]`.

use std::process::ExitCode;

use e2e::conformance::{self, member};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((command, rest)) if command == "member" => {
            let Some(orders) = member::Orders::parse(rest) else {
                eprintln!("conformance: a member takes six arguments");
                return ExitCode::from(2);
            };
            match member::run(&orders) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("{error}");
                    ExitCode::from(1)
                }
            }
        }
        Some((flag, rest)) if flag == "--bootstrap" && !rest.is_empty() => {
            let filter = rest.get(1).map_or("", String::as_str);
            let verdicts = conformance::run(rest.first().map_or("", String::as_str), filter);
            let failed = verdicts.iter().filter(|verdict| verdict.failure.is_some()).count();
            println!("{} checks, {failed} failed", verdicts.len());
            ExitCode::from(u8::from(failed > 0))
        }
        _ => {
            eprintln!("usage: conformance --bootstrap HOST:PORT [FILTER]");
            ExitCode::from(2)
        }
    }
}
