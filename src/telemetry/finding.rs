//! How good the context of a message is, and who sent it so.

use crate::hop::Delivery;
use crate::hop::Judgement;
use crate::hop::Publication;
use crate::hop::Sent;
use crate::telemetry::labels::Standing;
use crate::trace::Timestamp;

/// What was found of the context that one message came with: told once for each message, by
/// the first leg of it that this proxy knows of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finding<'a> {
    pub(super) system: &'static str,
    pub(super) destination: &'a str,
    pub(super) task: &'a str,
    /// The task's id; empty where the message has none.
    pub(super) id: &'a str,
    pub(super) producer: Producer<'a>,
    pub(super) at: Timestamp,
    pub(super) judgement: &'a Judgement,
    pub(super) standing: Standing,
}

/// Who has sent a message, as far as it can be told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Producer<'a> {
    /// The host of the process that sent the task first, as the message says.
    pub(super) host: Option<&'a str>,
    /// What the client calls itself on its connection.
    pub(super) client_name: Option<&'a str>,
    /// Where it connects from, without the port.
    pub(super) address: Option<&'a str>,
}

impl<'a> Finding<'a> {
    pub(super) fn of_publication(sent: &'a Sent) -> Self {
        let publication = &sent.publication;
        Self {
            system: publication.system,
            destination: &publication.destination,
            task: publication.task.name(),
            id: publication.task.id(),
            producer: Producer::of_publication(publication),
            at: publication.at,
            judgement: &publication.judgement,
            standing: Standing::of(&sent.answer),
        }
    }

    /// `None` where the message was seen before, by this proxy or another: with its
    /// publication, which left its time, or with a delivery.
    pub(super) fn of_delivery(delivery: &'a Delivery) -> Option<Self> {
        let is_first = delivery.sent.is_none() && !delivery.passage.redelivered;
        is_first.then_some(Self {
            system: delivery.system,
            destination: &delivery.destination,
            task: delivery.task.name(),
            id: delivery.task.id(),
            producer: Producer {
                host: delivery.task.origin(),
                // The connection is the consumer's.
                client_name: None,
                address: None,
            },
            at: delivery.at,
            judgement: &delivery.judgement,
            standing: Standing::Confirmed,
        })
    }
}

impl<'a> Producer<'a> {
    pub(super) fn of_publication(publication: &'a Publication) -> Self {
        Self {
            host: publication.task.origin(),
            client_name: publication.client_name.as_deref(),
            address: Some(without_port(&publication.connection.client_address)),
        }
    }

    /// The first of its names that there is.
    pub(super) fn name(self) -> &'a str {
        let names = [self.host, self.client_name, self.address];
        let mut names = names.into_iter().flatten();
        names.find(|name| !name.is_empty()).unwrap_or("unknown")
    }
}

/// Who takes a message: the name of its connection, else the address.
pub(super) fn worker(delivery: &Delivery) -> &str {
    let name = delivery.client_name.as_deref();
    let name = name.filter(|name| !name.is_empty());
    name.unwrap_or_else(|| without_port(&delivery.connection.client_address))
}

/// The address alone of an address and a port.
pub(super) fn without_port(address: &str) -> &str {
    // Byte by byte, for a port is short.
    let colon = address.bytes().rposition(|byte| byte == b':');
    let host = colon.map_or(address, |colon| &address[..colon]);
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    bare.unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hop::fixture;

    #[test]
    fn an_address_goes_without_its_port() {
        for (address, host) in [
            ("10.0.0.7:50000", "10.0.0.7"),
            ("[fe80::1]:50000", "fe80::1"),
            ("somewhere", "somewhere"),
        ] {
            assert_eq!(without_port(address), host);
        }
    }

    #[test]
    fn a_producer_goes_by_the_best_name_it_has() {
        for (host, client_name, address, name) in [
            (Some("web-1"), Some("shop"), Some("10.0.0.7"), "web-1"),
            (None, Some("shop"), Some("10.0.0.7"), "shop"),
            (Some(""), None, Some("10.0.0.7"), "10.0.0.7"),
            (None, None, None, "unknown"),
        ] {
            let producer = Producer {
                host,
                client_name,
                address,
            };
            assert_eq!(producer.name(), name);
        }
    }

    #[test]
    fn a_delivery_is_a_finding_only_where_the_message_was_not_seen_before() {
        let mut delivery = fixture::delivery("1", None, 5);
        assert!(Finding::of_delivery(&delivery).is_some());
        delivery.passage.redelivered = true;
        assert!(Finding::of_delivery(&delivery).is_none());
        delivery.passage.redelivered = false;
        delivery.sent = Some(Timestamp::from_nanos(1));
        assert!(Finding::of_delivery(&delivery).is_none());
    }
}
