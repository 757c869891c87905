//! What must hold between keys, each of which is right on its own.

use std::net::SocketAddr;

use crate::config::Complaint;
use crate::config::Protocol;
use crate::config::Upstream;
use crate::config::address::clash;
use crate::config::address::leads_back;
use crate::config::draft::Draft;
use crate::config::environment::SINGLE_ROUTE;
use crate::config::environment::variable;
use crate::config::keys::RouteDraft;

/// What a draft must pass. A rule says nothing about keys whose value could not be read.
pub(super) const RULES: [fn(&Draft) -> Vec<Complaint>; 8] = [
    routes_are_whole,
    brokers_speak_the_protocol,
    listeners_stand_apart,
    transparent_routes_take_brokers_as_they_come,
    routes_lead_elsewhere,
    tls_has_what_it_takes,
    tls_files_can_be_used,
    one_message_fits_the_total,
];

fn routes_are_whole(draft: &Draft) -> Vec<Complaint> {
    if draft.routes.is_empty() {
        return vec![Complaint {
            wrong: "there is no route, so nothing would be proxied".to_owned(),
            place: None,
            remedy: "give --listen 127.0.0.1:6380 --upstream redis://127.0.0.1:6379, \
                     or --config with a file such as proxy.toml"
                .to_owned(),
        }];
    }
    let mut complaints = Vec::new();
    for (name, route) in &draft.routes {
        for (key, missing, example) in [
            ("listen", route.listen.is_none(), "127.0.0.1:6380"),
            (
                "upstream",
                route.upstream.is_empty() && !route.transparent,
                "redis://127.0.0.1:6379",
            ),
        ] {
            let path = format!("routes.{name}.{key}");
            if !missing || !draft.is_sound(&path) {
                continue;
            }
            let place = draft.place(&format!("routes.{name}"));
            let in_file = place.filter(|place| place.position().is_some());
            complaints.push(Complaint {
                wrong: format!("route `{name}` has no `{key}`"),
                remedy: match (&in_file, name.as_str()) {
                    (Some(_), _) => format!("add a line such as `{key} = \"{example}\"`"),
                    (None, SINGLE_ROUTE) => format!("give one too, such as --{key} {example}"),
                    (None, _) => format!("set {} too, such as {example}", variable(&path)),
                },
                place: in_file,
            });
        }
    }
    complaints
}

fn brokers_speak_the_protocol(draft: &Draft) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (name, route) in &draft.routes {
        let known = Protocol::ALL.iter().find(|(it, ..)| *it == route.protocol);
        let Some((_, word, schemes)) = known else {
            continue;
        };
        let path = format!("routes.{name}.upstream");
        let mut upstream = route.upstream.iter();
        let Some(other) = upstream.find(|to| !schemes.contains(&to.scheme)) else {
            continue;
        };
        if draft.is_sound(&path) && draft.is_sound(&format!("routes.{name}.protocol")) {
            complaints.push(Complaint {
                wrong: format!(
                    "`{path}`: a `{}://` URL, while the protocol is `{word}`",
                    other.scheme
                ),
                place: draft.place(&path),
                remedy: "correct one of the two, or leave the protocol to `auto`".to_owned(),
            });
        }
    }
    complaints
}

fn listeners_stand_apart(draft: &Draft) -> Vec<Complaint> {
    let listeners = listeners(draft);
    let mut complaints = Vec::new();
    for (index, (path, listen)) in listeners.iter().enumerate() {
        let mut earlier = listeners.iter().take(index);
        let Some((other, taken)) = earlier.find(|(_, taken)| clash(*taken, *listen)) else {
            continue;
        };
        // Point to the one that was written down; a default stands nowhere.
        let (path, other) = match draft.place(path) {
            Some(_) => (path, other),
            None => (other, path),
        };
        let other_place = draft.place(other);
        let other_place = other_place.map_or_else(|| "its default".to_owned(), |it| it.to_string());
        complaints.push(Complaint {
            wrong: format!("`{path}`: {taken} is taken by `{other}` ({other_place})"),
            place: draft.place(path),
            remedy: "give one of the two another port".to_owned(),
        });
    }
    complaints
}

/// In the order in which they are bound.
fn listeners(draft: &Draft) -> Vec<(String, SocketAddr)> {
    let routes = draft
        .routes
        .iter()
        .map(|(name, route)| (format!("routes.{name}.listen"), route.listen));
    let admin = ("admin.listen".to_owned(), draft.config.admin.listen);
    routes
        .chain([admin])
        .filter(|(path, _)| draft.is_sound(path))
        .filter_map(|(path, listen)| Some((path, listen?)))
        .collect()
}

