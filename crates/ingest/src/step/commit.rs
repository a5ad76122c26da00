//! What a commit carries: the state with what is still needed of the known ids.

use crate::position::{IngestState, REACH_MARGINS, SourceState};

use super::Step;

impl Step {
    /// Brings the state up to date for a commit. True where known ids had to go for want of room.
    pub fn prepare_commit(&mut self) -> bool {
        let gone = self.window.shrink(self.rules.most_ids);
        for kept in &gone {
            if let Some(attempts) = self.attempts.get_mut(kept.source) {
                attempts.known_from_ms = attempts.known_from_ms.max(Some(kept.time_ms));
            }
            // What was read since the refusal looks the same as what is missing now.
            if let Some(source) = self.state.sources.get_mut(kept.source) {
                source.refused = None;
            }
        }
        let margin_ms = self.rules.margin_ms;
        let reach: Vec<i64> = self.state.sources.iter().map(|source| source.reach(margin_ms)).collect();
        self.window.forget(&reach);
        self.state.set_floors(&self.window.floors());
        for source in &mut self.state.sources {
            let is_over = |at: i64| source.time() > at + (REACH_MARGINS + 1) * margin_ms;
            source.types_at = source.types_at.filter(|at| !is_over(*at));
        }
        // Known ids are whole again once nothing that they lack can be asked for.
        for (attempts, reach) in self.attempts.iter_mut().zip(&reach) {
            attempts.known_from_ms = attempts.known_from_ms.filter(|from| from >= reach);
        }
        self.state.summarise();
        !gone.is_empty()
    }

    /// Notes which types are kept from here on: what came before was handled under the old ones.
    pub(super) fn take_types(&mut self) {
        let types: Vec<String> = self.rules.types.iter().cloned().collect();
        let IngestState { types: known, types_before, sources, .. } = &mut self.state;
        if *known == types {
            return;
        }
        if !known.is_empty() {
            let is_in_force = sources.iter().any(|source| source.types_at.is_some());
            if is_in_force {
                types_before.retain(|kind| known.contains(kind));
            } else {
                types_before.clone_from(known);
            }
            for source in sources.iter_mut().filter(|source| source.t.is_some()) {
                source.types_at = source.types_at.max(source.t);
            }
        }
        *known = types;
    }

    /// The sources and their positions.
    #[must_use]
    pub fn sources(&self) -> &[SourceState] {
        &self.state.sources
    }
}
