"""The command `mooring`."""

from __future__ import annotations

import sys

from mooring.errors import ConfigurationError, MooringError


def main() -> None:
    """Run the command line. A refusal is one line on standard error and exit code 2, never a traceback."""
    try:
        from mooring.cli import app
    except ModuleNotFoundError as e:
        if (e.name or "").startswith("mooring"):
            raise
        missing = f"mooring: the hub is not installed ({e.name} is missing): pip install 'mooring[server]'"
        print(missing, file=sys.stderr)  # noqa: T201
        sys.exit(2)

    try:
        app(prog_name="mooring")
    except ConfigurationError as e:
        print(f"mooring: {e}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except MooringError as e:
        hint = f" {e.error_hint}" if e.error_hint else ""
        details = "".join(f"\n  - {line}" for line in e.errors)
        print(f"mooring: {e.message.removesuffix('.')}.{hint}{details}", file=sys.stderr)  # noqa: T201
        sys.exit(2)


if __name__ == "__main__":
    main()
