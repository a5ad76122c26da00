//! The enricher service.

fn main() -> std::process::ExitCode {
    service::main("enricher", "127.0.0.1:8082", enricher::run)
}
