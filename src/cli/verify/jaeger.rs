//! Traces out of Jaeger's query API.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::cli::verify::trace::Span;

/// What `/api/traces` answers.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    #[serde(default)]
    data: Option<Vec<Trace>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Trace {
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(default)]
    spans: Vec<JaegerSpan>,
    #[serde(default)]
    processes: BTreeMap<String, Process>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct JaegerSpan {
    #[serde(rename = "spanID")]
    span_id: String,
    #[serde(default)]
    operation_name: String,
    #[serde(default)]
    references: Option<Vec<Reference>>,
    #[serde(default)]
    tags: Option<Vec<Tag>>,
    #[serde(default, rename = "processID")]
    process_id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    ref_type: String,
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(rename = "spanID")]
    span_id: String,
}

#[derive(Debug, Deserialize)]
struct Tag {
    key: String,
    value: Value,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    #[serde(default)]
    service_name: String,
}

impl Answer {
    /// The traces: id and spans.
    pub(super) fn traces(self) -> Vec<(String, Vec<Span>)> {
        let traces = self.data.unwrap_or_default().into_iter();
        traces
            .map(|trace| {
                let spans = trace.spans.iter().map(|span| read(span, &trace)).collect();
                (trace.trace_id, spans)
            })
            .collect()
    }
}

fn read(span: &JaegerSpan, trace: &Trace) -> Span {
    let tags = span.tags.as_deref().unwrap_or_default();
    let tag = |names: &[&str]| {
        let tag = tags.iter().find(|tag| names.contains(&&*tag.key))?;
        Some(match &tag.value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    };
    let references = span.references.as_deref().unwrap_or_default();
    let parent = references
        .iter()
        .find(|reference| reference.ref_type == "CHILD_OF" && reference.trace_id == trace.trace_id);
    let process = trace.processes.get(&span.process_id);
    // The scope is told by collectors that are not too old; the route by every span of ours.
    let is_ours = tag(&["tracehop.route"]).is_some();
    Span {
        id: span.span_id.clone(),
        parent: parent.map(|parent| parent.span_id.clone()),
        service: process
            .map(|process| process.service_name.clone())
            .unwrap_or_default(),
        name: span.operation_name.clone(),
        kind: tag(&["span.kind"]).unwrap_or_default(),
        // The first is OpenTelemetry's of today, the others what instrumentations write.
        task_id: tag(&[
            "messaging.message.id",
            "messaging.message_id",
            "celery.task_id",
        ]),
        task: tag(&["celery.task_name"]),
        retries: tag(&["celery.retries"])
            .and_then(|count| count.parse().ok())
            .unwrap_or(0),
        leg: tag(&["messaging.operation.name"]).filter(|_| is_ours),
        origin: tag(&["tracehop.context.origin"]),
    }
}