fn routes_lead_elsewhere(draft: &Draft) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (name, route) in &draft.routes {
        let Some(listen) = route.listen else {
            continue;
        };
        let path = format!("routes.{name}.upstream");
        let leads_back = route.upstream.iter().any(|to| leads_back(listen, to));
        if leads_back && draft.is_sound(&path) && draft.is_sound(&format!("routes.{name}.listen")) {
            complaints.push(Complaint {
                wrong: format!("`{path}`: leads back to {listen}, where this route listens"),
                place: draft.place(&path),
                remedy: "write the broker's own address, or listen on another port".to_owned(),
            });
        }
    }
    complaints
}

fn transparent_routes_take_brokers_as_they_come(draft: &Draft) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (name, route) in &draft.routes {
        for (key, is_set) in [
            ("upstream", !route.upstream.is_empty()),
            ("tls_certificate", route.tls_certificate.is_some()),
        ] {
            let path = format!("routes.{name}.{key}");
            if route.transparent && is_set {
                complaints.push(Complaint {
                    wrong: format!("`{path}`: of no use where `transparent` is true"),
                    place: draft.place(&path),
                    remedy: "leave it out: the broker is the one that the app meant, and TLS \
                             takes a route of its own with the broker as `upstream`"
                        .to_owned(),
                });
            }
        }
    }
    complaints
}

fn tls_has_what_it_takes(draft: &Draft) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (name, route) in &draft.routes {
        let path = |key| format!("routes.{name}.{key}");
        for (key, is_set, other, has_other) in pairs(route) {
            if is_set && !has_other && draft.is_sound(&path(other)) {
                complaints.push(Complaint {
                    wrong: format!("`{}`: of no use without `{other}`", path(key)),
                    place: draft.place(&path(key)),
                    remedy: format!("set `{other}` as well, or neither"),
                });
            }
        }
        let has_brokers = route.transparent || !route.upstream.is_empty();
        let is_plain = has_brokers && !route.upstream.iter().any(Upstream::is_tls);
        for (key, is_set) in [
            ("upstream_ca", route.upstream_ca.is_some()),
            ("upstream_certificate", route.upstream_certificate.is_some()),
            ("upstream_key", route.upstream_key.is_some()),
            ("upstream_server_name", route.upstream_server_name.is_some()),
            ("upstream_verify", !route.upstream_verify),
        ] {
            if is_set && is_plain && draft.is_sound(&path("upstream")) {
                complaints.push(Complaint {
                    wrong: format!("`{}`: of no use without TLS to the broker", path(key)),
                    place: draft.place(&path(key)),
                    remedy: "write `rediss://` or `amqps://` in `upstream`, or leave this out"
                        .to_owned(),
                });
            }
        }
    }
    complaints
}

/// Each key about TLS that needs another one: itself and that one, each with whether it is set.
fn pairs(route: &RouteDraft) -> [(&'static str, bool, &'static str, bool); 5] {
    let certificate = ("tls_certificate", route.tls_certificate.is_some());
    let key = ("tls_key", route.tls_key.is_some());
    let ca = ("tls_client_ca", route.tls_client_ca.is_some());
    let own = ("upstream_certificate", route.upstream_certificate.is_some());
    let own_key = ("upstream_key", route.upstream_key.is_some());
    [
        (certificate, key),
        (key, certificate),
        (ca, certificate),
        (own, own_key),
        (own_key, own),
    ]
    .map(|((key, is_set), (other, has_other))| (key, is_set, other, has_other))
}

fn tls_files_can_be_used(draft: &Draft) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (name, route) in &draft.routes {
        let listener = route.tls().and_then(|tls| tls.make().err());
        let is_tls = route.upstream.iter().any(Upstream::is_tls);
        let upstream = is_tls.then(|| route.upstream_tls().make().err()).flatten();
        for fault in [listener, upstream].into_iter().flatten().flatten() {
            let path = format!("routes.{name}.{}", fault.key);
            complaints.push(Complaint {
                wrong: format!("`{path}`: {}", fault.wrong),
                place: draft.place(&path),
                remedy: fault.remedy.to_owned(),
            });
        }
    }
    complaints
}

fn one_message_fits_the_total(draft: &Draft) -> Vec<Complaint> {
    const ONE: &str = "limits.hold_bytes_max";
    const TOTAL: &str = "limits.hold_total_bytes_max";
    let limits = &draft.config.limits;
    let fits = limits.hold_bytes_max <= limits.hold_total_bytes_max;
    if fits || !draft.is_sound(ONE) || !draft.is_sound(TOTAL) {
        return Vec::new();
    }
    vec![Complaint {
        wrong: format!("`{ONE}`: more than `{TOTAL}` allows for all sessions together"),
        place: draft.place(ONE).or_else(|| draft.place(TOTAL)),
        remedy: format!("lower `{ONE}` or raise `{TOTAL}`"),
    }]
}
