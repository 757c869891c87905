"""Celery over TLS: to the broker alone, as a sidecar has it, and on both sides with certificates
for everybody. Nobody notices when they are renewed."""

import socket
import ssl
import subprocess

import pytest

from harness import DEADLINE, Producer, RabbitMQ, Redis, Tracehop, Worker
from harness import app_env, eventually, free_port
from stage import new_tag

NOBODY = "http://127.0.0.1:9"


OPENSSL = """
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
[signed]
basicConstraints = critical, CA:FALSE
subjectAltName = IP:127.0.0.1, DNS:localhost
"""


class Authority:
    """Signs certificates for the loopback address; what it writes lies in `directory`."""

    def __init__(self, directory, name="authority"):
        self.directory = directory
        self._config = directory / "openssl.cnf"
        self._config.write_text(OPENSSL)
        self.certificate, self._key = self._make(name, "authority")

    def sign(self, name):
        """Paths of a certificate and its key; those that are there already change in place."""
        return self._make(name, "signed", "-CA", self.certificate, "-CAkey", self._key)

    def _make(self, name, extensions, *words):
        certificate, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        command = ["openssl", "req", "-x509", "-config", self._config, "-extensions", extensions]
        command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-subj", f"/CN={name}", "-keyout", key, "-out", certificate, *words]
        subprocess.run([str(word) for word in command], check=True, capture_output=True)
        return certificate, key


def tls_redis(directory, authority):
    """A Redis that wants a certificate, and the URL of its TLS port."""
    certificate, key = authority.sign("redis")
    port = free_port()
    options = ["--tls-port", port, "--tls-cert-file", certificate, "--tls-key-file", key]
    options += ["--tls-ca-cert-file", authority.certificate, "--tls-auth-clients", "yes"]
    return Redis(directory, options=options), f"rediss://127.0.0.1:{port}"


def tls_rabbitmq(directory, authority):
    """The same of RabbitMQ."""
    certificate, key = authority.sign("rabbitmq")
    port = free_port()
    options = [
        f"listeners.ssl.default = 127.0.0.1:{port}",
        f"ssl_options.cacertfile = {authority.certificate}",
        f"ssl_options.certfile = {certificate}",
        f"ssl_options.keyfile = {key}",
        "ssl_options.verify = verify_peer",
        "ssl_options.fail_if_no_peer_cert = true",
    ]
    return RabbitMQ(directory, options=options), f"amqps://127.0.0.1:{port}"


BROKERS = {"redis": tls_redis, "rabbitmq": tls_rabbitmq}


class Scene:
    """A broker that speaks TLS, and a Redis where tasks note their runs."""

    def __init__(self, directory, system):
        self.directory, self.system = directory, system
        self.authority = Authority(directory)
        self.server, self.upstream = BROKERS[system](directory, self.authority)
        is_redis = system == "redis"
        self.notes = self.server if is_redis else Redis(directory, name="notes")
        certificate, key = self.authority.sign("tracehop")
        self.to_broker = {
            "TRACEHOP_UPSTREAM_CA": str(self.authority.certificate),
            "TRACEHOP_UPSTREAM_CERTIFICATE": str(certificate),
            "TRACEHOP_UPSTREAM_KEY": str(key),
        }

    def hop(self, **settings):
        return Tracehop(self.directory, self.upstream, NOBODY, system=self.system, **settings)

    def app(self, url, **settings):
        results = {"redis": url, "rabbitmq": "rpc://"}[self.system]
        return app_env(url, self.notes.url, "queue-tls", results=results, **settings)

    def close(self):
        self.server.close()
        self.notes.close()


@pytest.fixture(scope="module", params=BROKERS)
def scene(request, tmp_path_factory):
    scene = Scene(tmp_path_factory.mktemp("tls"), request.param)
    yield scene
    scene.close()


def plays(scene, producer):
    """Some flows, each with what it comes to and how many tasks it takes."""
    for flow, value, runs in [("delay", 3, 1), ("chain_of_three", 10, 3), ("retry", 2, 3)]:
        tag = new_tag()
        assert producer.order(flow, tag)["value"] == value, flow
        found = [(run["id"], run["retries"]) for run in scene.notes.runs(tag)]
        assert len(found) == len(set(found)) == runs, found


def test_beside_the_app_the_way_to_the_broker_is_encrypted(scene, tmp_path):
    with scene.hop(**scene.to_broker) as hop:
        env = scene.app(hop.url)
        with (
            Worker(tmp_path, f"sidecar-{scene.system}", scene.notes, env) as worker,
            Producer(tmp_path, "sidecar", env) as producer,
        ):
            worker.ready()
            plays(scene, producer)
            assert hop.metric("tracehop_messages_total", verdict="added") >= 5
            assert hop.metric("tracehop_blind_sessions_total") == 0


