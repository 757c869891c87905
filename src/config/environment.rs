//! The layer of the `TRACEHOP_…` variables.
//!
//! Every key has one: `TRACEHOP_LIMITS_HOLD_BYTES_MAX`, `TRACEHOP_ROUTES_REDIS_LISTEN`.
//! `TRACEHOP_LISTEN`, `TRACEHOP_UPSTREAM` and `TRACEHOP_PROTOCOL` make a single route.

use crate::config::Environment;
use crate::config::Origin;
use crate::config::Place;
use crate::config::draft::Draft;
use crate::config::keys::KEYS;
use crate::config::keys::ROUTE_KEYS;
use crate::config::keys::is_route_name;
use crate::config::spelling::nearest;

/// The variable that names the file; read by the command line.
pub const CONFIG_VARIABLE: &str = "TRACEHOP_CONFIG";

/// The route that the short variables make, and the flags.
pub(super) const SINGLE_ROUTE: &str = "default";

/// Lays the variables over the draft.
pub(super) fn apply(draft: &mut Draft, environment: &Environment) {
    for (name, value) in environment {
        if !name.starts_with(PREFIX) || name == CONFIG_VARIABLE {
            continue;
        }
        let place = Place::given(Origin::Variable(name.clone()), value);
        if let Some(path) = path_of(name) {
            draft.set(&path, value, place);
        } else if !is_service_link(name, value) {
            // Not shown with its value, which may be anything.
            draft.complain(
                format!("unknown variable `{name}`"),
                None,
                remedy_for_unknown(name),
            );
        }
    }
}

/// Whether any of the variables is about the single route.
pub(super) fn makes_route(environment: &Environment) -> bool {
    ROUTE_KEYS
        .iter()
        .any(|key| environment.contains_key(&variable(key.path)))
}

/// The variable of the key `path`.
pub(super) fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.to_uppercase().replace(['.', '-'], "_"))
}

/// The key whose variable is `name`.
fn path_of(name: &str) -> Option<String> {
    if let Some(key) = KEYS.iter().find(|key| variable(key.path) == name) {
        return Some(key.path.to_owned());
    }
    if let Some(key) = ROUTE_KEYS.iter().find(|key| variable(key.path) == name) {
        return Some(format!("routes.{SINGLE_ROUTE}.{}", key.path));
    }
    let route_and_key = name.strip_prefix(&variable("routes."))?;
    let (route, key) = ROUTE_KEYS.iter().find_map(|key| {
        let route = route_and_key.strip_suffix(&key.path.to_uppercase())?;
        Some((route.strip_suffix('_')?, key))
    })?;
    let route = route.to_lowercase().replace('_', "-");
    is_route_name(&route).then(|| format!("routes.{route}.{}", key.path))
}

/// Kubernetes gives every pod the addresses of the Services in its namespace. One that is
/// called `tracehop`, or `tracehop-redis`, makes variables that look like ours:
/// `TRACEHOP_SERVICE_HOST`, `TRACEHOP_PORT`, `TRACEHOP_REDIS_PORT_6379_TCP_ADDR`.
fn is_service_link(name: &str, value: &str) -> bool {
    let after_port = name.split_once("_PORT_").map(|(_, after)| after);
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || after_port.is_some_and(|after| after.starts_with(|first: char| first.is_ascii_digit()))
        || (name.ends_with("_PORT") && value.contains("://"))
}

fn remedy_for_unknown(name: &str) -> String {
    let keys = KEYS.iter().map(|key| variable(key.path));
    let known: Vec<String> = keys
        .chain(ROUTE_KEYS.iter().map(|key| variable(key.path)))
        .collect();
    match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "variables are called after the keys, as TRACEHOP_LIMITS_HOLD_BYTES_MAX after \
                 limits.hold_bytes_max"
            .to_owned(),
    }
}

const PREFIX: &str = "TRACEHOP_";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_variable_of_its_own() {
        for key in KEYS {
            assert_eq!(path_of(&variable(key.path)).as_deref(), Some(key.path));
        }
        for key in ROUTE_KEYS {
            for route in ["redis", "my-redis-2", "listen", "default", "port-1"] {
                let path = format!("routes.{route}.{}", key.path);
                assert_eq!(path_of(&variable(&path)), Some(path));
            }
            let path = format!("routes.{SINGLE_ROUTE}.{}", key.path);
            assert_eq!(path_of(&variable(key.path)), Some(path));
        }
    }

    #[test]
    fn what_kubernetes_sets_for_a_service_is_told_apart() {
        for (name, value) in [
            ("TRACEHOP_SERVICE_HOST", "10.0.0.1"),
            ("TRACEHOP_SERVICE_PORT", "6379"),
            ("TRACEHOP_SERVICE_PORT_REDIS", "6379"),
            ("TRACEHOP_PORT", "tcp://10.0.0.1:6379"),
            ("TRACEHOP_PORT_6379_TCP", "tcp://10.0.0.1:6379"),
            ("TRACEHOP_PORT_6379_TCP_PROTO", "tcp"),
            ("TRACEHOP_ADMIN_PORT_9464_TCP_PORT", "9464"),
            ("TRACEHOP_ADMIN_PORT_9464_TCP_ADDR", "10.0.0.1"),
        ] {
            assert!(
                path_of(name).is_none() && is_service_link(name, value),
                "{name}"
            );
        }
        for name in [
            "TRACEHOP_PORT",
            "TRACEHOP_ADMIN_PORT",
            "TRACEHOP_PORT_REDIS",
        ] {
            assert!(!is_service_link(name, "9464"), "{name}");
        }
    }
}
