//! Settings by which strangers on the way can read or change what is sent: allowed, and said.

use service::local::is_local_host;

/// The last value of a setting, in small letters.
fn value(settings: &[(&str, &str)], names: &[&str]) -> Option<String> {
    let found = settings.iter().rev().find(|(name, _)| names.contains(name));
    found.map(|(_, value)| value.to_ascii_lowercase())
}

/// Whether every bootstrap server is on this machine.
fn are_here(servers: &str) -> bool {
    let host = |server: &str| {
        let host = server.trim().rsplit_once(':').map_or(server, |(host, _)| host);
        host.trim_matches(['[', ']']).to_owned()
    };
    servers.split(',').map(host).all(|host| is_local_host(&host))
}

/// What is weak in these settings, a sentence each, without a value that is secret.
pub(crate) fn of(settings: &[(&str, &str)], servers: &str) -> Vec<&'static str> {
    let protocol = value(settings, &["security.protocol"]).unwrap_or_default();
    let has_tls = protocol.ends_with("ssl");
    let mut found = Vec::new();
    if has_tls && value(settings, &["enable.ssl.certificate.verification"]).is_some_and(|value| value == "false") {
        found.push(
            "the brokers' certificates are not checked (enable.ssl.certificate.verification=false): anyone on the way can \
             read and change what is sent",
        );
    }
    if has_tls && value(settings, &["ssl.endpoint.identification.algorithm"]).is_some_and(|value| value == "none") {
        found.push("a broker may show the certificate of another host (ssl.endpoint.identification.algorithm=none)");
    }
    let mechanism = value(settings, &["sasl.mechanism", "sasl.mechanisms"]).unwrap_or_default();
    if protocol == "sasl_plaintext" && mechanism == "plain" && !are_here(servers) {
        found.push(
            "the password for Kafka goes over the network in clear (SASL_PLAINTEXT with PLAIN): use SASL_SSL, or SCRAM",
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_weak_is_said_and_what_is_not_is_not() {
        let remote = "kafka-1:9092,localhost:9093";
        let clear =
            [("security.protocol", "SASL_PLAINTEXT"), ("sasl.mechanisms", "PLAIN"), ("sasl.password", "geheim")];
        let said = of(&clear, remote);
        assert!(said.len() == 1 && said[0].contains("in clear") && !said[0].contains("geheim"), "{said:?}");
        assert!(of(&clear, "localhost:9092,[::1]:9093,127.0.0.1:1").is_empty(), "on this machine");
        let unchecked = [
            ("security.protocol", "ssl"),
            ("enable.ssl.certificate.verification", "False"),
            ("ssl.endpoint.identification.algorithm", "none"),
        ];
        assert_eq!(of(&unchecked, remote).len(), 2);
        let scram = [("security.protocol", "sasl_plaintext"), ("sasl.mechanism", "SCRAM-SHA-512")];
        assert!(of(&scram, remote).is_empty());
        let last_wins = [clear.as_slice(), &[("security.protocol", "SASL_SSL")]].concat();
        assert!(of(&last_wins, remote).is_empty());
    }
}
