//! Whether a Redis, or what speaks like one, is fit to stand behind the proxy.

use std::time::Instant;

use redis_protocol::resp2::types::BytesFrame;

use crate::cli::broker::Credentials;
use crate::cli::dial::Stream;
use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::finding::millis;
use crate::cli::output::shown;
use crate::cli::redis::NoAnswer;
use crate::cli::redis::Redis;
use crate::cli::redis::elements;
use crate::cli::redis::integer;
use crate::cli::redis::text;
use crate::telemetry::now;

/// Asks it who it is; `place` says where it was found.
pub(super) async fn examine(
    stream: Stream,
    place: &str,
    credentials: Option<&Credentials>,
    passes_moving: bool,
) -> Vec<Finding> {
    let mut redis = Redis::new(stream);
    if let Some(credentials) = credentials {
        let refused = redis.log_in(credentials).await.err();
        if let Some(refused) = refused {
            let finding = match refused {
                // It has no password to ask for.
                ref refused if refused.is("ERR") => None,
                refused => Some(unfit(place, &refused)),
            };
            if let Some(finding) = finding {
                return vec![finding];
            }
        }
    }
    let asked = Instant::now();
    let hello = redis.ask(&["HELLO"]).await;
    let took = asked.elapsed();
    let answered = |finding: Finding| finding.figure("answer_ms", millis(took));
    match hello {
        Ok(hello) => {
            let about = About::read(hello);
            let mut who = answered(about.finding(place)).figure("resp", "2 and 3");
            let crowded = clients(&mut redis, place, &mut who).await;
            let mut findings = vec![who];
            findings.extend(about.doubts(place));
            findings.extend(crowded);
            findings.extend(moves(&mut redis, place, passes_moving).await);
            findings.extend(clock(&mut redis, place).await);
            findings
        }
        // Before version 6.
        Err(refused) if refused.is("ERR unknown command") => {
            let mut findings = vec![
                answered(Finding::ok(format!("{place} answers as Redis"))).figure("resp", "2"),
            ];
            findings.extend(clock(&mut redis, place).await);
            findings
        }
        Err(refused) if refused.is("NOAUTH") => {
            let what = format!(
                "{place} answers as Redis, and wants a password, which is the apps' business"
            );
            vec![answered(Finding::ok(what)).figure("resp", "2 and 3")]
        }
        Err(refused) => vec![unfit(place, &refused)],
    }
}

/// What it says of itself.
#[derive(Default)]
struct About {
    server: String,
    version: String,
    mode: String,
    role: String,
}

impl About {
    /// Names and values by turns.
    fn read(hello: BytesFrame) -> Self {
        let mut about = Self {
            server: "redis".to_owned(),
            ..Self::default()
        };
        for pair in elements(hello).chunks_exact(2) {
            let [name, value] = pair else { continue };
            let field = match text(name) {
                Some("server") => &mut about.server,
                Some("version") => &mut about.version,
                Some("mode") => &mut about.mode,
                Some("role") => &mut about.role,
                _ => continue,
            };
            *field = shown(text(value).unwrap_or_default());
        }
        about
    }

    fn finding(&self, place: &str) -> Finding {
        let Self {
            server, version, ..
        } = self;
        Finding::ok(format!("{place} answers as {server} {version}"))
    }

    fn doubts(&self, place: &str) -> Vec<Finding> {
        let mut doubts = Vec::new();
        if self.mode == "cluster" {
            doubts.push(Finding::warn(
                format!("{place} is a node of a Redis Cluster"),
                "clients that follow the cluster go past the proxy; Celery does not support it",
            ));
        }
        if self.mode == "sentinel" {
            doubts.push(Finding::fail(
                format!("{place} is a Sentinel"),
                "give the address of the master itself",
            ));
        }
        if self.role == "replica" || self.role == "slave" {
            doubts.push(Finding::warn(
                format!("{place} is a replica, which takes no messages"),
                "give the address of the master",
            ));
        }
        doubts
    }
}

/// Whether it leads its clients elsewhere before it moves, as managed ones do.
async fn moves(redis: &mut Redis, place: &str, passes_moving: bool) -> Option<Finding> {
    redis
        .ask(&["CLIENT", "MAINT_NOTIFICATIONS", "OFF"])
        .await
        .ok()?;
    let what = format!("{place} tells clients that ask for it where it moves");
    Some(match passes_moving {
        true => Finding::warn(
            format!("{what}, which leads them past the proxy"),
            "set moving_address = \"remove\" on the route; clients then connect anew through it",
        ),
        false => Finding::ok(format!("{what}; the proxy removes the address")),
    })
}

/// How many clients it takes, where we may know that.
async fn clients(redis: &mut Redis, place: &str, about: &mut Finding) -> Option<Finding> {
    let info = redis.ask(&["INFO", "clients"]).await.ok()?;
    let info = text(&info)?;
    let number = |name: &str| -> Option<u64> {
        let mut lines = info.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.parse().ok())
    };
    let (connected, max) = (number("connected_clients")?, number("maxclients")?);
    about.figures.push(("clients", connected.into()));
    about.figures.push(("maxclients", max.into()));
    (connected.saturating_mul(10) >= max.saturating_mul(9)).then(|| {
        Finding::warn(
            format!("{place} has almost as many clients as it takes"),
            "raise its maxclients",
        )
    })
}

/// How far its clock is from ours.
async fn clock(redis: &mut Redis, place: &str) -> Option<Finding> {
    let before = now().as_millis();
    let answer = elements(redis.ask(&["TIME"]).await.ok()?);
    let ours = i128::from(before.midpoint(now().as_millis()));
    let (seconds, micros) = (integer(answer.first()?)?, integer(answer.get(1)?)?);
    let theirs = i128::from(seconds) * 1_000 + i128::from(micros) / 1_000;
    let skew = i64::try_from(theirs - ours).ok()?;
    Some(match skew.unsigned_abs() {
        ..=SKEW_MILLIS_MAX => Finding::ok(format!("{place} has the same time as this machine"))
            .figure("skew_ms", skew),
        _ => Finding::warn(
            format!("{place} does not have the same time as this machine"),
            "let both follow one clock (NTP), or times between machines will be wrong",
        )
        .figure("skew_ms", skew),
    })
}

fn unfit(place: &str, why: &NoAnswer) -> Finding {
    let remedy = match why {
        why if why.is("WRONGPASS") || why.is("NOPERM") => {
            "check user and password; without any this is not asked"
        }
        why if why.is("DENIED") => {
            "give it a password, or `protected-mode no` and a firewall: it serves its own machine alone"
        }
        why if why.is("LOADING") => "wait until it has read its data",
        NoAnswer::Unreadable | NoAnswer::Closed => {
            "is it a Redis? a port with TLS is written rediss://"
        }
        NoAnswer::Silent => "is it a Redis, and does it work?",
        _ => "see its log",
    };
    Finding::fail(format!("{place}: {why}"), remedy)
}

const SKEW_MILLIS_MAX: u64 = 1_000;
