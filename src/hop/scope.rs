use crate::trace::key_within;

/// Where an id that an app chose means one task: the same id elsewhere means another.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The name of the route.
    pub route: &'a str,
    pub part: BrokerPart<'a>,
}

/// The part of a broker that a connection works in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerPart<'a> {
    /// A database, by its number.
    Database(u64),
    /// A virtual host, by its name.
    Vhost(&'a [u8]),
    /// The connection was not understood when it chose one.
    Unknown,
}

impl Scope<'_> {
    /// What stands for the id in this scope; `None` where it could mean anything.
    pub(super) fn key(self, id: &str) -> Option<[u8; 16]> {
        let route = self.route.as_bytes();
        match self.part {
            _ if id.is_empty() => None,
            BrokerPart::Database(number) => {
                Some(key_within(&[route, b"database", &number.to_be_bytes()], id))
            }
            BrokerPart::Vhost(name) => Some(key_within(&[route, b"vhost", name], id)),
            BrokerPart::Unknown => None,
        }
    }
}
