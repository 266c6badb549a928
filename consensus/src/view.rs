//! What a read sees.

use vaylix_engine::state::Reader;

use crate::clock;

/// The state to read from and the time at which the read takes place.
///
/// A view does not freeze the state: ask its reader for a root when several reads must agree.
#[derive(Clone)]
pub struct View {
    /// The state.
    pub reader: Reader,
    /// Unix milliseconds, never before a write that is visible.
    pub now_ms: u64,
}

impl View {
    pub(crate) fn new(reader: &Reader) -> Self {
        Self { now_ms: reader.now(clock::now_ms()), reader: reader.clone() }
    }
}
