//! Kafka kit: client settings, fenced partition writer, tail reader, assignment, dead letters.
