//! Every bound of this crate that is not an operator's, by name.

/// How often one request is admitted anew because the access rules moved on while it was under way.
pub(crate) const ADMISSIONS_MAX: usize = 16;

/// Places of unfinished scans that are remembered for one login. Each costs at most a key and a pattern.
pub(crate) const SCAN_PLACES_MAX: usize = 16;
