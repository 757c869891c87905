//! `tracehop doctor`: whether `run` will work here.

mod finding;
mod rabbitmq;
mod redis;
mod routes;

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use rlimit::Resource;

use crate::admin::Admin;
use crate::cli::Misused;
use crate::cli::broker::Broker;
use crate::cli::broker::Credentials;
use crate::cli::broker::Kind;
use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::finding::Report;
use crate::cli::doctor::finding::millis;
use crate::cli::doctor::routes::examine_brokers;
use crate::cli::doctor::routes::examine_certificates;
use crate::cli::doctor::routes::examine_listener;
use crate::cli::run::descriptors_wanted;
use crate::cli::settings::AFTER_HELP as SETTINGS_HELP;
use crate::cli::settings::Settings;
use crate::config;
use crate::config::Config;
use crate::config::Limits;
use crate::config::Route;
use crate::telemetry::Telemetry;
use crate::telemetry::now;
use crate::trace::IdSource;
use crate::trace::Span;
use crate::trace::SpanKind;
use crate::trace::TraceContext;
use crate::trace::TraceFlags;

/// Find out whether `run` will work here: brokers, ports, collector, limits
///
/// Takes the same configuration as `run`. Of each route it looks whether the broker's name
/// resolves, whether every one of its addresses takes connections, speaks its protocol and
/// has the same time, and whether the port to listen on is free (or a tracehop has it
/// already). One span named `tracehop doctor` is exported by the same settings, to see that
/// the collector takes it. What needs no password is asked without one: a broker that wants
/// one counts as reachable. A user and password given here, or in the URL of a broker, are
/// used to ask for more, and never shown.
///
/// One line for each finding: ok, warn or FAIL, what was found, figures, and what to do.
#[derive(Args)]
#[command(after_help = after_help())]
pub(super) struct Doctor {
    #[command(flatten)]
    settings: Settings,

    /// Look at the brokers and the port of this route alone
    #[arg(long, value_name = "NAME")]
    route: Option<String>,