def test_with_tls_on_both_sides_certificates_are_renewed_under_load(scene, tmp_path):
    certificate, key = scene.authority.sign("listener")
    own, own_key = scene.authority.sign("app")
    listener = {
        "TRACEHOP_TLS_CERTIFICATE": str(certificate),
        "TRACEHOP_TLS_KEY": str(key),
        "TRACEHOP_TLS_CLIENT_CA": str(scene.authority.certificate),
    }
    paths = {"ca_certs": scene.authority.certificate, "certfile": own, "keyfile": own_key}
    if scene.system == "redis":
        words = "&".join(f"ssl_{name}={path}" for name, path in paths.items())
        more, tail = {}, f"/0?ssl_cert_reqs=required&{words}"
    else:
        paths = {name: str(path) for name, path in paths.items()}
        more = {"broker_use_ssl": paths | {"cert_reqs": ssl.CERT_REQUIRED}}
        tail = "//"
    with scene.hop(**scene.to_broker, **listener) as hop:
        url = hop.url.replace("redis:", "rediss:").replace("amqp:", "amqps:")
        env = scene.app(url.removesuffix("/0").removesuffix("//") + tail, **more)
        with Worker(tmp_path, f"mutual-{scene.system}", scene.notes, env) as worker:
            worker.ready()
            with Producer(tmp_path, "first", env) as producer:
                plays(scene, producer)
                before = shown_by(hop, own, own_key)
                tag = new_tag()
                producer.start("burst", tag, count=200)
                scene.authority.sign("listener")
                scene.authority.sign("tracehop")
                eventually(
                    lambda: hop.metric("tracehop_config_reloads_total", result="success") == 2,
                    "both certificates are read anew",
                )
                with Producer(tmp_path, "second", env) as newcomer:
                    plays(scene, newcomer)
                assert sorted(producer.answer()["value"]) == list(range(200))
                ids = [run["id"] for run in scene.notes.runs(tag)]
                assert len(ids) == len(set(ids)) == 200
            assert shown_by(hop, own, own_key) != before
        assert hop.metric("tracehop_config_reloads_total", result="failure") == 0
        assert hop.metric("tracehop_connections_failed_total") == 0


def shown_by(hop, certificate, key):
    """The certificate that an app is shown."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(certificate, key)
    with (
        socket.create_connection(("127.0.0.1", hop.port), DEADLINE) as connection,
        context.wrap_socket(connection) as encrypted,
    ):
        return encrypted.getpeercert(binary_form=True)


@pytest.mark.parametrize(
    "how, words",
    [
        ("no certificate", "set `upstream_certificate` and `upstream_key`"),
        ("no authority", "set `upstream_ca` to the authority that signed it"),
        ("no TLS", "name a port where the broker speaks TLS"),
    ],
)
def test_what_a_broker_has_against_it_is_told_once(scene, how, words):
    settings = dict(scene.to_broker)
    upstream = scene.upstream
    if how == "no certificate":
        del settings["TRACEHOP_UPSTREAM_CERTIFICATE"], settings["TRACEHOP_UPSTREAM_KEY"]
    elif how == "no authority":
        stranger = Authority(scene.directory, "stranger")
        settings["TRACEHOP_UPSTREAM_CA"] = str(stranger.certificate)
    else:
        upstream = upstream.rpartition(":")[0] + f":{scene.server.port}"
        settings["TRACEHOP_LIMITS_HANDSHAKE_TIMEOUT"] = "500ms"
    name = how.replace(" ", "-")
    with Tracehop(
        scene.directory, upstream, NOBODY, name=name, system=scene.system, **settings
    ) as hop:
        with socket.create_connection(("127.0.0.1", hop.port), DEADLINE) as app:
            app.settimeout(DEADLINE)
            hello = {"redis": b"*1\r\n$4\r\nPING\r\n", "rabbitmq": b"AMQP\0\0\x09\x01"}
            with pytest.raises(ConnectionResetError):
                app.sendall(hello[scene.system])
                assert app.recv(1) == b"", "nothing is said"
                raise ConnectionResetError
        eventually(
            lambda: hop.metric("tracehop_connections_failed_total", reason="tls_broker") == 1,
            "it is counted",
        )
        eventually(lambda: "client=" in hop.log.read_text(), "it is told")
    # It is written by the time that the process has ended.
    told = [line for line in hop.log.read_text().splitlines() if "client=" in line]
    assert len(told) == 1 and words in told[0], told
