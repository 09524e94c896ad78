"""What whoever runs the service can look at and change over HTTP: which models are served."""

from collections.abc import Callable

from aiohttp import web

from service.reload import Reloader, RollbackRefused

IsAdmin = Callable[[str | None, str | None], bool]


def admin_routes(models: Reloader, *, is_admin: IsAdmin, is_ready: Callable[[], bool]) -> list[web.RouteDef]:
    """``GET /admin/models``, ``POST /admin/rollback?model=NAME``, ``POST /admin/reload``, which looks at the store now.

    ``is_admin`` is asked with the header Authorization and the caller's address.
    """

    def require_admin(request: web.Request) -> None:
        # A page in a browser on this machine is on this machine too, but says where it comes from.
        if "Origin" in request.headers or not is_admin(request.headers.get("Authorization"), request.remote):
            raise web.HTTPForbidden(
                text="only for admins: callers with admin = true, by 'Authorization: Bearer TOKEN'; "
                "without a file of callers, from this machine\n"
            )
        if not is_ready():
            raise web.HTTPServiceUnavailable(text="not ready\n")

    async def overview(request: web.Request) -> web.Response:
        require_admin(request)
        return web.json_response(models.overview())

    async def rollback(request: web.Request) -> web.Response:
        require_admin(request)
        try:
            models.rollback(request.query.get("model", ""))
        except RollbackRefused as error:
            raise web.HTTPConflict(text=f"{error}\n") from error
        return web.json_response(models.overview())

    async def reload(request: web.Request) -> web.Response:
        require_admin(request)
        await models.look()
        return web.json_response(models.overview())

    return [
        web.get("/admin/models", overview),
        web.post("/admin/rollback", rollback),
        web.post("/admin/reload", reload),
    ]
