//! The consumers of one connection: which queue each was asked for, and whether it settles
//! what it is sent.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::hop::clean;
/// All consumers of a connection, up to a limit; of more than that not all are known.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    /// By channel, and by tag.
    known: BTreeMap<u16, BTreeMap<Box<[u8]>, Consumer>>,
    /// Those that the broker has yet to agree to, in the order in which they were asked for.
    asked: VecDeque<Asked>,
}

/// Where messages are taken from, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// `None`: it was not named.
    pub(super) queue: Option<Arc<str>>,
    /// What is sent counts as acknowledged.
    pub(super) no_ack: bool,
}

#[derive(Debug)]
struct Consumer {
    source: Source,
    /// Somebody has asked for its end.
    is_leaving: bool,
}

#[derive(Debug)]
struct Asked {
    channel: u16,
    /// Empty where the broker will choose one.
    tag: Box<[u8]>,
    source: Source,
}

impl Source {
    pub(super) fn new(queue: &[u8], no_ack: bool) -> Self {
        let queue = (!queue.is_empty()).then(|| clean(&String::from_utf8_lossy(queue)).into());
        Self { queue, no_ack }
    }
}

impl Consumers {
    /// Where the messages come from that are sent to that consumer.
    pub(super) fn source(&self, channel: u16, tag: &[u8]) -> Option<&Source> {
        let consumer = self.known.get(&channel)?.get(tag)?;
        Some(&consumer.source)
    }

    /// The client wants another one, and will be told whether it has it.
    pub(super) fn ask(&mut self, channel: u16, tag: &[u8], source: Source) {
        if self.asked.len() < CONSUMERS_MAX {
            self.asked.push_back(Asked {
                channel,
                tag: tag.into(),
                source,
            });
        }
    }

    /// The broker has agreed to one that was asked for.
    pub(super) fn answered(&mut self, channel: u16, tag: &[u8]) {
        let is_meant = |asked: &Asked| {
            asked.channel == channel && (asked.tag.is_empty() || *asked.tag == *tag)
        };
        let place = self.asked.iter().position(is_meant);
        if let Some(asked) = place.and_then(|place| self.asked.remove(place)) {
            self.add(channel, tag, asked.source);
        }
    }

    /// How many there are, and are asked for.
    pub(super) fn count(&self) -> usize {
        self.known_count() + self.asked.len()
    }

    fn known_count(&self) -> usize {
        self.known.values().map(BTreeMap::len).sum()
    }

    pub(super) fn add(&mut self, channel: u16, tag: &[u8], source: Source) {
        if self.known_count() < CONSUMERS_MAX {
            let consumer = Consumer {
                source,
                is_leaving: false,
            };
            let consumers = self.known.entry(channel).or_default();
            consumers.insert(tag.into(), consumer);
        }
    }

    /// The client has cancelled one. What was sent before the broker hears of it still comes.
    pub(super) fn leave(&mut self, channel: u16, tag: &[u8]) {
        let consumers = self.known.get_mut(&channel);
        if let Some(consumer) = consumers.and_then(|consumers| consumers.get_mut(tag)) {
            consumer.is_leaving = true;
        }
    }

    /// Nothing more is sent to that one.
    pub(super) fn remove(&mut self, channel: u16, tag: &[u8]) {
        if let Some(consumers) = self.known.get_mut(&channel) {
            consumers.remove(tag);
        }
    }

    /// The client has closed the channel: nobody there waits for an answer any more.
    pub(super) fn leave_channel(&mut self, channel: u16) {
        self.asked.retain(|asked| asked.channel != channel);
        for consumer in self.known.entry(channel).or_default().values_mut() {
            consumer.is_leaving = true;
        }
    }

    /// There is no such channel any more.
    pub(super) fn remove_channel(&mut self, channel: u16) {
        self.asked.retain(|asked| asked.channel != channel);
        self.known.remove(&channel);
    }

    /// Whether the client knows all its consumers.
    pub(super) fn is_settled(&self) -> bool {
        self.asked.is_empty()
    }

    /// Whether what is sent now might be lost together with the connection.
    pub(super) fn has_heedless(&self) -> bool {
        let mut consumers = self.known.values().flat_map(BTreeMap::values);
        consumers.any(Consumer::is_heedless)
    }

    /// The consumers that do not acknowledge, by channel and tag. Somebody will ask for their
    /// end.
    pub(super) fn take_heedless(&mut self) -> Vec<(u16, Box<[u8]>)> {
        let mut taken = Vec::new();
        for (channel, consumers) in &mut self.known {
            for (tag, consumer) in consumers {
                if consumer.is_heedless() {
                    consumer.is_leaving = true;
                    taken.push((*channel, tag.clone()));
                }
            }
        }
        taken
    }
}

impl Consumer {
    const fn is_heedless(&self) -> bool {
        self.source.no_ack && !self.is_leaving
    }
}

/// On one connection, and asked for at once.
const CONSUMERS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn source(queue: &str) -> Source {
        Source::new(queue.as_bytes(), false)
    }

    #[test]
    fn a_consumer_is_known_by_the_tag_that_it_was_given() {
        let mut consumers = Consumers::default();
        consumers.ask(1, b"", source("first"));
        consumers.ask(2, b"b", source("second"));
        consumers.ask(1, b"b", source("third"));
        consumers.ask(1, b"c", source("refused"));
        assert!(!consumers.is_settled());
        consumers.answered(1, b"amq.ctag-1");
        consumers.answered(1, b"b");
        consumers.answered(2, b"b");
        for (channel, tag, expected) in [
            (1, &b"amq.ctag-1"[..], Some("first")),
            (2, b"b", Some("second")),
            (1, b"b", Some("third")),
            (1, b"c", None),
            (3, b"b", None),
        ] {
            let found = consumers.source(channel, tag);
            assert_eq!(found, expected.map(source).as_ref(), "{channel} {tag:?}");
        }
        consumers.remove_channel(1);
        assert_eq!(consumers.source(1, b"b"), None);
        assert!(consumers.is_settled());
    }

    #[test]
    fn what_was_sent_before_a_cancel_was_heard_has_its_source() {
        let mut consumers = Consumers::default();
        consumers.add(1, b"a", Source::new(b"q", true));
        consumers.add(1, b"b", Source::new(b"q", true));
        assert!(consumers.has_heedless());
        consumers.leave(1, b"a");
        consumers.leave_channel(1);
        assert!(!consumers.has_heedless() && consumers.take_heedless().is_empty());
        assert!(consumers.source(1, b"a").is_some());
        consumers.remove(1, b"a");
        assert_eq!(consumers.source(1, b"a"), None);
    }
}
