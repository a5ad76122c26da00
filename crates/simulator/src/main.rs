//! The simulator as a process of its own.

fn main() -> std::process::ExitCode {
    service::main_with_own_server(std::env::args_os(), "simulator", "127.0.0.1:8090", simulator::run)
}
