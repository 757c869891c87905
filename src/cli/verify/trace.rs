//! Whether one trace joins producer, hop and worker.

/// A span, as far as that depends on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Span {
    pub(super) id: String,
    pub(super) parent: Option<String>,
    pub(super) service: String,
    pub(super) name: String,
    /// `server`, `producer`, `consumer`, …
    pub(super) kind: String,
    pub(super) task_id: Option<String>,
    pub(super) task: Option<String>,
    pub(super) retries: i64,
    /// Which leg of a hop it is: `send`, `receive` or `process`. `None`: it is not ours.
    pub(super) leg: Option<String>,
    /// Of our `send` and `receive` spans: where their parent comes from.
    pub(super) origin: Option<String>,
}

/// What is to be said of one attempt of a task.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chain {
    pub(super) task: String,
    pub(super) task_id: String,
    pub(super) links: Vec<Link>,
}

/// One place at which spans are joined, or are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) is_joined: bool,
    pub(super) what: String,
}

impl Link {
    pub(super) fn joined(what: impl Into<String>) -> Self {
        Self {
            is_joined: true,
            what: what.into(),
        }
    }

    pub(super) fn broken(what: impl Into<String>) -> Self {
        Self {
            is_joined: false,
            what: what.into(),
        }
    }
}

/// Follows every message of the trace, or that of `task_id` alone, through it. Empty: no hop
/// of ours is in it.
pub(super) fn chains(spans: &[Span], task_id: Option<&str>) -> Vec<Chain> {
    let hops = spans
        .iter()
        .filter(|span| span.leg.as_deref() == Some("send"));
    let mut hops: Vec<&Span> = hops
        .filter(|hop| task_id.is_none() || hop.task_id.as_deref() == task_id)
        .collect();
    // A message that did not come in through tracehop is told by its way out.
    for receive in of_leg(spans, "receive") {
        let is_wanted = task_id.is_none() || receive.task_id.as_deref() == task_id;
        let is_known = hops.iter().any(|hop| is_same_attempt(hop, receive));
        if is_wanted && !is_known {
            hops.push(receive);
        }
    }
    hops.into_iter()
        .map(|hop| Chain {
            task: hop.task.clone().unwrap_or_default(),
            task_id: hop.task_id.clone().unwrap_or_default(),
            links: vec![
                producer(hop, spans),
                delivery(hop, spans),
                worker(hop, spans),
            ],
        })
        .collect()
}

/// What the hop hangs from.
fn producer(hop: &Span, spans: &[Span]) -> Link {
    let origin = hop.origin.as_deref().unwrap_or("unknown");
    let name = &hop.name;
    let Some(parent) = &hop.parent else {
        return Link::broken(match origin {
            "fresh" | "derived" => format!(
                "the hop `{name}` has no producer span as parent: the message came without a \
                 trace context, so whoever sent it is not instrumented, or sent it outside of any \
                 span; instrument it, or take this hop as the beginning"
            ),
            _ => format!("the hop `{name}` has no producer span as parent ({origin})"),
        });
    };
    match spans.iter().find(|span| span.id == *parent) {
        Some(found) if found.leg.is_some() => Link::joined(format!(
            "the hop `{name}` follows the hop `{}` of the task that sent it",
            found.name
        )),
        Some(found) => Link::joined(format!(
            "the hop `{name}` is a child of `{}` ({})",
            found.name, found.service
        )),
        None if origin == "inherited" => Link::broken(format!(
            "the hop `{name}` has as parent span {parent}, which is not in the trace: the task \
             that sent it ran in a worker whose spans have not come here"
        )),
        None => Link::broken(format!(
            "the hop `{name}` has as parent span {parent}, which is not in the trace: the \
             producer's span has not come here yet, goes to another backend, or was dropped by \
             its exporter or a sampler"
        )),
    }
}

/// Whether the message was seen on its way to a worker.
fn delivery(hop: &Span, spans: &[Span]) -> Link {
    if hop.leg.as_deref() == Some("receive") {
        return Link::joined("it was delivered through tracehop, though not sent through it");
    }
    match of_leg(spans, "receive").find(|span| is_same_attempt(hop, span)) {
        Some(receive) => Link::joined(format!("it was delivered: `{}`", receive.name)),
        // The worker says more than the delivery could.
        None if worker_span(hop, spans).is_some() => {
            Link::joined("it was delivered, by another way than through this tracehop")
        }
        None => Link::broken(
            "there is no delivery of it: it still waits in the queue (see `tracehop peek`), its \
             span is not here yet, `spans.receive` is off, or the worker's broker URL does not \
             lead through tracehop",
        ),
    }
}

/// Whether the run of the task hangs from it.
fn worker(hop: &Span, spans: &[Span]) -> Link {
    if let Some(run) = worker_span(hop, spans) {
        return Link::joined(match run.leg {
            Some(_) => format!(
                "the run is told by tracehop's own span `{}`; the worker has none",
                run.name
            ),
            None => format!(
                "the worker's span `{}` ({}) follows it",
                run.name, run.service
            ),
        });
    }
    let elsewhere = spans
        .iter()
        .find(|span| span.leg.is_none() && span.kind == "consumer" && is_same_attempt(hop, span));
    Link::broken(match elsewhere {
        Some(run) => format!(
            "the worker's span `{}` ({}) is in the trace, but hangs from {} and not from the hop: \
             the message passed another proxy or an instrumentation that changed its context",
            run.name,
            run.service,
            run.parent.as_deref().unwrap_or("nothing")
        ),
        None => "the worker's span is not in the trace: the worker is not instrumented (then \
                 `spans.process` makes a span in its place), or ignores the headers (Celery 4 \
                 with protocol 1), or its spans have not come here yet or go to another backend"
            .to_owned(),
    })
}

