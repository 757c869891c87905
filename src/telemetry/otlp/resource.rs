//! Who sends spans and metrics.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;

use crate::telemetry::otlp::settings::Settings;

/// What all our spans and metrics say they were made by.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: NAME.to_owned(),
        version: VERSION.to_owned(),
        ..InstrumentationScope::default()
    }
}

/// Who we are. `instance` tells this process from its replicas; what the environment says
/// goes before what we know ourselves.
pub(super) fn resource(settings: &Settings, instance: &str) -> Resource {
    let mut attributes = BTreeMap::from([
        ("service.version", VERSION),
        ("service.instance.id", instance),
        ("telemetry.sdk.name", NAME),
        ("telemetry.sdk.language", "rust"),
        ("telemetry.sdk.version", VERSION),
    ]);
    let told = settings.resource_attributes.iter();
    attributes.extend(told.map(|(key, value)| (&**key, &**value)));
    attributes.insert("service.name", &settings.service_name);
    Resource {
        attributes: attributes
            .into_iter()
            .map(|(key, value)| attribute(key, value))
            .collect(),
        ..Resource::default()
    }
}

/// An attribute with a text.
pub(super) fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}

const NAME: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::telemetry::otlp::settings::Signal;

    #[test]
    fn the_environment_knows_better_who_we_are() {
        let told = |attributes: &str| {
            let settings = Settings::read(Signal::Spans, &config::Telemetry::default(), |name| {
                (name == "OTEL_RESOURCE_ATTRIBUTES").then(|| attributes.to_owned())
            });
            let resource = resource(&settings.unwrap(), "instance");
            let keys = ["service.name", "service.instance.id", "team"];
            // Each key is there at most once.
            keys.map(|key| {
                let mut found = resource.attributes.iter().filter(|it| it.key == key);
                let attribute = found.next().cloned();
                assert_eq!(found.next(), None);
                attribute
            })
        };
        let text = |key, text| Some(attribute(key, text));
        let name = text("service.name", "tracehop");
        let instance = text("service.instance.id", "instance");
        assert_eq!(told(""), [name.clone(), instance, None]);
        assert_eq!(
            told("service.name=door,service.instance.id=pod-1,team=a%2Cb"),
            // What of the name's sources counts is settled by the configuration.
            [
                name,
                text("service.instance.id", "pod-1"),
                text("team", "a,b")
            ]
        );
    }
}
