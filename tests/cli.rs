//! What the command line promises, held by the program itself.

#[path = "support/program.rs"]
mod program;

use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;

use program::Running;
use program::ask;
use program::file;

#[test]
fn every_mistake_is_shown_at_once_with_its_place_and_a_remedy() {
    let file = file(
        "mistakes.toml",
        "[routes.redis]\n\
         listen = \"127.0.0.1\"\n\
         upstream = \"sentinel://broker\"\n\
         \n\
         [policy]\n\
         on_valid = \"restmap\"\n\
         on_mising = \"add\"\n",
    );
    let answer = ask(
        &["run", "--config", &file],
        &[("TRACEHOP_LOG_FORMAT", "xml")],
    );
    let place = format!("{file}:");
    assert_eq!(
        answer.stderr.replace(&place, "mistakes.toml:"),
        r#"error: `routes.redis.listen`: not an IP address and a port
 --> mistakes.toml:2:10
  |
2 | listen = "127.0.0.1"
  |          ^^^^^^^^^^^
  = help: write for example "127.0.0.1:6380", or "0.0.0.0:6380" for every interface; port 0 takes any free one

error: `routes.redis.upstream`: Redis Sentinel is not supported by this version
 --> mistakes.toml:3:12
  |
3 | upstream = "sentinel://broker"
  |            ^^^^^^^^^^^^^^^^^^^
  = help: write the address of the master itself, as redis://host:port

error: `policy.on_valid`: no such choice
 --> mistakes.toml:6:12
  |
6 | on_valid = "restmap"
  |            ^^^^^^^^^
  = help: did you mean "restamp"? write "keep" or "restamp"

error: unknown key `policy.on_mising`
 --> mistakes.toml:7:1
  |
7 | on_mising =
  | ^^^^^^^^^
  = help: did you mean `on_missing`?

error: `log.format`: no such choice
 --> TRACEHOP_LOG_FORMAT
  |
  | xml
  | ^^^
  = help: write "text" or "json"

5 mistakes in the configuration
"#
    );
    assert_eq!((answer.code, answer.stdout.as_str()), (64, ""));
}

#[test]
fn check_and_run_find_the_same_mistakes() {
    let file = file("same.toml", "drain_grace = 5s\n[limits]\nmemory_max = 0\n");
    let run = ask(&["run", "--config", &file], &[]);
    let check = ask(&["check", "--config", &file], &[]);
    assert_eq!((run.code, check.code), (64, 64));
    assert_eq!(run.stderr, check.stderr);
    assert!(run.stderr.ends_with("2 mistakes in the configuration\n"));
}

#[test]
fn a_certificate_that_is_not_there_is_a_mistake_of_the_configuration() {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4318"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/such/ca.pem"),
    ];
    for command in ["run", "check"] {
        let mut arguments = vec![command];
        arguments.extend(["--listen", "127.0.0.1:0", "--upstream", "redis://127.0.0.1"]);
        let answer = ask(&arguments, &variables);
        assert_eq!((answer.code, answer.stdout.as_str()), (64, ""), "{command}");
        assert!(
            answer
                .stderr
                .contains("OTEL_EXPORTER_OTLP_CERTIFICATE = \"/no/such/ca.pem\""),
            "{}",
            answer.stderr
        );
    }
}

#[test]
fn nothing_is_bound_where_something_is_wrong() {
    // Whoever tried to bind this address as well would fail, and in another way.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let upstream = "redis://127.0.0.1:6379";
    let answer = ask(
        &[
            "run",
            "--listen",
            &listen,
            "--upstream",
            upstream,
            "--log-level",
            "inof",
        ],
        &[],
    );
    assert_eq!(answer.code, 64);
    assert!(
        answer
            .stderr
            .ends_with("\n1 mistake in the configuration\n")
    );
}

