"""The processes that a supervisor starts (`python -m mooring.child`): no command line library, less memory.

The settings were checked by the command that started the supervisor; they are read again, for each process has its own.
"""

from __future__ import annotations

import sys

from mooring import settings
from mooring.errors import ConfigurationError


def main(arguments: list[str]) -> int:
    """Run `serve HOST PORT [no-background]` or `work`; a wrong setting is one line and exit code 2."""
    # structlog loads rich where it finds it, for colours that a service never prints: 6 MB per process.
    sys.modules["rich"] = None  # type: ignore[assignment]
    from mooring import serve

    try:
        loaded = settings.load()
        if arguments[0] == "serve":
            background = "no-background" not in arguments[3:]
            return serve.serve(loaded, host=arguments[1], port=int(arguments[2]), background=background)
        return serve.work(loaded)
    except ConfigurationError as e:
        print(f"mooring: {e}", file=sys.stderr)  # noqa: T201
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
