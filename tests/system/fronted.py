"""The scaled deployment behind a real nginx with the configuration that we ship."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from pacifica.tests.system.nodes import free_port
from pacifica.tests.system.scaled import ROOT, Scaled

PUBLISHED = {"ingest": 8066, "cartd": 8081, "datasafe": 8080, "flow": 8069}
USERS = ("alice", "bob")  # the password is the name
MAIN = """
worker_processes 1;
worker_rlimit_nofile 8192;
daemon off;
pid {prefix}/pid;
error_log {prefix}/error.log info;
{user}
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {prefix}/body;
    proxy_temp_path {prefix}/proxy;
    fastcgi_temp_path {prefix}/fastcgi;
    uwsgi_temp_path {prefix}/uwsgi;
    scgi_temp_path {prefix}/scgi;
    include {prefix}/pacifica.conf;
}}
"""


class Fronted(Scaled):
    """uWSGI on Unix sockets that only nginx speaks to; ``urls`` are nginx's."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.environment["PACIFICA_AUTH_MODE"] = "proxy"
        self.prefix = Path(
            tempfile.mkdtemp(prefix="pacifica-nginx-", dir="/tmp")
        )  # short: it is part of sockets' names
        self.published = {name: free_port() for name in PUBLISHED}
        self.nginx: subprocess.Popen[bytes] | None = None

    def start(self, code: str | None = None) -> "Fronted":
        """Start nginx first, as it may be after a boot, then all that is behind it."""
        shipped = (ROOT / "config" / "nginx.conf").read_text()
        for name, port in PUBLISHED.items():
            assert f"listen {port};" in shipped
            shipped = shipped.replace(f"listen {port};", f"listen 127.0.0.1:{self.published[name]};")
        users = self.prefix / "users"
        users.write_text("".join(f"{user}:{{PLAIN}}{user}\n" for user in USERS))
        shipped = shipped.replace("unix:/run/pacifica/", f"unix:{self.prefix}/").replace(
            "/etc/pacifica/users", str(users)
        )
        (self.prefix / "pacifica.conf").write_text(shipped)
        main = self.prefix / "nginx.conf"
        main.write_text(MAIN.format(prefix=self.prefix, user="user root;" if os.geteuid() == 0 else ""))
        nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        assert nginx, "nginx is needed (Debian package nginx)"
        with (self.prefix / "output.log").open("wb") as log:
            self.nginx = subprocess.Popen([nginx, "-p", self.prefix, "-c", main], stdout=log, stderr=log)
        super().start()
        return self

    def listen(self, name: str) -> str:
        """Return the Unix socket of a service."""
        return str(self.prefix / f"{name}.sock")

    def find(self, name: str) -> str:
        """Return nginx's URL for a service."""
        return f"http://127.0.0.1:{self.published[name]}"

    def kill(self, part: str = "all") -> None:
        """End the suite's processes, and with all of them nginx."""
        super().kill(part)
        if part == "all" and self.nginx is not None:
            self.nginx.terminate()
            self.nginx.wait(30)
            shutil.rmtree(self.prefix, ignore_errors=True)

    def errors(self) -> str:
        """Return what nginx has complained of."""
        return (self.prefix / "error.log").read_text() + (self.prefix / "output.log").read_text()
