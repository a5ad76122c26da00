//! The ingest service.

fn main() -> std::process::ExitCode {
    service::main("ingest", "127.0.0.1:8081", ingest::run)
}
