//! `sentry-trace`, as Sentry defines it
//! (<https://develop.sentry.dev/sdk/foundations/trace-propagation/>).

use crate::trace::ForeignContext;
use crate::trace::SpanId;
use crate::trace::TraceId;
use crate::trace::ids::lower_hex_digits;

/// Reads `<trace id>-<span id>[-<sampled>]`, in lower case; sampled is `0` or `1`.
#[must_use]
pub fn parse(text: &str) -> Option<ForeignContext> {
    let mut fields = text.trim_matches([' ', '\t']).split('-');
    let trace_id = lower_hex_digits(fields.next()?, 32)?;
    let span_id = lower_hex_digits(fields.next()?, 16)?;
    let sampled = match fields.next() {
        None => None,
        Some("0") => Some(false),
        Some("1") => Some(true),
        Some(_) => return None,
    };
    if fields.next().is_some() {
        return None;
    }
    Some(ForeignContext {
        trace_id: TraceId::from_hex(trace_id)?,
        span_id: SpanId::from_hex(span_id)?,
        sampled,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::foreign::check::check;

    const TRACE: &str = "734aac03a60e438a8723c0c27a7024c3";
    const SPAN: &str = "ab09b7c3669520f8";

    #[test]
    fn what_the_sdk_writes_is_read() {
        for (text, sampled) in [
            (format!("{TRACE}-{SPAN}-1"), Some(true)),
            (format!("{TRACE}-{SPAN}-0"), Some(false)),
            (format!("{TRACE}-{SPAN}"), None),
            (format!(" {TRACE}-{SPAN}-1\t"), Some(true)),
        ] {
            check(parse, &text, Some((TRACE, SPAN, sampled)));
        }
    }

    #[test]
    fn what_is_short_of_a_context_is_none() {
        let zeros = "0".repeat(32);
        for text in [
            String::new(),
            "-".to_owned(),
            TRACE.to_owned(),
            format!("{TRACE}-"),
            format!("{TRACE}-1"),
            format!("-{SPAN}-1"),
            format!("{SPAN}-{SPAN}-1"),
            format!("{TRACE}-{SPAN}-"),
            format!("{TRACE}-{SPAN}-2"),
            format!("{TRACE}-{SPAN}-1-"),
            format!("{TRACE}-{SPAN}-1-1"),
            format!("00-{TRACE}-{SPAN}-01"),
            format!("{}-{SPAN}-1", TRACE.to_uppercase()),
            format!("{}-{SPAN}-1", TRACE.replace('7', "+")),
            format!("{zeros}-{SPAN}-1"),
            format!("{TRACE}-{}-1", &zeros[..16]),
        ] {
            check(parse, &text, None);
        }
    }
}
