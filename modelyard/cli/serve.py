"""`modelyard serve`."""

from __future__ import annotations

import argparse
from typing import Any

from modelyard.settings import current

LAST_PORT = 65535


def configure(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("serve", help="serve the OpenAI-compatible API")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
    parser.add_argument("--port", type=_port, default=8000, help="port to listen at (default: 8000)")
    parser.set_defaults(run=_serve)


def _serve(args: argparse.Namespace) -> int:
    import logging

    import uvicorn

    from modelyard.serving.app import create_app
    from modelyard.serving.served import Served

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s:     %(name)s: %(message)s")
    settings = current()
    models = Served(settings)
    models.get("auto")  # what is broken is said now, not at the first request
    uvicorn.run(create_app(settings, models), host=args.host, port=args.port, loop="auto")  # uvloop where it is there
    return 0


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > LAST_PORT:
        raise argparse.ArgumentTypeError(f"a port must be a whole number from 0 to {LAST_PORT}, but got {text!r}")
    return int(text)
