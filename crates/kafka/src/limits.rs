//! Limits that several clients share.

use std::time::Duration;

/// How long a blocking question to the cluster may take.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(10);
