//! The only sockets that carry traffic.
