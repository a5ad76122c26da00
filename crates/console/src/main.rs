//! The console service.

fn main() -> std::process::ExitCode {
    service::main("console", "127.0.0.1:8080", console::run)
}
