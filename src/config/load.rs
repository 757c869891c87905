//! From the layers to a [`Config`], and back to a file.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::path::PathBuf;

use serde::Serialize;

use crate::config::Complaints;
use crate::config::Config;
use crate::config::Origin;
use crate::config::Place;
use crate::config::draft::Draft;
use crate::config::environment;
use crate::config::file;
use crate::config::keys::Key;
use crate::config::keys::ROUTE_KEYS;
use crate::config::keys::RouteDraft;
use crate::config::keys::SECTIONS;
use crate::config::keys::keys_in;
use crate::config::otel;

/// What a configuration is made from. Loading it again after the file has changed gives
/// the configuration anew. Not for printing: flags and variables may hold secrets.
#[derive(Clone, Default)]
pub struct Sources {
    pub file: Option<PathBuf>,
    pub environment: Environment,
    pub flags: Vec<Flag>,
}

/// Variables by name.
pub type Environment = BTreeMap<String, String>;

/// A key set on the command line.
#[derive(Clone)]
pub struct Flag {
    /// As it is typed, dashes included.
    pub name: &'static str,
    /// The key, as in `limits.hold_bytes_max`.
    pub path: &'static str,
    pub value: String,
}

/// A configuration and how it came about.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// What was set aside without being a mistake; for the log.
    pub warnings: Vec<String>,
    /// What set each key that does not have its default, by path.
    pub(super) origins: BTreeMap<String, Origin>,
}

/// One key, as it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// As in `limits.hold_bytes_max`.
    pub key: String,
    /// As a variable has it: a text without quotes, a list with commas in between.
    pub value: String,
    /// What set it: `default`, `file`, or the name of a variable or a flag.
    pub origin: String,
    #[serde(skip)]
    is_list: bool,
}

impl Sources {
    /// Reads everything, or says everything that is wrong.
    pub fn load(&self) -> Result<Loaded, Complaints> {
        let mut draft = Draft::new();
        if let Some(path) = &self.file {
            read_file(&mut draft, path);
        }
        self.lay_over(draft)
    }

    /// Lays everything but the file over what is there.
    fn lay_over(&self, mut draft: Draft) -> Result<Loaded, Complaints> {
        let flags_make_route = self
            .flags
            .iter()
            .any(|flag| flag.path.starts_with("routes."));
        if flags_make_route || environment::makes_route(&self.environment) {
            draft.replace_routes();
        }
        otel::apply(&mut draft, &self.environment);
        environment::apply(&mut draft, &self.environment);
        for Flag { name, path, value } in &self.flags {
            let place = Place::given(Origin::Flag(name), value);
            let known = draft.set(path, value, place);
            debug_assert!(known, "{name} stands for {path}");
        }
        draft.finish()
    }
}

fn read_file(draft: &mut Draft, path: &Path) {
    match std::fs::read_to_string(path) {
        Ok(text) => file::apply(draft, &path.display().to_string(), &text),
        Err(error) => {
            draft.mark_incomplete();
            draft.complain(
                format!("cannot read {}: {error}", path.display()),
                None,
                "name a file with --config or TRACEHOP_CONFIG, or none at all",
            );
        }
    }
}

impl Loaded {
    /// A file that loads to the same configuration, each value with what set it.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut toml = String::new();
        let mut section = String::new();
        for setting in self.settings() {
            let (home, name) = setting.key.rsplit_once('.').unwrap_or(("", &setting.key));
            if home != section {
                home.clone_into(&mut section);
                let _ = writeln!(toml, "\n[{section}]");
            }
            let line = format!("{name} = {}", setting.written());
            let _ = writeln!(toml, "{line:44} # {}", setting.origin);
        }
        toml
    }

    /// Every key with its value, a section at a time. There is no secret among them.
    #[must_use]
    pub fn settings(&self) -> Vec<Setting> {
        let in_section =
            |section| keys_in(section).map(|(_, key)| self.setting("", key, &self.config));
        let of_routes = self.config.routes.iter().flat_map(|route| {
            let home = format!("routes.{}.", route.name);
            let draft = RouteDraft::from(route);
            ROUTE_KEYS
                .iter()
                .map(move |key| self.setting(&home, key, &draft))
        });
        let of_sections = SECTIONS.into_iter().flat_map(in_section);
        in_section("").chain(of_routes).chain(of_sections).collect()
    }

    fn setting<T>(&self, home: &str, key: &Key<T>, of: &T) -> Setting {
        let path = format!("{home}{}", key.path);
        let origin = match self.origins.get(&path) {
            Some(Origin::File(_)) => "file".to_owned(),
            Some(origin) => origin.to_string(),
            None => "default".to_owned(),
        };
        Setting {
            key: path,
            value: (key.write)(of),
            origin,
            is_list: key.is_list,
        }
    }
}

