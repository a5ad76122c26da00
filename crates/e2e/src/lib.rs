//! Black-box stories on real processes, and the checker that judges them.
