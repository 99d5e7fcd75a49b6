"""Arithmetic over MCP, on an SDK that is not ours: the math half of the foreign fleet."""

from mcp.server.fastmcp import FastMCP

server = FastMCP("math")


def plain(number: float) -> str:
    """Writes a whole number without its fraction, so that 17 times 23 reads 391."""
    return str(int(number)) if number == int(number) else repr(number)


@server.tool()
def add(a: float, b: float) -> str:
    """Adds b to a."""
    return plain(a + b)


@server.tool()
def multiply(a: float, b: float) -> str:
    """Multiplies a by b."""
    return plain(a * b)


if __name__ == "__main__":
    server.run(transport="stdio")