impl Setting {
    /// The value as a file has it.
    fn written(&self) -> String {
        if !self.is_list {
            return literal(&self.value);
        }
        let texts = self.value.split(',').filter(|text| !text.is_empty());
        toml::Value::from(texts.collect::<Vec<_>>()).to_string()
    }
}

/// Numbers and truth values stand as they are, all else in quotes.
fn literal(value: &str) -> String {
    let whole = value
        .parse::<u64>()
        .is_ok_and(|number| number.to_string() == value);
    let fraction = value.contains('.')
        && value
            .parse::<f64>()
            .is_ok_and(|number| number.to_string() == value);
    if whole || fraction || ["true", "false"].contains(&value) {
        value.to_owned()
    } else {
        toml::Value::from(value).to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Mode;
    use crate::config::MovingAddress;
    use crate::config::OtlpProtocol;
    use crate::config::Protocol;
    use crate::config::Route;
    use crate::config::Upstream;
    use crate::config::UpstreamTls;
    use crate::config::keys::KEYS;

    const PROXY_TOML: &str = include_str!("../../proxy.toml");

    const ROUTE: &str = "[routes.redis]\nlisten = ':1'\nupstream = 'redis://broker'\n";

    /// Loads a file with this text under these variables.
    fn load(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, Complaints> {
        let mut draft = Draft::new();
        file::apply(&mut draft, "proxy.toml", text);
        let variables = variables.iter();
        let sources = Sources {
            environment: variables
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            ..Sources::default()
        };
        sources.lay_over(draft)
    }

    /// The line of `check` about a key.
    fn line<'a>(toml: &'a str, key: &str) -> &'a str {
        let is_about = |line: &&str| line.split(" = ").next() == Some(key);
        toml.lines().find(is_about).unwrap()
    }

    /// Asserts what the complaints are, each beginning with its place.
    fn assert_complaints(text: &str, variables: &[(&str, &str)], expected: &[&str]) {
        let Err(complaints) = load(text, variables) else {
            panic!("this was taken: {text} {variables:?}");
        };
        let complaints = complaints.iter().map(|complaint| match &complaint.place {
            Some(place) => format!("{place}: {}", complaint.wrong),
            None => complaint.wrong.clone(),
        });
        assert_eq!(complaints.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_file_that_comes_along_holds_every_default() {
        let loaded = load(PROXY_TOML, &[]).unwrap();
        let route = |name: &str, protocol, listen, scheme, port| Route {
            name: name.into(),
            protocol,
            listen: ([127, 0, 0, 1], listen).into(),
            transparent: false,
            moving_address: MovingAddress::default(),
            tls: None,
            upstream_tls: UpstreamTls::default(),
            upstream: vec![Upstream {
                scheme,
                host: "127.0.0.1".into(),
                port,
            }],
        };
        let rabbitmq = route("rabbitmq", Protocol::Amqp, 5673, "amqp", 5672);
        let redis = route("redis", Protocol::Redis, 6380, "redis", 6379);
        assert_eq!(loaded.config, Config::new(vec![rabbitmq, redis]));
        for key in KEYS {
            assert!(loaded.origins.contains_key(key.path), "{}", key.path);
        }
        for key in ROUTE_KEYS {
            let path = format!("routes.redis.{}", key.path);
            assert!(loaded.origins.contains_key(&path), "{path}");
        }
    }

    #[test]
    fn what_is_written_loads_to_the_same() {
        // For each key the first of these that is a value of it and not its default.
        let values = [
            "7",
            "7s",
            "7KiB",
            "false",
            "true",
            "0.7",
            "observe",
            "delivery",
            "pass",
            "restamp",
            "grpc",
            "json",
            "debug",
            "always_off",
            "127.0.0.1:1",
            "https://collector:1",
            "https://jaeger/trace/{trace_id}",
        ];
        let defaults = Config::new(Vec::new());
        let mut text = String::new();
        for key in KEYS {
            let mut config = defaults.clone();
            let other = values
                .iter()
                .find(|value| (key.read)(&mut config, value).is_ok() && config != defaults);
            assert!(other.is_some(), "{}", key.path);
            let setting = Setting {
                key: key.path.to_owned(),
                value: (key.write)(&config),
                origin: String::new(),
                is_list: key.is_list,
            };
            text.push_str(&format!("{} = {}\n", key.path, setting.written()));
        }
        text.push_str(
            "routes.a = { listen = '[::1]:0', upstream = 'redis://[::1];redis://u:p@b:1/0' }\n",
        );
        text.push_str(
            "routes.b = { protocol = 'amqp', listen = ':2', upstream = 'amqps://b', \
             upstream_server_name = 'c', upstream_verify = false }\n",
        );

        let loaded = load(&text, &[]).unwrap();
        assert_eq!(loaded.config.policy.mode, Mode::Observe);
        assert!(!loaded.config.rollout.queues.admits("7"));
        assert_eq!(loaded.config.rollout.inject_ratio.to_string(), "0.7");
        assert_eq!(loaded.config.routes.len(), 2);
        let written = loaded.to_toml();
        let (_, sections) = written.split_once("\n[policy]\n").unwrap();
        assert!(!sections.contains("# default"), "{written}");
        assert_eq!(load(&written, &[]).unwrap().config, loaded.config);
    }

    #[test]
    fn later_layers_win_key_by_key() {
        let text = "[telemetry]\nservice_name = 'a'\nqueue_max = 1000\nbatch_max = 10\n";
        let loaded = load(
            &format!("{ROUTE}{text}"),
            &[
                ("OTEL_SERVICE_NAME", "b"),
                ("OTEL_BSP_MAX_QUEUE_SIZE", "2000"),
                ("TRACEHOP_TELEMETRY_SERVICE_NAME", "c"),
            ],
        );
        let toml = loaded.unwrap().to_toml();
        for (key, value, origin) in [
            ("service_name", "\"c\"", "TRACEHOP_TELEMETRY_SERVICE_NAME"),
            ("queue_max", "2000", "OTEL_BSP_MAX_QUEUE_SIZE"),
            ("batch_max", "10", "file"),
            ("schedule_delay", "\"5s\"", "default"),
        ] {
            let line: Vec<&str> = line(&toml, key).split_whitespace().collect();
            assert_eq!(line, [key, "=", value, "#", origin]);
        }
    }

    #[test]
    fn variables_change_routes_and_add_them() {
        let loaded = load(
            &format!("{ROUTE}[routes.other-one]\nlisten = ':2'\n"),
            &[
                ("TRACEHOP_ROUTES_REDIS_LISTEN", ":3"),
                ("TRACEHOP_ROUTES_OTHER_ONE_UPSTREAM", "redis://other"),
                ("TRACEHOP_ROUTES_NEW_LISTEN", ":4"),
                ("TRACEHOP_ROUTES_NEW_UPSTREAM", "redis://new"),
            ],
        );
        let routes = loaded.unwrap().config.routes;
        let routes = routes
            .iter()
            .map(|route| (&*route.name, route.listen.port()));
        assert_eq!(
            routes.collect::<Vec<_>>(),
            [("new", 4), ("other-one", 2), ("redis", 3)]
        );
    }

    #[test]
    fn the_single_route_of_variables_takes_the_place_of_all_others() {
        let short = [
            ("TRACEHOP_LISTEN", ":3"),
            ("TRACEHOP_UPSTREAM", "redis://b"),
        ];
        let routes = load(ROUTE, &short).unwrap().config.routes;
        assert_eq!(routes.len(), 1);
        assert_eq!(
            (&*routes[0].name, routes[0].protocol),
            ("default", Protocol::Auto)
        );
        assert_complaints(ROUTE, &short[..1], &["route `default` has no `upstream`"]);
    }

    #[test]
    fn opentelemetry_is_followed_as_it_defines_its_variables() {
        let loaded = load(
            &format!("{ROUTE}[telemetry]\nprotocol = 'grpc'\ntraces_endpoint = 'http://a:1'\n"),
            &[
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "HTTP/Protobuf"),
                ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", ""),
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://b:2"),
                ("OTEL_RESOURCE_ATTRIBUTES", "a=b, service.name = shop ,c=d"),
                ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
                ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
                ("OTEL_BSP_SCHEDULE_DELAY", "250"),
                ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
                ("OTEL_TRACES_EXPORTER", "otlp"),
                ("OTEL_METRICS_EXPORTER", "otlp"),
                ("OTEL_METRIC_EXPORT_INTERVAL", "15000"),
                ("OTEL_SDK_DISABLED", "True"),
            ],
        );
        let loaded = loaded.unwrap();
        let telemetry = loaded.config.telemetry;
        assert_eq!(telemetry.protocol, OtlpProtocol::HttpProtobuf);
        assert_eq!(telemetry.endpoint.as_deref(), Some("http://b:2"));
        assert_eq!(telemetry.traces_endpoint, None);
        assert_eq!(telemetry.service_name, "shop");
        assert_eq!(
            telemetry.sampler.to_string(),
            "parentbased_traceidratio 0.25"
        );
        assert_eq!(telemetry.schedule_delay, Duration::from_millis(250));
        assert!(!telemetry.export && !telemetry.metrics);
        assert_eq!(telemetry.metrics_interval, Duration::from_secs(15));
        assert_eq!(telemetry.batch_max, 100);
        assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    }

    #[test]
    fn an_export_takes_as_long_as_the_configuration_says() {
        const PROCESSOR: (&str, &str) = ("OTEL_BSP_EXPORT_TIMEOUT", "2000");
        const EXPORTER: (&str, &str) = ("OTEL_EXPORTER_OTLP_TIMEOUT", "20000");
        const TRACES: (&str, &str) = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "60000");
        const NO_TIME: (&str, &str) = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0");
        for (variables, seconds) in [
            (&[][..], 10),
            (&[PROCESSOR], 2),
            (&[PROCESSOR, EXPORTER], 20),
            (&[EXPORTER, TRACES], 60),
            (&[EXPORTER, NO_TIME], 20),
        ] {
            let telemetry = load(ROUTE, variables).unwrap().config.telemetry;
            assert_eq!(telemetry.export_timeout, Duration::from_secs(seconds));
        }
        let in_file = format!("{ROUTE}[telemetry]\nexport_timeout = '45s'\n");
        let telemetry = load(&in_file, &[]).unwrap().config.telemetry;
        assert_eq!(telemetry.export_timeout, Duration::from_secs(45));
    }

    #[test]
    fn of_a_list_of_exporters_ours_is_taken() {
        for (list, export, warnings) in [
            ("otlp", true, 0),
            ("None", false, 0),
            ("otlp,console", true, 1),
            ("zipkin, OTLP", true, 1),
            ("otlp,none", true, 1),
            // What the file says holds.
            ("console", false, 1),
            ("none,console", false, 1),
        ] {
            let text = format!("{ROUTE}[telemetry]\nexport = false\n");
            let loaded = load(&text, &[("OTEL_TRACES_EXPORTER", list)]).unwrap();
            let found = (loaded.config.telemetry.export, loaded.warnings.len());
            assert_eq!(found, (export, warnings), "{list}");
        }
    }

    #[test]
    fn what_opentelemetry_would_not_take_is_a_warning() {
        let variables = [
            ("OTEL_SDK_DISABLED", "yes"),
            ("OTEL_TRACES_EXPORTER", "console"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://u:secret@host"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "half"),
            ("OTEL_BSP_EXPORT_TIMEOUT", "5s"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ];
        let loaded = load(ROUTE, &variables).unwrap();
        let warnings = loaded.warnings.join("\n");
        for (name, _) in variables
            .iter()
            .filter(|(name, _)| *name != "OTEL_TRACES_SAMPLER")
        {
            assert!(warnings.contains(name), "{name}: {warnings}");
        }
        assert!(!warnings.contains("secret"));
        let sampler = loaded.config.telemetry.sampler.to_string();
        assert_eq!(sampler, "parentbased_traceidratio 1");
    }

    #[test]
    fn every_mistake_is_told_in_its_place() {
        assert_complaints(
            "drain_grace = 5\ngrace = 1\nlimits = 1\n[routes.redis]\nlisten = 'x'\nport = 1\n\
             [routes.X]\n[log]\nlevel = ['info']\n\"policy.mode\" = 1\n[policy.mode]\n[[admin]]\n",
            &[
                ("TRACEHOP_LOG_FORMAT", "xml"),
                ("TRACEHOP_FORMAT", "secret"),
            ],
            &[
                "proxy.toml:1:15: `drain_grace`: not a length of time",
                "proxy.toml:2:1: unknown key `grace`",
                "proxy.toml:3:1: `limits`: not a table",
                "proxy.toml:4:9: route `redis` has no `upstream`",
                "proxy.toml:5:10: `routes.redis.listen`: not an IP address and a port",
                "proxy.toml:6:1: unknown key `routes.redis.port`",
                "proxy.toml:7:9: `X` cannot be the name of a route",
                "proxy.toml:9:9: `log.level`: not a single value",
                "proxy.toml:10:1: unknown key `log.policy.mode`",
                "proxy.toml:11:1: `policy.mode`: not a single value",
                "proxy.toml:12:3: `admin`: not a table",
                "TRACEHOP_LOG_FORMAT: `log.format`: no such choice",
                "unknown variable `TRACEHOP_FORMAT`",
            ],
        );
    }

    #[test]
    fn lists_are_arrays_in_the_file_and_have_commas_elsewhere() {
        let text = "[rollout]\nqueues_deny = ['legacy.*', ' mail ']\ntasks_allow = ['a']\n\
                    tasks_deny = ['b']\ninject_ratio = 0.25\n";
        let variables = [
            ("TRACEHOP_ROLLOUT_TASKS_ALLOW", "shop.*, celery.?"),
            ("TRACEHOP_ROLLOUT_TASKS_DENY", ""),
        ];
        let toml = load(&format!("{ROUTE}{text}"), &variables)
            .unwrap()
            .to_toml();
        for (key, value, origin) in [
            ("queues_allow", "[]", "default"),
            ("queues_deny", "[\"legacy.*\", \"mail\"]", "file"),
            (
                "tasks_allow",
                "[\"shop.*\", \"celery.?\"]",
                "TRACEHOP_ROLLOUT_TASKS_ALLOW",
            ),
            ("tasks_deny", "[]", "TRACEHOP_ROLLOUT_TASKS_DENY"),
            ("inject_ratio", "0.25", "file"),
        ] {
            let (told, from) = line(&toml, key).split_once(" # ").unwrap();
            assert_eq!(told.trim_end(), format!("{key} = {value}"));
            assert_eq!(from, origin);
        }
        assert_complaints(
            &format!(
                "{ROUTE}[rollout]\nqueues_allow = 'a'\nqueues_deny = [\n  'a', 5, [],\n  ' ']\n\
                 tasks_allow = ['a,b']\ninject_ratio = 2\n"
            ),
            &[("TRACEHOP_ROLLOUT_TASKS_DENY", "a,")],
            &[
                "proxy.toml:5:16: `rollout.queues_allow`: not an array",
                "proxy.toml:7:8: `rollout.queues_deny`: not a text",
                "proxy.toml:7:11: `rollout.queues_deny`: not a text",
                "proxy.toml:8:3: `rollout.queues_deny`: an empty text",
                "proxy.toml:9:16: `rollout.tasks_allow`: a text with a comma in it",
                "proxy.toml:10:16: `rollout.inject_ratio`: not a ratio",
                "TRACEHOP_ROLLOUT_TASKS_DENY: `rollout.tasks_deny`: an empty pattern",
            ],
        );
    }

    #[test]
    fn what_one_setting_leaves_another_nothing_to_do_for_is_no_mistake() {
        for text in [
            "policy = { mode = 'observe', inject_on = 'both' }",
            "spans = { send = false, receive = false }",
            "rollout = { inject_ratio = 0, queues_allow = ['a'], queues_deny = ['*'] }",
        ] {
            assert!(load(&format!("{text}\n{ROUTE}"), &[]).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_is_not_toml_does_not_hide_other_mistakes() {
        assert_complaints(
            "drain_grace = 5s\n[limits]\npending_max 5\nhold_bytes_max = '1MB'\n[policy]\n\
             mode = inject\non_valid = 'keeep'\nmode = 'inject'\n[log]\nlevel: info\n[policy]\n",
            &[],
            &[
                "proxy.toml:1:15: not TOML: a value without quotes",
                "proxy.toml:3:13: not TOML: key with no value, expected `=`",
                "proxy.toml:4:18: `limits.hold_bytes_max`: not a size",
                "proxy.toml:6:8: not TOML: a value without quotes",
                "proxy.toml:7:12: `policy.on_valid`: no such choice",
                "proxy.toml:8:1: not TOML: given twice",
                "proxy.toml:10:8: not TOML: key with no value, expected `=`",
                "proxy.toml:11:2: not TOML: given twice",
            ],
        );
    }

    #[test]
    fn what_does_not_go_together_is_told() {
        for (text, expected) in [
            ("", "there is no route, so nothing would be proxied"),
            (
                "[routes.a]\nlisten = ':1'\nupstream = 'redis://localhost:1'",
                "proxy.toml:3:12: `routes.a.upstream`: leads back to 0.0.0.0:1, where this route \
                 listens",
            ),
            (
                "[routes.a]\nprotocol = 'amqp'\nlisten = ':1'\nupstream = 'amqp://b;redis://b'",
                "proxy.toml:4:12: `routes.a.upstream`: a `redis://` URL, while the protocol is \
                 `amqp`",
            ),
            (
                "[routes.a]\nlisten = ':9464'\nupstream = 'redis://b'",
                "proxy.toml:2:10: `routes.a.listen`: 0.0.0.0:9464 is taken by `admin.listen` (its \
                 default)",
            ),
            (
                "[routes.a]\nlisten = ':1'\nupstream = 'redis://b'\n\
                 [routes.b]\nlisten = '127.0.0.1:1'\nupstream = 'redis://b'",
                "proxy.toml:5:10: `routes.b.listen`: 0.0.0.0:1 is taken by `routes.a.listen` \
                 (proxy.toml:2:10)",
            ),
            (
                "limits.hold_bytes_max = '1GiB'\nroutes.a = { listen = ':1', upstream = 'redis://b' }",
                "proxy.toml:1:25: `limits.hold_bytes_max`: more than `limits.hold_total_bytes_max` \
                 allows for all sessions together",
            ),
        ] {
            assert_complaints(text, &[], &[expected]);
        }
        let free_ports = "[routes.a]\nlisten = ':0'\nupstream = 'redis://b'\n\
                          [routes.b]\nlisten = ':0'\nupstream = 'redis://b'\n\
                          [admin]\nlisten = ':0'";
        assert!(load(free_ports, &[]).is_ok());
    }

    #[test]
    fn a_transparent_route_has_the_brokers_that_apps_mean() {
        let route = "[routes.a]\nlisten = ':1'\ntransparent = true\n";
        let loaded = load(route, &[]).unwrap();
        assert_eq!(load(&loaded.to_toml(), &[]).unwrap().config, loaded.config);
        let meant = loaded.config.routes[0].upstream_at("10.0.0.1:5672".parse().unwrap());
        assert_eq!(
            (&*meant.host, meant.port, meant.is_tls()),
            ("10.0.0.1", 5672, false)
        );
        assert_complaints(
            &format!("{route}upstream = 'redis://b'\n"),
            &[],
            &["proxy.toml:4:12: `routes.a.upstream`: of no use where `transparent` is true"],
        );
    }

    #[test]
    fn what_tls_lacks_is_told() {
        for (text, expected) in [
            (
                "tls_certificate = 'c'",
                "`routes.redis.tls_certificate`: of no use without `tls_key`",
            ),
            (
                "tls_client_ca = 'c'",
                "`routes.redis.tls_client_ca`: of no use without `tls_certificate`",
            ),
            (
                "upstream_ca = 'c'",
                "`routes.redis.upstream_ca`: of no use without TLS to the broker",
            ),
            (
                "upstream_verify = false",
                "`routes.redis.upstream_verify`: of no use without TLS to the broker",
            ),
            (
                "upstream_server_name = 'a b'",
                "`routes.redis.upstream_server_name`: not a name that a certificate can be for",
            ),
        ] {
            let (key, _) = text.split_once('=').unwrap();
            let column = key.len() + 3;
            let expected = format!("proxy.toml:4:{column}: {expected}");
            assert_complaints(&format!("{ROUTE}{text}\n"), &[], &[&expected]);
        }
    }

    #[test]
    fn files_of_tls_are_read() {
        let folder = std::env::temp_dir().join(format!("tracehop-load-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let signed = rcgen::generate_simple_self_signed(vec!["c".to_owned()]).unwrap();
        let other = rcgen::KeyPair::generate().unwrap();
        let certificate = write("certificate.pem", &signed.cert.pem());
        let key = write("key.pem", &signed.signing_key.serialize_pem());
        let other_key = write("other.pem", &other.serialize_pem());
        let route = |certificate: &str, key: &str, ca: &str| {
            format!(
                "[routes.redis]\nlisten = ':1'\nupstream = 'rediss://broker'\n\
                 tls_certificate = '{certificate}'\ntls_key = '{key}'\ntls_client_ca = '{ca}'\n\
                 upstream_certificate = '{certificate}'\nupstream_key = '{key}'\n\
                 upstream_ca = '{ca}'\n"
            )
        };
        let loaded = load(&route(&certificate, &key, &certificate), &[]).unwrap();
        assert_eq!(load(&loaded.to_toml(), &[]).unwrap().config, loaded.config);
        let key_of_another = "not the key of the first certificate in";
        assert_complaints(
            &route(&certificate, &other_key, &key),
            &[],
            &[
                &format!(
                    "proxy.toml:5:11: `routes.redis.tls_key`: {key_of_another} `tls_certificate`"
                ),
                "proxy.toml:6:17: `routes.redis.tls_client_ca`: no certificate is in it",
                &format!(
                    "proxy.toml:8:16: `routes.redis.upstream_key`: {key_of_another} \
                     `upstream_certificate`"
                ),
                "proxy.toml:9:15: `routes.redis.upstream_ca`: no certificate is in it",
            ],
        );
        let missing = "cannot be read: No such file or directory (os error 2)";
        assert_complaints(
            &route("/nowhere.pem", &certificate, &certificate),
            &[],
            &[
                &format!("proxy.toml:4:19: `routes.redis.tls_certificate`: {missing}"),
                "proxy.toml:5:11: `routes.redis.tls_key`: no private key is in it",
                &format!("proxy.toml:7:24: `routes.redis.upstream_certificate`: {missing}"),
                "proxy.toml:8:16: `routes.redis.upstream_key`: no private key is in it",
            ],
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_mistake_in_the_file_stays_one_when_a_variable_overrides_it() {
        assert_complaints(
            &format!("drain_grace = 1\n{ROUTE}"),
            &[("TRACEHOP_DRAIN_GRACE", "1s")],
            &["proxy.toml:1:15: `drain_grace`: not a length of time"],
        );
    }

    #[test]
    fn no_text_is_too_broken_to_be_told_about() {
        let whole = "a = \"\"\n[routes.redis]\nlisten = ':1' # here\nupstream = 'redis://u:p@b;'\n\
                     [[log]]\nlevel = [1, { a.\"b\" = 1979-05-27 }]\nformat = '\u{e9}'\n[policy]\n";
        for start in (0..whole.len()).filter(|start| whole.is_char_boundary(*start)) {
            let (before, after) = whole.split_at(start);
            let without = after.chars().skip(1).collect::<String>();
            for text in [before, &format!("{before}{without}")] {
                if let Err(complaints) = load(text, &[]) {
                    assert!(complaints.to_string().contains("error: "));
                }
            }
        }
    }
}
