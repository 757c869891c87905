//! The report on the quality of contexts: who sends which task with which context.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use foldhash::HashMap;
use serde::Serialize;

use crate::hop::Quality;
use crate::telemetry::finding::Finding;
use crate::telemetry::labels::cut;
use crate::trace::Timestamp;
use crate::trace::w3c::Invalid;

/// The report in the making. Cheap to clone: all of them are one.
#[derive(Clone, Debug)]
pub struct QualityReport(Arc<Mutex<Book>>);

impl QualityReport {
    /// A report of at most `entries_max` entries, besides the one for all else.
    pub(super) fn new(entries_max: usize) -> Self {
        Self(Arc::new(Mutex::new(Book {
            numbers: HashMap::default(),
            entries: Vec::new(),
            other: Contexts::default(),
            entries_max,
        })))
    }

    /// The number of the entry for what is found with the same names; `None` where there is no
    /// room for one.
    pub(super) fn number(&self, finding: &Finding<'_>) -> Option<usize> {
        self.book().number(finding)
    }

    /// Takes up what was found, in the entry of that number.
    pub(super) fn found(&self, finding: &Finding<'_>, number: Option<usize>) {
        let mut book = self.book();
        let contexts = match number {
            Some(number) => &mut book.entries[number].contexts,
            None => &mut book.other,
        };
        contexts.add(finding);
    }

    /// How many entries there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.book().entries.len()
    }

    /// The report as it stands, the worst first: whoever sends most messages without a
    /// context that is as it should be.
    #[must_use]
    pub fn read(&self) -> Report {
        let mut report = {
            let book = self.book();
            Report {
                entries: book.entries.clone(),
                other: book.other.clone(),
            }
        };
        // Not while whoever writes would have to wait for it.
        let entries = report.entries.iter_mut().map(|entry| &mut entry.contexts);
        for contexts in entries.chain([&mut report.other]) {
            contexts.found.sort_by_key(Found::kind);
        }
        report.entries.sort_by(|one, other| {
            let by_fault = other.contexts.faulty().cmp(&one.contexts.faulty());
            by_fault.then_with(|| one.sender.cmp(&other.sender))
        });
        report
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How good the contexts are that messages come with.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    entries: Vec<Entry>,
    /// What was beyond the limit, or from somebody whom no broker has let in.
    other: Contexts,
}

#[derive(Clone, Debug, Serialize)]
struct Entry {
    #[serde(flatten)]
    sender: Sender<'static>,
    #[serde(flatten)]
    contexts: Contexts,
}

/// Who sends what where.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
struct Sender<'a> {
    task: Cow<'a, str>,
    destination: Cow<'a, str>,
    system: &'static str,
    producer: Producer<'a>,
}

/// As far as it is known; see [`Finding`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
struct Producer<'a> {
    host: Option<Cow<'a, str>>,
    client_name: Option<Cow<'a, str>>,
    address: Option<Cow<'a, str>>,
}

/// The contexts of some messages, by what was found of them.
#[derive(Clone, Debug, Default, Serialize)]
struct Contexts {
    messages: u64,
    #[serde(rename = "contexts")]
    found: Vec<Found>,
}

/// One way in which contexts are good or bad.
#[derive(Clone, Debug, Serialize)]
struct Found {
    quality: Quality,
    /// Why they are invalid.
    reason: Option<Invalid>,
    messages: u64,
    first_seen: Timestamp,
    last_seen: Timestamp,
    /// The id of the task that was seen last.
    example_task_id: String,
}

/// What the report is made from.
#[derive(Debug)]
struct Book {
    /// The place of each sender in `entries`.
    numbers: HashMap<Sender<'static>, usize>,
    entries: Vec<Entry>,
    other: Contexts,
    entries_max: usize,
}

