//! `elasticapm`, as Elastic's agents write it: an object that holds a W3C `traceparent`
//! (<https://github.com/elastic/apm-agent-python/blob/main/elasticapm/contrib/celery/__init__.py>).

use crate::trace::ForeignContext;
use crate::trace::w3c;

/// Reads what the object's `trace_parent_string` says.
#[must_use]
pub fn parse(text: &str) -> Option<ForeignContext> {
    let context = w3c::parse_traceparent(text).ok()?;
    Some(ForeignContext {
        trace_id: context.trace_id,
        span_id: context.span_id,
        sampled: Some(context.flags.is_sampled()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::foreign::check::check;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    #[test]
    fn it_is_read_as_a_traceparent() {
        for (flags, sampled) in [("01", true), ("00", false), ("03", true)] {
            let text = format!("00-{TRACE}-{SPAN}-{flags}");
            check(parse, &text, Some((TRACE, SPAN, Some(sampled))));
        }
        for text in ["", "none", &TRACE[1..]] {
            check(parse, text, None);
        }
    }
}
