//! Three nodes in one process, and what they promise to each other and to clients. Each promise is tested twice: as the
//! nodes are, and with a bug that breaks it planted into one of them, which the same test must notice.

mod planted;
mod trio;
