//! The few questions to Prometheus's API.

use std::fmt::Write as _;
use std::net::SocketAddr;

use serde_json::Value;

use crate::http;

/// A Prometheus.
#[derive(Clone, Copy, Debug)]
pub struct Prometheus(SocketAddr);

impl Prometheus {
    /// The one that listens there.
    #[must_use]
    pub const fn at(address: SocketAddr) -> Self {
        Self(address)
    }

    fn ask(self, path: &str) -> Option<Value> {
        let answer: Value = serde_json::from_str(&http::get(self.0, path)?).ok()?;
        (answer["status"] == "success").then(|| answer["data"].clone())
    }

    /// Series that an expression gives now; `None` where it does not evaluate.
    #[must_use]
    pub fn query(self, expression: &str) -> Option<Vec<Value>> {
        let data = self.ask(&format!("/api/v1/query?query={}", encoded(expression)))?;
        // A scalar is one series too.
        Some(data["result"].as_array().cloned().unwrap_or_default())
    }

    /// The values of the series that an expression gives now.
    #[must_use]
    pub fn values(self, expression: &str) -> Vec<f64> {
        let series = self.query(expression).unwrap_or_default();
        series.iter().filter_map(|one| one["value"][1].as_str()?.parse().ok()).collect()
    }

    /// Every value that an expression had in the last seconds, a second apart.
    #[must_use]
    pub fn range(self, expression: &str, seconds: u64) -> Vec<f64> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        let path =
            format!("/api/v1/query_range?query={}&start={}&end={now}&step=2", encoded(expression), now - seconds);
        let data = self.ask(&path).unwrap_or_default();
        let series = data["result"].as_array().cloned().unwrap_or_default();
        let values = series.iter().flat_map(|one| one["values"].as_array().cloned().unwrap_or_default());
        values.filter_map(|pair| pair[1].as_str()?.parse().ok()).collect()
    }

    /// Rules, each with its `name`, `type`, `health`.
    #[must_use]
    pub fn rules(self) -> Vec<Value> {
        let data = self.ask("/api/v1/rules").unwrap_or_default();
        let groups = data["groups"].as_array().cloned().unwrap_or_default();
        groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect()
    }

    /// Alerts that fire now: name and severity.
    #[must_use]
    pub fn firing(self) -> Vec<(String, String)> {
        let data = self.ask("/api/v1/alerts").unwrap_or_default();
        let alerts = data["alerts"].as_array().cloned().unwrap_or_default();
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        let label = |alert: &Value, name: &str| alert["labels"][name].as_str().unwrap_or_default().to_owned();
        firing.map(|alert| (label(alert, "alertname"), label(alert, "severity"))).collect()
    }
}

fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
