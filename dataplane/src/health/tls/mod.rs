//! Checks over TLS. The cryptography of a handshake takes longer than a turn of the slow path may, so the sessions have a thread
//! of their own: bytes go to it and come back through bounded queues, and the slow path never waits.
//!
//! `talk` is a probe's side of it, `desk` the queues, `sessions` the thread, `session` one TLS client, and `certificate` what is
//! to be said of a server's certificate.

pub mod certificate;
pub mod desk;
pub mod session;
pub mod sessions;
pub(super) mod talk;
