"""`modelyard serve`."""

from __future__ import annotations

import argparse
import gc
import ipaddress
from typing import Any

from modelyard.errors import InvalidSetting
from modelyard.settings import current

LAST_PORT = 65535


def configure(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("serve", help="serve the OpenAI-compatible API")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
    parser.add_argument("--port", type=_port, default=8000, help="port to listen at (default: 8000)")
    parser.add_argument("--access-log", action="store_true", help="log every request")
    parser.set_defaults(run=_serve)


def _serve(args: argparse.Namespace) -> int:
    import uvicorn

    from modelyard.serving.app import create_app
    from modelyard.serving.logs import configure_logs
    from modelyard.serving.parts import open_parts

    settings = current()
    if settings.auth == "off" and not _is_loopback(args.host):
        raise InvalidSetting(
            f"Without authentication the server listens on this machine only, but --host is {args.host!r}: set MODELYARD_AUTH=keys."
        )
    configure_logs(access_log=args.access_log)
    parts = open_parts(settings)
    parts.served.get(
        "auto" if "auto" in parts.served.names else next(iter(parts.served.names))
    )  # what is broken is said now
    calm_garbage_collection()
    uvicorn.run(
        create_app(parts),
        host=args.host,
        port=args.port,
        loop="auto",
        http="auto",
        access_log=False,
        log_config=None,
        proxy_headers=False,  # nothing here asks for the caller's address
        server_header=False,
    )
    return 0


def calm_garbage_collection() -> None:
    """Leave models and modules, which never become garbage, out of every collection, and collect less often.

    A request makes few cycles; looking for them among a million objects after every 700 allocations took a third of its time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > LAST_PORT:
        raise argparse.ArgumentTypeError(f"a port must be a whole number from 0 to {LAST_PORT}, but got {text!r}")
    return int(text)
