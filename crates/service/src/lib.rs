//! One frame for all services: configuration, telemetry, health, tasks, shutdown, the admin server.
