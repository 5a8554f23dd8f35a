"""An authority for tests, and certificates that it signed; openssl makes them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def make_certificates(folder: Path) -> None:
    """Writes `ca.pem`, and `server.pem` and `client.pem` for 127.0.0.1 with their keys: `server.key`, `client.key`."""
    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2", "-nodes")
    run_openssl(folder, *new, "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem")
    by_authority = ("-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=CA:FALSE")
    for name in ("server", "client"):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.pem")
        run_openssl(
            folder, *new, *by_authority, "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", *files
        )


def run_openssl(folder: Path, *arguments: str) -> None:
    """Runs openssl in the folder."""
    openssl = shutil.which("openssl")
    assert openssl is not None, "openssl makes the certificates"
    subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)
