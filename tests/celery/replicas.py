"""Several tracehops before one broker, which know nothing of each other."""

import socket
import threading
from itertools import cycle

from harness import Tracehop, free_port, url_of


class Replica(Tracehop):
    """One of several; `restart` puts another one in its place."""

    def __init__(self, stage, name, port=None, **settings):
        self._made = stage, name, settings
        server, endpoint = stage.server, stage.receiver.endpoint
        super().__init__(
            stage.directory, server.port, endpoint, name, server.system, port or free_port(), **settings
        )

    def restart(self):
        """Ends it, and returns the one that comes after it."""
        stage, name, settings = self._made
        assert self.stop() == 0, self.tail()
        self.close()
        return Replica(stage, name, self.port, **settings)


class Balancer:
    """Takes connections for a pair of replicas, and gives them to either in turn."""

    def __init__(self, pair):
        self._pair = pair
        self._ports, self._connections = cycle([pair.front.port, pair.back.port]), []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = url_of(pair.stage.server.system, self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", next(self._ports)))
            self._connections += [client, server]
            for one, other in ((client, server), (server, client)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=relay, args=(one, other), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # They take leave through us.
        self._pair.end_apps()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            connection.close()


def relay(one, other):
    """Passes on what one says, until it says no more."""
    try:
        while data := one.recv(1 << 16):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)
    except OSError:
        pass