/// The run: a child of the context that the message carries.
fn worker_span<'a>(hop: &Span, spans: &'a [Span]) -> Option<&'a Span> {
    // A context that was kept is that of the hop's parent, a written one is the hop's own.
    let carried = match hop.kind.as_str() {
        "client" => hop.parent.as_deref().into_iter().collect::<Vec<_>>(),
        _ => vec![hop.id.as_str()],
    };
    let hangs = |span: &&Span| {
        span.parent
            .as_deref()
            .is_some_and(|parent| carried.contains(&parent) || parent == hop.id)
    };
    let is_run = |span: &&Span| span.kind == "consumer" && span.id != hop.id;
    let runs = || spans.iter().filter(is_run).filter(hangs);
    // Siblings of a hop on a kept context are told apart by their task.
    let same = runs().find(|span| is_same_attempt(hop, span) && span.leg.is_none());
    let other = || runs().find(|span| span.task_id.is_none() && span.leg.is_none());
    let ours = || runs().find(|span| is_same_attempt(hop, span));
    same.or_else(other).or_else(ours)
}

fn of_leg<'a>(spans: &'a [Span], leg: &'static str) -> impl Iterator<Item = &'a Span> {
    spans
        .iter()
        .filter(move |span| span.leg.as_deref() == Some(leg))
}

/// Other instrumentations do not tell attempts apart: their spans are of any.
fn is_same_attempt(hop: &Span, span: &Span) -> bool {
    hop.task_id.is_some()
        && hop.task_id == span.task_id
        && (span.leg.is_none() || span.retries == hop.retries)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `leg id<parent`, `kind:name id<parent` of others; all of one task.
    fn spans(text: &str) -> Vec<Span> {
        let span = |text: &str| {
            let (what, place) = text.split_once(' ').unwrap();
            let (id, parent) = place.split_once('<').unwrap();
            let ours = ["send", "sent", "receive", "process"].contains(&what);
            let (kind, name) = match what {
                "send" => ("producer", "send celery"),
                // On a context that was kept.
                "sent" => ("client", "send celery"),
                "receive" => ("client", "receive celery"),
                "process" => ("consumer", "process celery"),
                other => other.split_once(':').unwrap(),
            };
            Span {
                id: id.to_owned(),
                parent: (!parent.is_empty()).then(|| parent.to_owned()),
                service: if ours { "tracehop" } else { "shop" }.to_owned(),
                name: name.to_owned(),
                kind: kind.to_owned(),
                task_id: Some("t".to_owned()),
                task: Some("order".to_owned()),
                leg: ours.then(|| what.replace("sent", "send")),
                origin: ours.then(|| {
                    if parent.is_empty() {
                        "derived"
                    } else {
                        "carried"
                    }
                    .to_owned()
                }),
                ..Span::default()
            }
        };
        text.split(", ").map(span).collect()
    }

    fn joined(text: &str) -> Vec<bool> {
        let chains = chains(&spans(text), None);
        assert_eq!(chains.len(), 1, "{text}");
        chains[0].links.iter().map(|link| link.is_joined).collect()
    }

    #[test]
    fn a_chain_is_joined_where_each_span_hangs_from_the_one_before() {
        for text in [
            "producer:apply w<, send h<w, receive r<h, consumer:run c<h",
            // The hop on a context that was kept is a sibling of the run.
            "producer:apply w<, sent h<w, receive r<w, consumer:run c<w",
            "producer:apply w<, send h<w, receive r<h, process p<h",
            "producer:apply w<, send h<w, consumer:run c<h",
        ] {
            assert_eq!(joined(text), [true, true, true], "{text}");
        }
    }

    #[test]
    fn each_break_is_told_where_it_is() {
        for (text, expected, words) in [
            (
                "send h<, receive r<h, consumer:run c<h",
                [false, true, true],
                "is not instrumented",
            ),
            (
                "sent h<w, receive r<w, consumer:run c<w",
                [false, true, true],
                "which is not in the trace",
            ),
            (
                "producer:apply w<, send h<w",
                [true, false, false],
                "still waits in the queue",
            ),
            (
                "producer:apply w<, send h<w, receive r<h",
                [true, true, false],
                "the worker is not instrumented",
            ),
            (
                "producer:apply w<, send h<w, receive r<h, consumer:run c<x",
                [true, true, false],
                "hangs from x",
            ),
        ] {
            assert_eq!(joined(text), expected, "{text}");
            let links = chains(&spans(text), None).remove(0).links;
            let broken = links.iter().find(|link| !link.is_joined).unwrap();
            assert!(broken.what.contains(words), "{}", broken.what);
        }
    }

    #[test]
    fn only_the_task_that_is_asked_for_is_told_of() {
        let spans = spans("producer:apply w<, send h<w");
        assert_eq!(chains(&spans, Some("t")).len(), 1);
        assert!(chains(&spans, Some("u")).is_empty());
    }
}
