"""The icon that browsers ask every site for."""

from typing import Final

from aiohttp import web

PATH: Final = "/favicon.ico"

SVG: Final = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
    b'<path fill="#0b5394" d="M5 2h16l6 6v22H5z"/>'
    b'<path fill="none" stroke="#fff" stroke-width="2" stroke-dasharray="3 2" d="M12 4v24"/>'
    b'<path fill="none" stroke="#fff" stroke-width="3" d="M15.5 18l3 3.500 5-7"/></svg>'
)


def favicon() -> web.Response:
    """Return the icon; browsers keep it for a day."""
    headers = {
        "Server": "counterfoil",
        "Cache-Control": "public, max-age=86400",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'",
    }
    return web.Response(body=SVG, content_type="image/svg+xml", headers=headers)
