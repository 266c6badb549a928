//! Ending the process when going on could acknowledge what is not so.

/// Says why, then ends the process at once.
pub(crate) fn end_process(reason: &str) -> ! {
    tracing::error!(reason, "fatal: ending the process");
    std::process::abort()
}

/// While this is held, a panic ends the process: what it interrupts must not be left half done behind a node
/// that seems to live. Holds the name of that work.
pub(crate) struct PanicIsFatal(pub(crate) &'static str);

impl Drop for PanicIsFatal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            end_process(self.0);
        }
    }
}