impl Book {
    fn number(&mut self, finding: &Finding<'_>) -> Option<usize> {
        let sender = Sender::of(finding);
        // Seen so, the names of a message can be looked up as they are.
        let known: &HashMap<Sender<'_>, usize> = &self.numbers;
        if let Some(number) = known.get(&sender) {
            return Some(*number);
        }
        if self.entries.len() >= finding.standing.room(self.entries_max) {
            return None;
        }
        let number = self.entries.len();
        let sender = sender.into_owned();
        self.numbers.insert(sender.clone(), number);
        self.entries.push(Entry {
            sender,
            contexts: Contexts::default(),
        });
        Some(number)
    }
}

impl<'a> Sender<'a> {
    /// Of names that are as long as they may be.
    fn of(finding: &Finding<'a>) -> Self {
        let cut = |name| Cow::Borrowed(cut(name));
        let producer = finding.producer;
        Self {
            task: cut(finding.task),
            destination: cut(finding.destination),
            system: finding.system,
            producer: Producer {
                host: producer.host.map(cut),
                client_name: producer.client_name.map(cut),
                address: producer.address.map(cut),
            },
        }
    }

    fn into_owned(self) -> Sender<'static> {
        let own = |name: Cow<'_, str>| Cow::Owned(name.into_owned());
        Sender {
            task: own(self.task),
            destination: own(self.destination),
            system: self.system,
            producer: Producer {
                host: self.producer.host.map(own),
                client_name: self.producer.client_name.map(own),
                address: self.producer.address.map(own),
            },
        }
    }
}

impl Contexts {
    fn add(&mut self, finding: &Finding<'_>) {
        self.messages += 1;
        let kind = (finding.judgement.quality, finding.judgement.invalid);
        let known = self.found.iter().position(|found| found.kind() == kind);
        let number = known.unwrap_or_else(|| {
            let (quality, reason) = kind;
            self.found.push(Found {
                quality,
                reason,
                messages: 0,
                first_seen: finding.at,
                last_seen: finding.at,
                example_task_id: String::new(),
            });
            self.found.len() - 1
        });
        let found = &mut self.found[number];
        found.messages += 1;
        found.first_seen = found.first_seen.min(finding.at);
        found.last_seen = found.last_seen.max(finding.at);
        cut(finding.id).clone_into(&mut found.example_task_id);
    }

    /// How many messages came without a context that is as it should be.
    fn faulty(&self) -> u64 {
        let faulty = self.found.iter();
        let faulty = faulty.filter(|found| found.quality != Quality::Valid);
        faulty.map(|found| found.messages).sum()
    }
}