#[test]
fn secrets_are_shown_nowhere() {
    let good = "redis://user:s3cret@broker:1/0;redis://:s3cret@[::1]/1";
    let bad = "redis://user:s3cret@broker:port;redis://:s3cret";
    let broken = format!("[routes.redis]\nlisten = \":1\"\nupstream = redis://u:s3cret@{bad}\n");
    let broken = file("broken.toml", &broken);
    let written = |name, url| {
        file(
            name,
            &format!("[routes.redis]\nlisten = \":1\"\nupstream = \"{url}\"\n"),
        )
    };
    let (good_file, bad_file) = (written("good.toml", good), written("bad.toml", bad));
    for (arguments, variables, code) in [
        (&["check", "--config", &good_file][..], &[][..], 0),
        (&["check", "--config", &bad_file], &[], 64),
        (&["check", "--config", &broken], &[], 64),
        (&["check", "--listen", ":1", "--upstream", good], &[], 0),
        (&["check", "--listen", ":1", "--upstream", bad], &[], 64),
        (&["check", "--listen", good, "--upstream", bad], &[], 64),
        (
            &["check"],
            &[("TRACEHOP_UPSTREAM", good), ("TRACEHOP_LISTEN", ":1")],
            0,
        ),
        (&["check"], &[("TRACEHOP_UPSTREAM", bad)], 64),
        (&["check"], &[("TRACEHOP_TOKEN", "s3cret")], 64),
        (
            &["check", "--config", &good_file],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://u:s3cret@collector")],
            0,
        ),
    ] {
        let answer = ask(arguments, variables);
        let shown = answer.stdout + &answer.stderr;
        assert_eq!(answer.code, code, "{arguments:?} {shown}");
        assert!(!shown.contains("s3cret"), "{arguments:?} {shown}");
    }
    for line in [
        "password = \"s3cret\"",
        "password = s3cret",
        "password: s3cret",
        "password = \"s3cret",
        "password = \"wrapped\ns3cret==\"",
        "password = \"\"\"\ns3cret",
        "password = 'a' s3cret",
        "options = { password = \"s3cret\" }",
        "options = [{ password = s3cret }]",
        "[telemetry]\nheaders = \"authorization=Bearer s3cret\"",
        "[telemetry]\nheaders = authorization=Bearer s3cret",
        "[routes]\nother = { token = 's3cret', listen = '1', password = 's3cret', upstream = '' }",
        "[unknown] # s3cret",
    ] {
        let text = format!("telemetry = \"s3cret\"\n[routes.redis]\nlisten = \":1\"\n{line}\n");
        let file = file("unknown.toml", &text);
        for command in ["check", "run"] {
            let answer = ask(&[command, "--config", &file], &[]);
            let shown = answer.stdout + &answer.stderr;
            assert_eq!(answer.code, 64, "{line} {shown}");
            assert!(!shown.contains("s3cret"), "{line} {shown}");
        }
    }
}

#[test]
fn flags_win_over_variables_and_these_over_the_file() {
    let file = file(
        "layers.toml",
        "drain_grace = \"1s\"\n[routes.redis]\nlisten = \":1\"\nupstream = \"redis://b\"\n\
         [log]\nlevel = \"warn\"\nformat = \"json\"\n",
    );
    let answer = ask(
        &["check", "--config", &file, "--log-level", "debug"],
        &[
            ("TRACEHOP_LOG_LEVEL", "error"),
            ("TRACEHOP_DRAIN_GRACE", "2s"),
            ("TRACEHOP_ROUTES_REDIS_LISTEN", ":2"),
        ],
    );
    assert_eq!(answer.line("drain_grace"), "\"2s\" # TRACEHOP_DRAIN_GRACE");
    assert_eq!(
        answer.line("routes.redis.listen"),
        "\"0.0.0.0:2\" # TRACEHOP_ROUTES_REDIS_LISTEN"
    );
    assert_eq!(
        answer.line("routes.redis.upstream"),
        "\"redis://b:6379\" # file"
    );
    assert_eq!(answer.line("log.level"), "\"debug\" # --log-level");
    assert_eq!(answer.line("log.format"), "\"json\" # file");
    assert_eq!(answer.line("log.repeat_interval"), "\"1m\" # default");
}

