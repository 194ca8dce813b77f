"""An agent that links a Redmine, looks at what it may do there, and files a ticket: all by MCP, as a model would.

    MOORING_URL=http://127.0.0.1:8080 MOORING_API_KEY=… \\
    REDMINE_URL=https://redmine.example.com REDMINE_API_KEY=… REDMINE_PROJECT=hub \\
    python examples/agent_files_a_ticket.py "The crane is stuck"

It needs `pip install mooring mcp httpx2`. In a product an end user links the account in the Hub; here the script gives the
key to the Hub's API in their place.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import httpx
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from mooring import Mooring


def link(hub: Mooring, url: str, redmine: str, key: str) -> str:
    """Link the Redmine for one owner; returns the account's id."""
    config = next(hub.auth_configs.list(connector_key="redmine"), None)
    if config is None:
        config = hub.auth_configs.create("redmine", "api_key")
    session = hub.connect_sessions.create("acme", "Acme Inc.", integration_id=config.id)
    form = {"integration_id": config.id, "credentials": {"base_url": redmine, "api_key": key}}
    made = httpx.post(f"{url}/hub/accounts", json=form, headers={"x-hub-session-token": session.token}, timeout=30)
    if made.is_error:
        sys.exit(f"Redmine was not linked: {made.json()['message']}")
    return str(made.json()["id"])


async def file_a_ticket(url: str, key: str, account: str, project: str, subject: str) -> dict[str, Any]:
    """Find the tool for it, and call it."""
    async with httpx2.AsyncClient(auth=(key, ""), headers={"x-account-id": account}, timeout=60) as http:
        transport = streamable_http_client(f"{url}/mcp?param-style=flat_smart", http_client=http)
        async with Client(transport) as mcp:
            tools = (await mcp.list_tools()).tools
            print(f"{len(tools)} tools:", ", ".join(tool.name for tool in tools))
            tool = next(tool for tool in tools if tool.name == "redmine_create_issue")
            print(f"calling {tool.name}: {tool.description}")
            result = await mcp.call_tool(tool.name, {"project_id": project, "subject": subject})
            if result.is_error:
                sys.exit(f"no ticket was filed: {result.content[0].text}")
            return dict(result.structured_content["data"])


def main() -> None:
    """Link, and file."""
    url, key = os.environ["MOORING_URL"], os.environ["MOORING_API_KEY"]
    with Mooring(url, key) as hub:
        account = link(hub, url, os.environ["REDMINE_URL"], os.environ["REDMINE_API_KEY"])
    print(f"linked account {account}")
    subject = sys.argv[1] if len(sys.argv) > 1 else "Filed by an agent"
    ticket = asyncio.run(file_a_ticket(url, key, account, os.environ["REDMINE_PROJECT"], subject))
    print(f"ticket #{ticket['id']}: {ticket['subject']}")


if __name__ == "__main__":
    main()
