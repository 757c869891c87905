//! `X-Amzn-Trace-Id`, as AWS X-Ray's SDKs and OpenTelemetry's propagator for it write it
//! (<https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader>).

use crate::trace::ForeignContext;
use crate::trace::SpanId;
use crate::trace::TraceId;
use crate::trace::ids::lower_hex_digits;

/// Reads `Root=1-<8 digits>-<24 digits>;Parent=<16 digits>;Sampled=<0 or 1>`, in any order, with
/// or without the last, and with others. Without `Parent` it names a trace and no span, as
/// load balancers write it; that is no context yet.
#[must_use]
pub fn parse(text: &str) -> Option<ForeignContext> {
    let (mut root, mut parent, mut sampled) = (None, None, None);
    for field in text.split(';') {
        match field.trim().split_once('=') {
            Some(("Root", value)) => root = Some(value),
            Some(("Parent", value)) => parent = Some(value),
            Some(("Sampled", "1")) => sampled = Some(true),
            Some(("Sampled", "0")) => sampled = Some(false),
            _ => {}
        }
    }
    let (time, unique) = root?.strip_prefix("1-")?.split_once('-')?;
    let (time, unique) = (lower_hex_digits(time, 8)?, lower_hex_digits(unique, 24)?);
    Some(ForeignContext {
        trace_id: TraceId::from_hex(&[time, unique].concat())?,
        span_id: SpanId::from_hex(lower_hex_digits(parent?, 16)?)?,
        sampled,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trace::foreign::check::check;

    const TRACE: &str = "5759e988bd862e3fe1be46a994272793";
    const SPAN: &str = "53995c3f42cd8ad8";
    const ROOT: &str = "Root=1-5759e988-bd862e3fe1be46a994272793";

    #[test]
    fn a_header_is_read_as_its_writers_write_it() {
        for (text, sampled) in [
            (format!("{ROOT};Parent={SPAN};Sampled=1"), Some(true)),
            (format!("{ROOT};Parent={SPAN};Sampled=0"), Some(false)),
            (format!("{ROOT};Parent={SPAN};Sampled=?"), None),
            (format!("{ROOT};Parent={SPAN}"), None),
            (format!("{ROOT};Parent={SPAN};"), None),
            (
                format!("Sampled=1; Parent={SPAN}; {ROOT};Lineage=25:a87bd80c:1"),
                Some(true),
            ),
            (
                format!("Self=1-67891233-abcdef012345678912345678;{ROOT};Parent={SPAN}"),
                None,
            ),
        ] {
            check(parse, &text, Some((TRACE, SPAN, sampled)));
        }
    }

    #[test]
    fn what_is_short_of_a_context_is_none() {
        for text in [
            String::new(),
            ROOT.to_owned(),
            format!("Parent={SPAN};Sampled=1"),
            format!("{ROOT};Parent={};Sampled=1", "0".repeat(16)),
            format!("{ROOT};Parent={};Sampled=1", &SPAN[1..]),
            format!("{ROOT};Parent={SPAN}0;Sampled=1"),
            format!("{};Parent={SPAN}", ROOT.replace("1-", "2-")),
            format!("{};Parent={SPAN}", ROOT.replace("e988-", "e98-8")),
            format!("{};Parent={SPAN}", ROOT.to_uppercase()),
            format!("Root=1-00000000-{};Parent={SPAN}", "0".repeat(24)),
        ] {
            check(parse, &text, None);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_to_an_end(text in "(Root|Parent|Sampled|[=;0-9a-f-])*|.{0,40}") {
            let _ = parse(&text);
        }
    }
}
