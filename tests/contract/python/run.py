"""Drives StackOne's Python client for AI from its own environment: one JSON command per line in, one answer per line out.

environment  HUB_URL, HUB_API_KEY
command      {"do": "tools" | "run" | "search" | "names" | "feedback", "account": "…", …}
answer       {"ok": true, "result": …} or {"ok": false, "error": "…", "type": "…"}
"""

import json
import os
import sys

from stackone_ai import StackOneToolSet
from stackone_ai.feedback.tool import create_feedback_tool

URL, KEY = os.environ["HUB_URL"], os.environ["HUB_API_KEY"]


def work(command):
    account = command["account"]
    toolset = StackOneToolSet(api_key=KEY, base_url=URL, search={"method": "semantic"})
    if command["do"] == "feedback":
        return create_feedback_tool(KEY, account_id=account, base_url=URL).execute(command["arguments"])
    if command["do"] == "names":
        found = toolset.search_action_names(command["query"], account_ids=[account], top_k=5)
        return [one.id if hasattr(one, "id") else one["id"] for one in found]
    if command["do"] == "search":
        return [tool.name for tool in toolset.search_tools(command["query"], account_ids=[account], top_k=5)]
    tools = toolset.fetch_tools(account_ids=[account])
    if command["do"] == "tools":
        return {tool.name: tool.to_openai_function() for tool in tools}
    return tools.get_tool(command["tool"]).execute(command["arguments"])


for line in sys.stdin:
    try:
        answer = {"ok": True, "result": work(json.loads(line))}
    except Exception as e:
        answer = {"ok": False, "error": str(e), "type": type(e).__name__}
    print(json.dumps(answer, default=str), flush=True)
