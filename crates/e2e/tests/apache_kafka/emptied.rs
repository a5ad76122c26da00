//! Topics and offsets that are emptied while the services are away, on Apache Kafka; each combination on the embedded
//! broker.

use e2e::emptied::{Emptied, tell};
use e2e::kafka::Cluster;

#[test]
fn what_comes_after_topics_and_offsets_were_emptied_is_stored() {
    let cluster = Cluster::shared();
    let all = Emptied { raw: true, events: true, groups: true };
    let combinations = [
        Emptied { raw: true, ..Emptied::default() },
        Emptied { groups: false, ..all },
        Emptied { raw: false, ..all },
        all,
    ];
    for (seed, what) in (31..).zip(combinations) {
        tell(Some(cluster.target("emptied")), what, seed);
    }
}