impl Found {
    const fn kind(&self) -> (Quality, Option<Invalid>) {
        (self.quality, self.reason)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use serde_json::json;

    use super::*;
    use crate::hop::Answer;
    use crate::hop::Sent;
    use crate::hop::fixture;

    /// A message of `task` from `host`, sent at so many seconds.
    fn sent(task: &'static str, host: &'static str, seconds: u64) -> Sent {
        let mut publication = fixture::publication(seconds, seconds * 1_000_000_000);
        publication.task.edit(|it| {
            it.name = task.into();
            it.id = format!("{task}-{seconds}").into();
            it.origin = Some(host.into());
        });
        publication.client_name = Some("shop".into());
        Sent {
            ended: publication.at,
            publication: publication.into(),
            answer: Answer::Confirmed,
        }
    }

    fn with(mut sent: Sent, quality: Quality, invalid: Option<Invalid>) -> Sent {
        let judgement = &mut Arc::make_mut(&mut sent.publication).judgement;
        judgement.quality = quality;
        judgement.invalid = invalid;
        sent
    }

    fn report_of(entries_max: usize, sent: impl IntoIterator<Item = Sent>) -> Value {
        let report = QualityReport::new(entries_max);
        for sent in sent {
            let finding = Finding::of_publication(&sent);
            report.found(&finding, report.number(&finding));
        }
        serde_json::to_value(report.read()).unwrap()
    }

    /// What the entries are about, in their order.
    fn tasks(report: &Value) -> Vec<&str> {
        let entries = report["entries"].as_array().unwrap().iter();
        entries
            .map(|entry| entry["task"].as_str().unwrap())
            .collect()
    }

    #[test]
    fn an_entry_tells_who_sent_what_with_which_contexts_and_when() {
        let upper_case = Some(Invalid::UpperCase);
        let report = report_of(
            10,
            [
                with(sent("pay", "web-1", 30), Quality::Invalid, upper_case),
                with(sent("pay", "web-1", 20), Quality::Valid, None),
                with(sent("pay", "web-1", 10), Quality::Invalid, upper_case),
            ],
        );
        assert_eq!(
            report,
            json!({
                "entries": [{
                    "task": "pay",
                    "destination": "celery",
                    "system": "some-broker",
                    "producer": {
                        "host": "web-1",
                        "client_name": "shop",
                        "address": "127.0.0.1",
                    },
                    "messages": 3,
                    "contexts": [
                        {
                            "quality": "valid",
                            "reason": null,
                            "messages": 1,
                            "first_seen": "1970-01-01T00:00:20.000Z",
                            "last_seen": "1970-01-01T00:00:20.000Z",
                            "example_task_id": "pay-20",
                        },
                        {
                            "quality": "invalid",
                            "reason": "upper_case",
                            "messages": 2,
                            "first_seen": "1970-01-01T00:00:10.000Z",
                            "last_seen": "1970-01-01T00:00:30.000Z",
                            "example_task_id": "pay-10",
                        },
                    ],
                }],
                "other": { "messages": 0, "contexts": [] },
            })
        );
    }

    #[test]
    fn a_message_that_came_from_elsewhere_has_the_producer_that_it_tells() {
        let report = QualityReport::new(10);
        let delivery = fixture::delivery("1", None, 5);
        let finding = Finding::of_delivery(&delivery).unwrap();
        report.found(&finding, report.number(&finding));
        let report = serde_json::to_value(report.read()).unwrap();
        let producer = json!({ "host": null, "client_name": null, "address": null });
        assert_eq!(report["entries"][0]["producer"], producer);
    }

    #[test]
    fn the_worst_come_first_and_equals_by_name() {
        let good = |task| with(sent(task, "web-1", 1), Quality::Valid, None);
        let bad = |task, host| sent(task, host, 1);
        let report = report_of(
            10,
            [
                good("good"),
                good("good"),
                good("good"),
                bad("c", "web-1"),
                bad("b", "web-2"),
                bad("b", "web-1"),
                bad("worst", "web-1"),
                with(bad("worst", "web-1"), Quality::Stale, None),
                bad("a", "web-1"),
            ],
        );
        assert_eq!(tasks(&report), ["worst", "a", "b", "b", "c", "good"]);
        let hosts = [2, 3].map(|entry| &report["entries"][entry]["producer"]["host"]);
        assert_eq!(hosts, ["web-1", "web-2"]);
    }

    #[test]
    fn what_is_beyond_the_limit_is_told_of_together() {
        let answered = |task, answer| Sent {
            answer,
            ..sent(task, "web-1", 1)
        };
        let report = report_of(
            2,
            [
                // Nobody has let them in.
                answered("x", Answer::Lost),
                answered("y", Answer::Unread),
                answered("a", Answer::Unanswered),
                answered("z", Answer::Unanswered),
                answered("b", Answer::Confirmed),
                answered("c", Answer::Confirmed),
                answered("a", Answer::Lost),
            ],
        );
        assert_eq!(tasks(&report), ["a", "b"]);
        assert_eq!(report["entries"][0]["messages"], 2);
        assert_eq!(report["other"]["messages"], 4);
        assert_eq!(report["other"]["contexts"][0]["quality"], "missing");
    }

    #[test]
    fn names_are_no_longer_than_they_may_be() {
        let mut long = sent("pay", "web-1", 1);
        Arc::make_mut(&mut long.publication).destination = "q".repeat(1 << 20).into();
        let report = report_of(1, [long]);
        let destination = report["entries"][0]["destination"].as_str().unwrap();
        assert_eq!(destination.len(), 120);
    }
}
