//! Zipkin's B3, in one header or in several (<https://github.com/openzipkin/b3-propagation>).
//!
//! Ids are read in upper case, too, as OpenTelemetry's propagators do. A trace id of 64 bits
//! is one of 128 bits that begins with zeros.

use crate::trace::ForeignContext;
use crate::trace::SpanId;
use crate::trace::TraceId;

/// What the headers `X-B3-…` say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    pub trace_id: Option<&'a str>,
    pub span_id: Option<&'a str>,
    pub sampled: Option<&'a str>,
    pub flags: Option<&'a str>,
}

/// Reads `<trace id>-<span id>[-<sampling>[-<parent span id>]]`. A decision without ids is no
/// context.
#[must_use]
pub fn parse(text: &str) -> Option<ForeignContext> {
    let mut fields = text.split('-');
    let (trace_id, span_id) = (fields.next()?, fields.next()?);
    let sampled = match fields.next() {
        None => None,
        Some(state) => Some(decision(state)?),
    };
    let _parent = fields.next();
    if fields.next().is_some() {
        return None;
    }
    context(trace_id, span_id, sampled)
}

impl Headers<'_> {
    /// The context that the headers give together. What they say of sampling counts only
    /// where it can be read.
    #[must_use]
    pub fn parse(self) -> Option<ForeignContext> {
        let sampled = match (self.flags, self.sampled) {
            // To debug is to record.
            (Some("1"), _) => Some(true),
            (_, Some(state)) => decision(state),
            (_, None) => None,
        };
        context(self.trace_id?, self.span_id?, sampled)
    }
}

fn context(trace_id: &str, span_id: &str, sampled: Option<bool>) -> Option<ForeignContext> {
    if !matches!((trace_id.len(), span_id.len()), (16 | 32, 16)) {
        return None;
    }
    Some(ForeignContext {
        trace_id: TraceId::from_hex(trace_id)?,
        span_id: SpanId::from_hex(span_id)?,
        sampled,
    })
}

fn decision(state: &str) -> Option<bool> {
    match state {
        "1" | "d" => Some(true),
        "0" => Some(false),
        // As it was once written.
        _ if state.eq_ignore_ascii_case("true") => Some(true),
        _ if state.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::foreign::check::check;

    const TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
    const SPAN: &str = "e457b5a2e4d86bd1";
    const PARENT: &str = "05e3ac9a4f6e3b90";

    #[test]
    fn one_header_may_say_more_or_less() {
        let short = format!("0000000000000000{PARENT}");
        for (text, trace_id, sampled) in [
            (format!("{TRACE}-{SPAN}-1-{PARENT}"), TRACE, Some(true)),
            (format!("{TRACE}-{SPAN}-1"), TRACE, Some(true)),
            (format!("{TRACE}-{SPAN}-d"), TRACE, Some(true)),
            (format!("{TRACE}-{SPAN}-0"), TRACE, Some(false)),
            (format!("{TRACE}-{SPAN}"), TRACE, None),
            (format!("{PARENT}-{SPAN}-1"), &*short, Some(true)),
            (
                format!("{}-{SPAN}-1", TRACE.to_uppercase()),
                TRACE,
                Some(true),
            ),
        ] {
            check(parse, &text, Some((trace_id, SPAN, sampled)));
        }
    }

    #[test]
    fn what_is_short_of_a_context_is_none() {
        let zeros = "0".repeat(32);
        for text in [
            String::new(),
            "0".to_owned(),
            "1".to_owned(),
            "d".to_owned(),
            TRACE.to_owned(),
            format!("{TRACE}-"),
            format!("{TRACE}-1"),
            format!("{TRACE}-{SPAN}-"),
            format!("{TRACE}-{SPAN}-2"),
            format!("{TRACE}-{SPAN}-1-{PARENT}-1"),
            format!("{}-{SPAN}-1", &TRACE[1..]),
            format!("{TRACE}-{}-1", &SPAN[1..]),
            format!("{}-{SPAN}-1", TRACE.replace('8', "g")),
            format!("{zeros}-{SPAN}-1"),
            format!("{TRACE}-{}-1", &zeros[..16]),
        ] {
            check(parse, &text, None);
        }
    }

    #[test]
    fn several_headers_say_the_same() {
        let both = Headers {
            trace_id: Some(TRACE),
            span_id: Some(SPAN),
            ..Headers::default()
        };
        for (sampled, flags, decided) in [
            (None, None, None),
            (Some("1"), None, Some(true)),
            (Some("0"), None, Some(false)),
            (Some("true"), None, Some(true)),
            (Some("False"), None, Some(false)),
            (Some("maybe"), None, None),
            (None, Some("1"), Some(true)),
            (Some("0"), Some("1"), Some(true)),
            (Some("0"), Some("0"), Some(false)),
            (None, Some("0"), None),
        ] {
            let headers = Headers {
                sampled,
                flags,
                ..both
            };
            check(|_| headers.parse(), "", Some((TRACE, SPAN, decided)));
        }
        for headers in [
            Headers::default(),
            Headers {
                span_id: None,
                ..both
            },
            Headers {
                trace_id: None,
                ..both
            },
            Headers {
                trace_id: Some(&TRACE[1..]),
                ..both
            },
            Headers {
                sampled: Some("1"),
                ..Headers::default()
            },
        ] {
            check(|_| headers.parse(), "", None);
        }
    }
}
