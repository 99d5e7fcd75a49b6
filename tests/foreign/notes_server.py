"""A memory of short texts over MCP, on an SDK that is not ours: the notes half of the foreign fleet."""

from mcp.server.fastmcp import FastMCP

server = FastMCP("notes")
notes: dict[str, str] = {}


@server.tool()
def save(key: str, value: str) -> str:
    """Keeps value under key; what was there before is replaced."""
    notes[key] = value
    return f"kept '{value}' under '{key}'"


@server.tool()
def recall(key: str) -> str:
    """Gives back what was kept under key."""
    if key not in notes:
        raise ValueError(f"nothing is kept under '{key}'")
    return notes[key]


if __name__ == "__main__":
    server.run(transport="stdio")
