//! The name of this replica, for people: `sink-3` under compose, else the host's name.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, Question, TYPE};

/// Docker's own name server, which knows each container by its address.
const DOCKER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11)), 53);
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// The name under compose, or the host's.
#[must_use]
pub fn name() -> String {
    let host = || std::fs::read_to_string("/etc/hostname").ok().map(|name| name.trim().to_owned());
    compose_name().or_else(host).filter(|name| !name.is_empty()).unwrap_or_else(|| "local".to_owned())
}

/// A container's host name is its id; only the reverse look-up tells the number of the replica.
fn compose_name() -> Option<String> {
    let resolvers = std::fs::read_to_string("/etc/resolv.conf").ok()?;
    if !resolvers.lines().any(|line| line.split_whitespace().eq(["nameserver", "127.0.0.11"])) {
        return None;
    }
    // Nothing is sent: connecting a UDP socket only chooses the address that would be used.
    let probe = UdpSocket::bind("0.0.0.0:0").ok()?;
    probe.connect("192.0.2.1:9").ok()?;
    let std::net::IpAddr::V4(own) = probe.local_addr().ok()?.ip() else { return None };
    replica_in(&reverse(own)?)
}

fn reverse(address: Ipv4Addr) -> Option<String> {
    let [a, b, c, d] = address.octets();
    let question = format!("{d}.{c}.{b}.{a}.in-addr.arpa");
    let mut query = Packet::new_query(1);
    query.set_flags(simple_dns::PacketFlag::RECURSION_DESIRED);
    query.questions.push(Question::new(Name::new(&question).ok()?, TYPE::PTR.into(), CLASS::IN.into(), false));
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.set_read_timeout(Some(ANSWER_LIMIT)).ok()?;
    socket.send_to(&query.build_bytes_vec().ok()?, DOCKER).ok()?;
    let mut answer = [0; 512];
    let (length, _) = socket.recv_from(&mut answer).ok()?;
    let answer = Packet::parse(answer.get(..length)?).ok()?;
    answer.answers.iter().find_map(|record| match &record.rdata {
        RData::PTR(name) => Some(name.0.to_string()),
        _ => None,
    })
}

/// `sink-3` in `project-sink-3.project_default`.
fn replica_in(container: &str) -> Option<String> {
    let (container, network) = container.trim_end_matches('.').split_once('.')?;
    let (project, _) = network.rsplit_once('_')?;
    container.strip_prefix(project)?.strip_prefix('-').map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_called_by_its_service_and_number() {
        assert_eq!(replica_in("wikipedia-events-sink-12.wikipedia-events_default").as_deref(), Some("sink-12"));
        assert_eq!(replica_in("my_app-enricher-1.my_app_default.").as_deref(), Some("enricher-1"));
        assert_eq!(replica_in("quiet_hopper.bridge"), None);
        assert_eq!(replica_in("other-1.project_default"), None);
    }
}