#[test]
fn opentelemetry_variables_stand_between_the_file_and_our_own() {
    let file = file(
        "otel.toml",
        "[routes.redis]\nlisten = \":1\"\nupstream = \"redis://b\"\n\
         [telemetry]\nservice_name = \"a\"\nprotocol = \"grpc\"\nqueue_max = 1000\n",
    );
    let answer = ask(
        &[
            "check",
            "--config",
            &file,
            "--otlp-endpoint",
            "http://flag:1",
        ],
        &[
            ("OTEL_SERVICE_NAME", "b"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://b:2"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
            ("TRACEHOP_TELEMETRY_SERVICE_NAME", "c"),
        ],
    );
    assert_eq!(
        answer.line("telemetry.service_name"),
        "\"c\" # TRACEHOP_TELEMETRY_SERVICE_NAME"
    );
    assert_eq!(
        answer.line("telemetry.endpoint"),
        "\"http://flag:1\" # --otlp-endpoint"
    );
    assert_eq!(
        answer.line("telemetry.protocol"),
        "\"http/protobuf\" # OTEL_EXPORTER_OTLP_PROTOCOL"
    );
    assert_eq!(answer.line("telemetry.queue_max"), "1000 # file");
    assert_eq!(
        answer.stderr,
        "warning: OTEL_BSP_MAX_QUEUE_SIZE is ignored: not a whole number\n"
    );
}

#[test]
fn an_endpoint_that_cannot_be_used_is_a_mistake_unless_opentelemetry_set_it() {
    let route = ["check", "--listen", ":0", "--upstream", "redis://broker"];
    for (variables, endpoint, warnings) in [
        (
            [
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318"),
                ("OTEL_TRACES_EXPORTER", "otlp"),
            ],
            "\"localhost:4318\" # OTEL_EXPORTER_OTLP_ENDPOINT",
            "",
        ),
        (
            [
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "unix:///run/collector"),
                ("OTEL_TRACES_EXPORTER", "otlp,console"),
            ],
            "\"\" # default",
            "warning: OTEL_TRACES_EXPORTER: otlp is the only exporter there is, the others are \
             ignored\n\
             warning: OTEL_EXPORTER_OTLP_ENDPOINT is ignored: not the URL of an OTLP receiver\n",
        ),
    ] {
        let answer = ask(&route, &variables);
        assert_eq!((answer.code, answer.stderr.as_str()), (0, warnings));
        assert_eq!(answer.line("telemetry.endpoint"), endpoint);
    }
    let by_variable = [("TRACEHOP_TELEMETRY_ENDPOINT", "unix:///run/collector")];
    assert_eq!(ask(&route, &by_variable).code, 64);
    let by_flag = [&route[..], &["--otlp-endpoint", "unix:///run/collector"]].concat();
    assert_eq!(ask(&by_flag, &[]).code, 64);
}

