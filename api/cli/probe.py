"""Whether a BitNexus answers at a URL, asked by `GET /health`."""

from __future__ import annotations

import aiohttp

from api.cli.database import CommandError

PROBES = 8
PROBE_SECONDS = 1.5


async def probe(session: aiohttp.ClientSession, base: str) -> None:
    """Returns once a server answers. Of servers that share a port, one that hangs is passed by.

    Raises CommandError, one line, if nobody listens at `base`, another program does, or none answers in time.
    """
    for _ in range(PROBES):
        try:
            async with session.get("/health", timeout=aiohttp.ClientTimeout(total=PROBE_SECONDS)) as response:
                health = await response.json(content_type=None)
        except TimeoutError:
            continue
        except aiohttp.ClientConnectionError:
            raise CommandError(f"no server answers at {base}; start one with: bitnexus serve") from None
        except (aiohttp.ClientError, ValueError):
            health = None
        if isinstance(health, dict) and "status" in health:
            return
        raise CommandError(f"what answers at {base} is no BitNexus; is the address right?")
    silence = f"{PROBES * PROBE_SECONDS:g} s"
    raise CommandError(
        f"the server at {base} has not answered within {silence}; it hangs, or is out of reach"
    )
