//! What a collector answers to a request that it takes.

use hyper::HeaderMap;
use hyper::header::CONTENT_TYPE;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use serde_json::Value;

use crate::hop::clean;
use crate::telemetry::otlp::fault::Fault;

/// The answer to a request, which may leave some of it out.
///
/// Those for spans and for metrics are the same on the wire.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// How many spans or data points were left out, for good.
    pub(super) rejected: usize,
    /// Why; or a warning where nothing was left out.
    pub(super) words: String,
}

impl Answer {
    /// The answer of a gRPC call, or of HTTP in the encoding that was asked for.
    pub(super) fn of_protobuf(bytes: &[u8]) -> Result<Self, Fault> {
        let answer = ExportTraceServiceResponse::decode(bytes)
            .map_err(|_| Fault::not_otlp("a message that is not OTLP's"))?;
        let partial = answer.partial_success.unwrap_or_default();
        Ok(Self::new(partial.rejected_spans, &partial.error_message))
    }

    /// The body of an HTTP answer with a status of success. Whatever else listens at a wrong
    /// address (a login page, a default backend) answers with such a status, too.
    pub(super) fn of_http(headers: &HeaderMap, body: &[u8]) -> Result<Self, Fault> {
        let media_type = headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
        let media_type = media_type.and_then(|it| it.split(';').next());
        match media_type.map_or("", str::trim) {
            // Some leave out all that OTLP allows to be empty.
            _ if body.is_empty() => Ok(Self::default()),
            "application/x-protobuf" | "" => Self::of_protobuf(body),
            "application/json" => Self::of_json(body),
            other => Err(Fault::not_otlp(&format!("{:?}", clean(other)))),
        }
    }

    /// Not what was asked for, but clear enough; numbers may stand in quotes.
    fn of_json(body: &[u8]) -> Result<Self, Fault> {
        let Ok(Value::Object(answer)) = serde_json::from_slice(body) else {
            return Err(Fault::not_otlp("JSON that is not OTLP's"));
        };
        let partial = answer.get("partialSuccess").unwrap_or(&Value::Null);
        let rejected = ["rejectedSpans", "rejectedDataPoints"]
            .into_iter()
            .find_map(|key| partial.get(key))
            .and_then(|count| count.as_i64().or_else(|| count.as_str()?.parse().ok()));
        let words = partial.get("errorMessage").and_then(Value::as_str);
        Ok(Self::new(
            rejected.unwrap_or_default(),
            words.unwrap_or_default(),
        ))
    }

    fn new(rejected: i64, words: &str) -> Self {
        Self {
            rejected: usize::try_from(rejected).unwrap_or(0),
            words: clean(words).into_owned(),
        }
    }

    /// Whether there is more to it than that all was taken.
    pub(super) const fn is_complaint(&self) -> bool {
        self.rejected > 0 || !self.words.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsPartialSuccess;
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;

    use super::*;

    const PROTOBUF: &str = "application/x-protobuf";

    fn answer(rejected: usize, words: &str) -> Answer {
        Answer {
            rejected,
            words: words.to_owned(),
        }
    }

    fn of_http(media_type: &'static str, body: &[u8]) -> Result<Answer, String> {
        let mut headers = HeaderMap::new();
        if !media_type.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        }
        Answer::of_http(&headers, body).map_err(|fault| {
            assert_eq!(fault.again_after(), None);
            fault.to_string()
        })
    }

    #[test]
    fn spans_and_data_points_that_were_left_out_are_told() {
        let spans = |rejected_spans, words: &str| {
            let partial_success = Some(ExportTracePartialSuccess {
                rejected_spans,
                error_message: words.to_owned(),
            });
            ExportTraceServiceResponse { partial_success }.encode_to_vec()
        };
        let points = ExportMetricsServiceResponse {
            partial_success: Some(ExportMetricsPartialSuccess {
                rejected_data_points: 4,
                error_message: "too old".to_owned(),
            }),
        };
        for (body, expected) in [
            (Vec::new(), answer(0, "")),
            (spans(0, ""), answer(0, "")),
            (spans(-1, ""), answer(0, "")),
            (spans(3, ""), answer(3, "")),
            (spans(0, "a\nb"), answer(0, "a?b")),
            (points.encode_to_vec(), answer(4, "too old")),
        ] {
            assert_eq!(of_http(PROTOBUF, &body).unwrap(), expected);
            assert_eq!(of_http("", &body).unwrap(), expected);
            assert_eq!(Answer::of_protobuf(&body).unwrap(), expected);
        }
        for (body, expected) in [
            ("{}", answer(0, "")),
            (r#"{"partialSuccess":{}}"#, answer(0, "")),
            (
                r#"{"partialSuccess":{"rejectedSpans":"2","errorMessage":"no"}}"#,
                answer(2, "no"),
            ),
            (
                r#"{"partialSuccess":{"rejectedDataPoints":5}}"#,
                answer(5, ""),
            ),
        ] {
            let found = of_http("application/json; charset=utf-8", body.as_bytes());
            assert_eq!(found.unwrap(), expected);
        }
        assert_eq!(of_http("text/plain", b"").unwrap(), answer(0, ""));
    }

    #[test]
    fn a_page_that_answers_with_success_has_taken_nothing() {
        for (media_type, body, words) in [
            (
                "text/html; charset=utf-8",
                "<html>Sign in</html>",
                "\"text/html\"",
            ),
            ("text/plain", "ok", "\"text/plain\""),
            ("", "<html>", "not OTLP's"),
            (PROTOBUF, "\u{7f}\u{7f}\u{7f}", "not OTLP's"),
            ("application/json", "\"ok\"", "not OTLP's"),
            ("application/json", "{", "not OTLP's"),
        ] {
            let fault = of_http(media_type, body.as_bytes()).unwrap_err();
            assert!(fault.contains(words), "{fault}");
            assert!(fault.contains("check the endpoint"), "{fault}");
        }
    }
}
