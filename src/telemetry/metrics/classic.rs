//! The text format that Prometheus had before OpenMetrics.

/// What OpenMetrics says, in the older text format, for whoever does not ask for the newer
/// one. There a counter is called as its samples are, units and exemplars are unknown, and
/// an info is a gauge.
pub(super) fn classic(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut lines = openmetrics.lines();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let kind = lines.next().unwrap_or_default();
            describe(&mut text, help, kind);
        } else if !line.starts_with('#') {
            // A quote within a label's value is escaped, so this begins an exemplar alone.
            let sample = line.split(" # {trace_id=\"").next().unwrap_or(line);
            push_line(&mut text, &[sample]);
        }
    }
    text
}

/// The lines before the samples of a metric. `kind` is the line that follows `help`.
fn describe(text: &mut String, help: &str, kind: &str) {
    let (name, words) = help.split_once(' ').unwrap_or((help, ""));
    let (_, kind) = kind.rsplit_once(' ').unwrap_or_default();
    let (suffix, kind) = match kind {
        "counter" => ("_total", kind),
        "info" => ("_info", "gauge"),
        _ => ("", kind),
    };
    push_line(text, &["# HELP ", name, suffix, " ", words]);
    push_line(text, &["# TYPE ", name, suffix, " ", kind]);
}

fn push_line(text: &mut String, parts: &[&str]) {
    text.extend(parts.iter().copied());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_kinds_and_samples_are_those_of_the_older_format() {
        let openmetrics = "\
# HELP build The version.
# TYPE build info
build_info{version=\"1\"} 1
# HELP dwell_seconds How long.
# TYPE dwell_seconds histogram
# UNIT dwell_seconds seconds
dwell_seconds_bucket{le=\"0.05\",queue=\"a # {b=\\\"\"} 1 # {trace_id=\"0af7\"} 0.01
dwell_seconds_count{queue=\"a # {trace_id=\\\"\"} 1
# HELP sends Sent.
# TYPE sends counter
sends_total 1
# EOF
";
        let expected = "\
# HELP build_info The version.
# TYPE build_info gauge
build_info{version=\"1\"} 1
# HELP dwell_seconds How long.
# TYPE dwell_seconds histogram
dwell_seconds_bucket{le=\"0.05\",queue=\"a # {b=\\\"\"} 1
dwell_seconds_count{queue=\"a # {trace_id=\\\"\"} 1
# HELP sends_total Sent.
# TYPE sends_total counter
sends_total 1
";
        assert_eq!(classic(openmetrics), expected);
    }
}
