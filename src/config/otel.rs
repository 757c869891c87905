//! The layer of the `OTEL_…` variables that have a key of ours.
//!
//! By the rules of OpenTelemetry an empty variable counts as not set, words are read in
//! any case, and what cannot be understood is warned about and left aside. Headers,
//! certificates and compression are read where the exporter is built.

use percent_encoding::percent_decode_str;

use crate::config::Environment;
use crate::config::Origin;
use crate::config::Place;
use crate::config::draft::Draft;

/// Lays the variables over the draft.
pub(super) fn apply(draft: &mut Draft, environment: &Environment) {
    apply_exporter(draft, environment, TRACES_EXPORTER, EXPORT_KEY);
    apply_exporter(draft, environment, METRICS_EXPORTER, METRICS_KEY);
    for (name, path, respell) in VARIABLES {
        if let Some(text) = value_of(environment, name).and_then(respell) {
            set(draft, name, path, &text);
        }
    }
    apply_sampler(draft, environment);
}

fn apply_exporter(draft: &mut Draft, environment: &Environment, name: &str, key: &str) {
    let Some(list) = value_of(environment, name).and_then(word) else {
        return;
    };
    let exporters: Vec<&str> = list.split(',').map(str::trim).collect();
    match exporters[..] {
        ["otlp"] => _ = set(draft, name, key, "true"),
        ["none"] => _ = set(draft, name, key, "false"),
        _ if exporters.contains(&"otlp") => {
            set(draft, name, key, "true");
            draft.warn(format!(
                "{name}: otlp is the only exporter there is, the others are ignored"
            ));
        }
        _ => draft.warn(format!("{name} is ignored: neither otlp nor none")),
    }
}

fn apply_sampler(draft: &mut Draft, environment: &Environment) {
    let Some(sampler) = value_of(environment, SAMPLER).and_then(word) else {
        return;
    };
    let ratio = value_of(environment, SAMPLER_ARG).filter(|_| sampler.ends_with("traceidratio"));
    let with_ratio = ratio.map(|ratio| format!("{sampler} {ratio}"));
    let ratio_held = with_ratio.is_some_and(|text| set(draft, SAMPLER_ARG, SAMPLER_KEY, &text));
    if !ratio_held {
        set(draft, SAMPLER, SAMPLER_KEY, &sampler);
    }
}

/// Sets a key, or warns. Says which.
fn set(draft: &mut Draft, name: &str, path: &str, text: &str) -> bool {
    let place = Place::given(Origin::Variable(name.to_owned()), text);
    match draft.try_set(path, text, place) {
        Some(Err(fault)) => {
            draft.warn(format!("{name} is ignored: {}", fault.wrong));
            false
        }
        known => known.is_some(),
    }
}

fn value_of<'a>(environment: &'a Environment, name: &str) -> Option<&'a str> {
    let value = environment.get(name)?.trim();
    (!value.is_empty()).then_some(value)
}

/// A variable, its key, and how its value is said in ours; `None` says nothing.
type Variable = (&'static str, &'static str, fn(&str) -> Option<String>);

/// The later ones win over the earlier ones.
const VARIABLES: [Variable; 16] = [
    ("OTEL_SDK_DISABLED", EXPORT_KEY, disabled),
    ("OTEL_SDK_DISABLED", METRICS_KEY, metrics_disabled),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "telemetry.protocol", word),
    (
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "telemetry.protocol",
        word,
    ),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.endpoint", text),
    (
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "telemetry.traces_endpoint",
        text,
    ),
    (
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
        "telemetry.metrics_endpoint",
        text,
    ),
    (
        "OTEL_METRIC_EXPORT_INTERVAL",
        "telemetry.metrics_interval",
        millis,
    ),
    (
        "OTEL_RESOURCE_ATTRIBUTES",
        "telemetry.service_name",
        service_name,
    ),
    ("OTEL_SERVICE_NAME", "telemetry.service_name", text),
    ("OTEL_BSP_MAX_QUEUE_SIZE", "telemetry.queue_max", text),
    (
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        "telemetry.batch_max",
        text,
    ),
    (
        "OTEL_BSP_SCHEDULE_DELAY",
        "telemetry.schedule_delay",
        millis,
    ),
    (
        "OTEL_BSP_EXPORT_TIMEOUT",
        "telemetry.export_timeout",
        millis,
    ),
    (
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "telemetry.export_timeout",
        millis,
    ),
    (
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
        "telemetry.export_timeout",
        millis,
    ),
];

const TRACES_EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const EXPORT_KEY: &str = "telemetry.export";
const METRICS_EXPORTER: &str = "OTEL_METRICS_EXPORTER";
const METRICS_KEY: &str = "telemetry.metrics";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARG: &str = "OTEL_TRACES_SAMPLER_ARG";
const SAMPLER_KEY: &str = "telemetry.sampler";

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

fn word(value: &str) -> Option<String> {
    Some(value.to_lowercase())
}

fn millis(value: &str) -> Option<String> {
    Some(format!("{value}ms"))
}

fn disabled(value: &str) -> Option<String> {
    match value.to_lowercase().as_str() {
        "true" => text("false"),
        "false" => None,
        other => text(other),
    }
}

/// What is neither is told of once, for spans.
fn metrics_disabled(value: &str) -> Option<String> {
    (value.to_lowercase() == "true").then(|| "false".to_owned())
}

fn service_name(attributes: &str) -> Option<String> {
    attributes.split(',').find_map(|attribute| {
        let (key, value) = attribute.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8_lossy();
        (key.trim() == "service.name").then(|| value.into_owned())
    })
}
