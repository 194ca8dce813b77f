"""`python -m mooring.courier`: started by `mooring serve` and `mooring worker`, not by hand."""

from __future__ import annotations

import asyncio
import sys

from mooring import settings
from mooring.courier.server import run
from mooring.errors import ConfigurationError
from mooring.kit.process import forbid_core_dumps
from mooring.kit.vault import Vault, parse_keys


def main() -> int:
    """Run the courier; a wrong setting is one line and exit code 2."""
    forbid_core_dumps()  # this process holds master keys (rule V6)
    try:
        loaded = settings.load()
        if loaded.master_keys:
            vault = Vault(parse_keys(loaded.master_keys, source="MOORING_MASTER_KEYS"))
        else:
            vault = Vault.from_file(loaded.resolved_key_file, data_dir=loaded.data_dir)
        asyncio.run(run(loaded, vault))
    except ConfigurationError as e:
        print(f"mooring: {e}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
