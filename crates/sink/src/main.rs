//! The sink service.

fn main() -> std::process::ExitCode {
    service::main("sink", "127.0.0.1:8083", sink::run)
}
