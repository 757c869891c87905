//! The names of one route's brokers, and what they stood for last.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::timeout_at;

use crate::net::upstream::dns::Dns;
use crate::net::upstream::dns::DnsConfig;
use crate::net::upstream::dns::LOOKUP_TIME_MAX;
use crate::net::upstream::dns::NoAddress;
use crate::net::upstream::no_answer;

/// Each name is looked up once at a time, whoever waits for it.
#[derive(Debug)]
pub(super) struct Names {
    config: DnsConfig,
    dns: Mutex<Option<Dns>>,
    /// As many as the configuration names.
    names: Mutex<HashMap<Arc<str>, watch::Sender<Name>>>,
}

/// What is known of a name.
#[derive(Debug, Default)]
struct Name {
    /// The last answer that said anything, and when.
    answer: Option<(Instant, Arc<[IpAddr]>)>,
    /// Why there is no newer one.
    error: Option<NoAddress>,
    /// Since when a lookup is under way.
    asked: Option<Instant>,
}

impl Names {
    pub(super) fn new(config: DnsConfig) -> Self {
        Self {
            config,
            dns: Mutex::default(),
            names: Mutex::default(),
        }
    }

    /// The addresses of a name: of now, or if that takes too long those of before.
    pub(super) async fn addresses(
        &self,
        host: &Arc<str>,
        deadline: Instant,
    ) -> io::Result<Arc<[IpAddr]>> {
        let name = self.name(host);
        let until = self.ask(host, &name).unwrap_or(deadline).min(deadline);
        let mut known = name.subscribe();
        let _ = timeout_at(until, known.wait_for(|name| name.asked.is_none())).await;
        let known = known.borrow();
        match (&known.answer, &known.error) {
            (Some((_, addresses)), _) => Ok(Arc::clone(addresses)),
            (None, Some(error)) => Err(error.clone().into()),
            (None, None) => Err(no_answer()),
        }
    }

    /// Has the name looked up, unless that is under way or was done just now. Says until when
    /// to wait for it, where there is an answer already.
    fn ask(&self, host: &Arc<str>, name: &watch::Sender<Name>) -> Option<Instant> {
        let now = Instant::now();
        let mut patience = None;
        let is_due = name.send_if_modified(|name| {
            name.answer.take_if(|(since, _)| *since + STALE_FOR <= now);
            let is_due = name.is_due(now);
            if is_due {
                name.asked = Some(now);
            }
            let since = name.answer.as_ref().and(name.asked);
            patience = since.map(|since| since + PATIENCE);
            is_due
        });
        if is_due {
            let dns = self.dns();
            let (host, name) = (Arc::clone(host), name.clone());
            tokio::spawn(async move {
                let outcome = match dns {
                    Ok(dns) => dns.look_up(&host).await,
                    Err(error) => Err(error),
                };
                name.send_modify(|name| name.learn(outcome));
            });
        }
        patience
    }

    fn name(&self, host: &Arc<str>) -> watch::Sender<Name> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.entry(Arc::clone(host)).or_default().clone()
    }

    /// Read anew where the files are not what they were.
    fn dns(&self) -> Result<Dns, NoAddress> {
        let mut known = self.dns.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some(dns) if dns.is_current(&self.config) => Ok(dns.clone()),
            _ => {
                let dns = Dns::read(&self.config)
                    .map_err(|error| NoAddress::Unknown(error.to_string().into()))?;
                Ok(known.insert(dns).clone())
            }
        }
    }
}

impl Name {
    fn is_due(&self, now: Instant) -> bool {
        // A lookup that never ended, for a bug, must not be the last one.
        let is_under_way = self
            .asked
            .is_some_and(|since| now < since + 2 * LOOKUP_TIME_MAX);
        let answered = self.answer.as_ref().map(|(since, _)| *since);
        let is_fresh = answered.is_some_and(|since| now < since + FRESH_FOR);
        !is_under_way && !is_fresh
    }

    fn learn(&mut self, outcome: Result<Vec<IpAddr>, NoAddress>) {
        self.asked = None;
        match outcome {
            Ok(addresses) => {
                self.answer = Some((Instant::now(), addresses.into()));
                self.error = None;
            }
            Err(error) => {
                // That there is none is an answer, too.
                if matches!(error, NoAddress::Known) {
                    self.answer = None;
                }
                self.error = Some(error);
            }
        }
    }
}

/// How long an answer is taken without asking again: a storm of connections asks once.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// How long a new answer is waited for where there is an old one.
const PATIENCE: Duration = Duration::from_millis(300);

/// How long an old answer is better than none.
const STALE_FOR: Duration = Duration::from_secs(600);