#[test]
fn a_list_takes_commas_from_a_variable_and_is_printed_as_an_array() {
    let answer = ask(
        &["check", "--config", "proxy.toml"],
        &[
            ("TRACEHOP_ROLLOUT_QUEUES_DENY", "legacy.*,mail"),
            ("TRACEHOP_ROLLOUT_INJECT_RATIO", "0.1"),
        ],
    );
    assert_eq!(
        answer.line("rollout.queues_deny"),
        "[\"legacy.*\", \"mail\"] # TRACEHOP_ROLLOUT_QUEUES_DENY"
    );
    assert_eq!(
        answer.line("rollout.inject_ratio"),
        "0.1 # TRACEHOP_ROLLOUT_INJECT_RATIO"
    );
    assert_eq!(answer.line("rollout.tasks_allow"), "[] # file");

    let file = file(
        "lists.toml",
        "[routes.redis]\nlisten = \":1\"\nupstream = \"redis://b\"\n\
         [rollout]\nqueues_deny = \"legacy.*\"\ntasks_deny = [\"a\", 5]\n",
    );
    let answer = ask(&["check", "--config", &file], &[]);
    assert_eq!(answer.code, 64);
    assert_eq!(
        answer.stderr.replace(&file, "lists.toml"),
        r#"error: `rollout.queues_deny`: not an array
 --> lists.toml:5:15
  |
5 | queues_deny = "legacy.*"
  |               ^^^^^^^^^^
  = help: write texts in brackets, such as ["celery", "mail.*"]

error: `rollout.tasks_deny`: not a text
 --> lists.toml:6:20
  |
6 | tasks_deny = ["a", 5
  |                    ^
  = help: write texts in brackets, such as ["celery", "mail.*"]

2 mistakes in the configuration
"#
    );
}

#[test]
fn what_check_prints_can_be_checked_and_is_the_same() {
    let first = ask(&["check", "--config", "proxy.toml"], &[]);
    assert_eq!((first.code, first.stderr.as_str()), (0, ""));
    let printed = file("printed.toml", &first.stdout);
    let second = ask(&["check", "--config", &printed], &[]);
    // What has its default there stands in the file here.
    let written = first.stdout.replace("# default", "# file");
    assert_eq!(second.stdout, written);
}

#[test]
fn the_file_may_be_named_by_a_variable() {
    let named = ask(&["check"], &[("TRACEHOP_CONFIG", "proxy.toml")]);
    assert_eq!(named.code, 0);
    let missing = ask(&["check"], &[("TRACEHOP_CONFIG", "nowhere.toml")]);
    assert_eq!(missing.code, 64);
    assert!(
        missing
            .stderr
            .starts_with("error: cannot read nowhere.toml: ")
    );
}

#[test]
fn a_kubernetes_service_of_our_name_does_no_harm() {
    let answer = ask(
        &["check", "--config", "proxy.toml"],
        &[
            ("TRACEHOP_SERVICE_HOST", "10.0.0.1"),
            ("TRACEHOP_PORT", "tcp://10.0.0.1:6379"),
            ("TRACEHOP_PORT_6379_TCP_ADDR", "10.0.0.1"),
        ],
    );
    assert_eq!((answer.code, answer.stderr.as_str()), (0, ""));
}

#[test]
fn a_wrong_command_line_is_told_apart_from_a_failure() {
    for arguments in [
        &[][..],
        &["walk"],
        &["run", "--listne", ":1"],
        &["run", "--listen"],
    ] {
        let answer = ask(arguments, &[]);
        assert_eq!(answer.code, 64, "{arguments:?}");
        assert!(answer.stderr.contains("--help"), "{arguments:?}");
    }
    let nothing = ask(&["run"], &[]);
    assert_eq!(nothing.code, 64);
    assert!(nothing.stderr.contains("--listen") && nothing.stderr.contains("--config"));
    let help = ask(&["run", "--help"], &[]);
    assert_eq!((help.code, help.stderr.as_str()), (0, ""));
    assert!(help.stdout.contains("--upstream <URL>"));
    let version = ask(&["--version"], &[]);
    assert_eq!(
        version.stdout,
        concat!("tracehop ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn it_runs_without_a_file_until_it_is_told_to_stop() {
    for signal in ["TERM", "INT"] {
        let mut running = Running::start("[::1]:6379".parse().unwrap());
        assert_eq!(running.upstream, "redis://[::1]:6379");
        running.send(signal);
        assert_eq!(running.expect("stopping")["signal"], format!("SIG{signal}"));
        running.expect_end();
    }
}

#[test]
fn a_hangup_has_the_configuration_read_anew() {
    let text = |more: &str| {
        let route = "[routes.a]\nlisten = '127.0.0.1:0'\nupstream = 'redis://127.0.0.1:1'\n";
        file("reloaded.toml", &format!("{route}{more}"))
    };
    let name = text("");
    let mut running = Running::start_with(&["run", "--config", &name]);

    text("[policy]\nmode = 'observe'\n[telemetry]\nsampler = 'always_off'\n");
    running.send("HUP");
    let told = running.expect("the configuration was read anew");
    assert_eq!(told["changed"], "policy.mode, telemetry.sampler");

    text("[limits]\nmemory_max = 7\n[routes.b]\nlisten = ':0'\nupstream = 'redis://b'\n");
    running.send("HUP");
    let told = running.expect("the configuration was read anew");
    assert_eq!(told["changed"], "policy.mode, telemetry.sampler");
    let told = running.expect("these changes take a restart");
    assert_eq!(told["keys"], "limits.memory_max, routes.b");

    text("[policy]\nmode = 'inyect'\n");
    running.send("HUP");
    let told = running.expect("`policy.mode`: no such choice");
    assert_eq!(told["place"], format!("{name}:5:8"));
    assert!(told["remedy"].as_str().unwrap().contains("\"inject\""));
    running.expect("the new configuration is refused: the one before stays");

    running.send("TERM");
    running.expect("stopping");
    running.expect_end();
}

#[test]
fn whoever_is_told_twice_to_stop_waits_for_no_connection() {
    let broker = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut running = Running::start(broker.local_addr().unwrap());
    // A request that is never answered keeps its connection open.
    let request = b"*1\r\n$4\r\nPING\r\n";
    let mut client = TcpStream::connect(running.address).unwrap();
    client.write_all(request).unwrap();
    let (mut connection, _) = broker.accept().unwrap();
    connection.read_exact(&mut [0; 14]).unwrap();
    running.send("TERM");
    running.expect("stopping");
    running.send("INT");
    assert_eq!(running.expect("stopping at once")["signal"], "SIGINT");
    running.expect_end();
}
