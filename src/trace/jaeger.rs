//! `uber-trace-id`, as Jaeger's clients wrote it
//! (<https://www.jaegertracing.io/sdk-migration/#propagation-format>).

use percent_encoding::percent_decode_str;

use crate::trace::ForeignContext;
use crate::trace::SpanId;
use crate::trace::TraceId;
use crate::trace::ids::hex_digits;

/// Reads `<trace id>:<span id>:<parent span id>:<flags>`, all in hex and with or without
/// leading zeros. The colons may be encoded as in an URL. The parent span id is not used any
/// more, and may be anything.
#[must_use]
pub fn parse(text: &str) -> Option<ForeignContext> {
    let text = percent_decode_str(text).decode_utf8().ok()?;
    let mut fields = text.split(':');
    let (trace_id, span_id) = (fields.next()?, fields.next()?);
    let (_parent, flags) = (fields.next()?, fields.next()?);
    if fields.next().is_some() {
        return None;
    }
    let flags = u8::from_str_radix(hex_digits(flags, 2)?, 16).ok()?;
    Some(ForeignContext {
        trace_id: TraceId::from_hex(trace_id)?,
        span_id: SpanId::from_hex(span_id)?,
        sampled: Some(flags & SAMPLED != 0),
    })
}

/// The other bits are about debugging.
const SAMPLED: u8 = 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trace::foreign::check::check;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    #[test]
    fn a_header_is_read_as_its_writers_write_it() {
        let short = ("00000000000000000123456789abcdef", "0000000000000abc");
        for (text, trace_id, span_id, sampled) in [
            (format!("{TRACE}:{SPAN}:0:1"), TRACE, SPAN, true),
            (format!("{TRACE}:{SPAN}:0:0"), TRACE, SPAN, false),
            (format!("{TRACE}:{SPAN}:0:00"), TRACE, SPAN, false),
            (format!("{TRACE}:{SPAN}:{SPAN}:03"), TRACE, SPAN, true),
            (format!("{TRACE}:{SPAN}::2"), TRACE, SPAN, false),
            (format!("{TRACE}:{SPAN}:0:ff"), TRACE, SPAN, true),
            (format!("{TRACE}%3A{SPAN}%3a0%3A1"), TRACE, SPAN, true),
            (format!("{}:{SPAN}:0:1", &TRACE[1..]), TRACE, SPAN, true),
            (
                format!("{}:{SPAN}:0:1", TRACE.to_uppercase()),
                TRACE,
                SPAN,
                true,
            ),
            ("123456789abcdef:abc:0:1".to_owned(), short.0, short.1, true),
        ] {
            check(parse, &text, Some((trace_id, span_id, Some(sampled))));
        }
    }

    #[test]
    fn what_is_short_of_a_context_is_none() {
        for text in [
            String::new(),
            ":::".to_owned(),
            format!("{TRACE}:{SPAN}"),
            format!("{TRACE}:{SPAN}:0"),
            format!("{TRACE}:{SPAN}:0:"),
            format!("{TRACE}:{SPAN}:0:1:"),
            format!("{TRACE}:{SPAN}:0:100"),
            format!("{TRACE}:{SPAN}:0:-1"),
            format!("{TRACE}:{SPAN}:0:+1"),
            format!("{TRACE}:{SPAN}:0:g"),
            format!("0{TRACE}:{SPAN}:0:1"),
            format!("{TRACE}:0{SPAN}:0:1"),
            format!("0:{SPAN}:0:1"),
            format!("{TRACE}:0:0:1"),
            format!("+1:{SPAN}:0:1"),
            format!(":{SPAN}:0:1"),
            format!("{TRACE}-{SPAN}-0-1"),
            format!("{TRACE}%3A{SPAN}%3A0%3A%ff"),
        ] {
            check(parse, &text, None);
        }
    }

    proptest! {
        #[test]
        fn ids_come_out_as_they_were_written(
            long_id in 1..=u128::MAX,
            span_id in 1..=u64::MAX,
            flags: u8,
            shorter in 0..128,
        ) {
            let trace_id = u128::max(long_id >> shorter, 1);
            let text = format!("{trace_id:x}:{span_id:x}:0:{flags:x}");
            let [trace_id, span_id] = [format!("{trace_id:032x}"), format!("{span_id:016x}")];
            check(parse, &text, Some((&trace_id, &span_id, Some(flags % 2 == 1))));
        }

        #[test]
        fn any_text_is_read_to_an_end(text in "[0-9a-f:%\\-+ \u{fc}]{0,70}|.{0,40}") {
            let _ = parse(&text);
            let _ = crate::trace::sentry::parse(&text);
            let _ = crate::trace::b3::parse(&text);
        }
    }
}
