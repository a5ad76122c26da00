//! The console service.

fn main() -> std::process::ExitCode {
    service::main_with_own_server(std::env::args_os(), "console", "127.0.0.1:8080", console::run)
}
