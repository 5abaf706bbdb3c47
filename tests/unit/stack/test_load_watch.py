"""A look at a run says which processes are not ready again after something was done to them."""

from typing import Any

from aiohttp import web

from motorcade.stack.load.watch import Watch
from motorcade.stack.ports import free_ports


class Fleet:
    async def fleet(self) -> dict[str, Any]:
        return {"connected": 1}


class Meter:
    def __init__(self) -> None:
        self.rss: dict[str, float] = {}

    def sample(self) -> None: ...

    def cpu_seconds(self) -> dict[str, float]:
        return {}


async def test_a_process_is_unready_from_its_end_until_it_says_that_it_is_ready() -> None:
    lacks = ["kafka"]

    async def readyz(_: web.Request) -> web.Response:
        return web.json_response({"waiting_for": lacks}, status=503 if lacks else 200)

    (port,) = free_ports(1)
    watch = Watch(Fleet(), Meter(), None, ports={"score": port, "twin": port})  # type: ignore[arg-type]
    assert (await watch.sample(None)).unready == frozenset()
    watch.disturbed(["score", "mosquitto-1"])  # a broker has no such port
    assert (await watch.sample(None)).unready == {"score"}, "nobody listens yet"
    app = web.Application()
    app.router.add_get("/readyz", readyz)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        assert (await watch.sample(None)).unready == {"score"}, "it waits for Kafka"
        lacks.clear()
        assert (await watch.sample(None)).unready == frozenset()
        lacks.append("kafka")
        assert (await watch.sample(None)).unready == frozenset(), "nothing was done to it"
    finally:
        await runner.cleanup()
