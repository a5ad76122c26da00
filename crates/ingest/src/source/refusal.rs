//! What the server says when it refuses a position. Pure.

/// What the server said when it refused a position: only KafkaSSE's own answer is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The header cannot be used.
    InvalidAssignment,
    /// Topics of the header are not served; these are.
    TopicNotAvailable(Vec<String>),
}

impl Refusal {
    /// Reads the body of a 400 or 404; `None` where it is somebody else's.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Self> {
        let body: serde_json::Value = serde_json::from_slice(body).ok()?;
        match body.get("name")?.as_str()? {
            "InvalidAssignmentError" => Some(Self::InvalidAssignment),
            "TopicNotAvailableError" => {
                let topics = body.get("availableTopics").and_then(serde_json::Value::as_array);
                let names = topics.into_iter().flatten().filter_map(|topic| topic.as_str().map(str::to_owned));
                Some(Self::TopicNotAvailable(names.collect()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_servers_own_answer_is_a_refusal() {
        for body in ["", "<!DOCTYPE html>", "{}", r#"{"name":"Error"}"#, r#"{"status":404,"type":"not_found"}"#] {
            assert_eq!(Refusal::read(body.as_bytes()), None, "{body}");
        }
    }
}
