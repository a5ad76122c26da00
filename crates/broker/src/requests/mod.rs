//! What the broker answers, request by request; [`crate::state`] is what it knows.

pub(crate) mod classic;
pub(crate) mod consumer;
pub(crate) mod fetch;
pub(crate) mod groups;
pub(crate) mod offsets;
pub(crate) mod records;
pub(crate) mod topics;
pub(crate) mod transactions;