    /// Log in to the broker as this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// Log in to the broker with the password in this file
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,

    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

fn after_help() -> String {
    format!(
        "\
Examples:
  tracehop doctor --config proxy.toml
  tracehop doctor --listen :6380 --upstream redis://redis:6379
  tracehop doctor --config proxy.toml --route rabbitmq --user app --password-file pw --json

Exit codes: 0 nothing failed, 1 something did (FAIL), 64 the command line or the
configuration is wrong.

{SETTINGS_HELP}"
    )
}

pub(super) async fn doctor(options: Doctor) -> anyhow::Result<ExitCode> {
    let sources = options.settings.sources();
    let loaded = sources.load()?;
    let unused = Telemetry::check(&loaded.config.telemetry)?;
    let config = loaded.config;
    Admin::check(&config.admin)?;
    let routes = chosen(&config.routes, options.route.as_deref())?;
    let mut known = options.settings.brokers_with_credentials();
    known.extend(given(&options, &routes)?);

    let mut report = Report::new(options.json);
    for warning in &loaded.warnings {
        report.tell(
            "configuration",
            Finding::warn(warning, "correct it or remove it"),
        )?;
    }
    for unusable in unused {
        report.tell(
            "configuration",
            Finding::warn(unusable.to_string(), "it is ignored"),
        )?;
    }
    for route in routes {
        let about = format!("route {}", route.name);
        let key = format!("routes.{}.listen", route.name);
        let listener = examine_listener(&key, route.listen, config.admin.listen).await;
        report.tell(&about, listener)?;
        for finding in examine_certificates(route) {
            report.tell(&about, finding)?;
        }
        examine_brokers(route, config.policy.mode, &known, &mut report).await?;
    }
    if let Some(admin) = config.admin.listen {
        let listener = examine_listener("admin.listen", admin, Some(admin)).await;
        report.tell("admin", listener)?;
    }
    report.tell("collector", examine_collector(&config).await?)?;
    report.tell("system", examine_descriptors(&config.limits))?;
    report.tell("system", examine_rights())?;
    Ok(match report.close()? {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn chosen<'a>(routes: &'a [Route], name: Option<&str>) -> Result<Vec<&'a Route>, Misused> {
    let chosen: Vec<&Route> = routes
        .iter()
        .filter(|route| name.is_none_or(|name| &*route.name == name))
        .collect();
    if chosen.is_empty() {
        let names: Vec<&str> = routes.iter().map(|route| &*route.name).collect();
        return Err(Misused {
            flag: "--route",
            fault: format!("there is no route of that name, only {}", names.join(", ")),
            remedy: "name one of them",
        });
    }
    Ok(chosen)
}

/// The brokers of the one route with the credentials of `--user` and `--password-file`.
fn given(options: &Doctor, routes: &[&Route]) -> anyhow::Result<Vec<Broker>> {
    let password = match (&options.user, &options.password_file) {
        (None, None) => return Ok(Vec::new()),
        (Some(_), None) => {
            return Err(Misused {
                flag: "--user",
                fault: "there is no password for it".to_owned(),
                remedy: "name a file that holds it with --password-file",
            }
            .into());
        }
        (_, Some(path)) => std::fs::read_to_string(path).map_err(|error| Misused {
            flag: "--password-file",
            fault: format!("cannot read {}: {error}", path.display()),
            remedy: "name a file that holds the password alone",
        })?,
    };
    let [route] = routes else {
        return Err(Misused {
            flag: "--password-file",
            fault: "there are several routes".to_owned(),
            remedy: "say with --route whose broker shall see the password",
        }
        .into());
    };
    let brokers = route.upstream.iter().map(|upstream| Broker {
        // Which kind it is, is told by the route.
        kind: Kind::Redis,
        tls: false,
        host: upstream.host.to_string(),
        port: upstream.port,
        credentials: Some(Credentials {
            user: options.user.clone(),
            password: password.trim_end_matches(['\r', '\n']).to_owned(),
        }),
        path: None,
    });
    Ok(brokers.collect())
}

/// Whether the collector takes a span.
async fn examine_collector(config: &Config) -> anyhow::Result<Finding> {
    let Some(probe) = Telemetry::probe(&config.telemetry, &span()).await? else {
        return Ok(Finding::ok("spans are not exported, as configured"));
    };
    let endpoint = probe.endpoint;
    Ok(match probe.outcome {
        Ok(()) => {
            let service = &config.telemetry.service_name;
            Finding::ok(format!(
                "{endpoint} took a span named `{SPAN_NAME}` of service {service}"
            ))
            .figure("answer_ms", millis(probe.took))
        }
        Err(error) => Finding::fail(
            format!("{endpoint} did not take a span: {error}"),
            match config.telemetry.protocol {
                config::OtlpProtocol::Grpc => {
                    "start the collector, correct telemetry.endpoint, or set telemetry.protocol to \
                     http/protobuf if that is what it speaks"
                }
                config::OtlpProtocol::HttpProtobuf => {
                    "start the collector, correct telemetry.endpoint, or set telemetry.protocol to \
                     grpc if that is what it speaks"
                }
            },
        ),
    })
}

fn span() -> Span<'static> {
    let mut ids = IdSource::from_entropy();
    let now = now();
    Span {
        context: TraceContext {
            trace_id: ids.trace_id(),
            span_id: ids.span_id(),
            flags: TraceFlags::SAMPLED,
        },
        parent: None,
        tracestate: "",
        kind: SpanKind::Client,
        name: [SPAN_NAME, ""],
        start: now,
        end: now,
        attributes: Vec::new(),
        events: Vec::new(),
        link: None,
        error: None,
    }
}

fn examine_descriptors(limits: &Limits) -> Finding {
    let wanted = descriptors_wanted(limits);
    match Resource::NOFILE.get() {
        Ok((_, hard)) if hard < wanted => Finding::warn(
            "fewer file descriptors than limits.connections_max needs",
            "raise the hard limit (ulimit -Hn, LimitNOFILE=) or lower limits.connections_max",
        )
        .figure("allowed", hard)
        .figure("wanted", wanted),
        Ok((_, hard)) => Finding::ok("there are file descriptors enough")
            .figure("allowed", hard)
            .figure("wanted", wanted),
        Err(error) => Finding::warn(
            format!("the limit of file descriptors cannot be read: {error}"),
            "look at it with ulimit -Hn",
        ),
    }
}

/// As whom this runs: the owner of the process.
fn examine_rights() -> Finding {
    match std::fs::metadata("/proc/self") {
        Ok(process) if process.uid() == 0 => Finding::warn(
            "this runs as root",
            "give tracehop a user of its own: it needs no rights",
        ),
        Ok(process) => {
            Finding::ok("this runs without the rights of root").figure("uid", process.uid())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Finding::ok("as whom this runs is not told by this system")
        }
        Err(error) => Finding::ok(format!("as whom this runs is not told: {error}")),
    }
}

const SPAN_NAME: &str = "tracehop doctor";
