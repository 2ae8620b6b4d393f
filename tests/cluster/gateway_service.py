"""Owns the gateway's Service: readiness probes as the chart writes them, and connections led to ready pods in turn."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from tests.cluster.pods import GATEWAY, Pod

CHUNK = 65536


class GatewayService:
    """Listens on the bridge. Like kube-proxy, it leaves the connections alone that it has once led somewhere."""

    def __init__(self, pods: Callable[[], list[Pod]], selector: Mapping[str, str], target_port: int) -> None:
        self._pods = pods
        self._selector = selector
        self._port = target_port
        self._failures: Counter[str] = Counter()
        self._ready: dict[str, Pod] = {}
        self._turns = itertools.count()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="gateway service", daemon=True)
        self._listening = threading.Event()
        self.port = 0
        self.led: Counter[str] = Counter()  # connections, by pod
        self._thread.start()
        assert self._listening.wait(10)

    @property
    def url(self) -> str:
        return f"http://{GATEWAY}:{self.port}"

    @property
    def ready(self) -> list[Pod]:
        return [pod for pod in list(self._ready.values()) if pod.running and not pod.deleted]

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        """Until it is closed; the runner then ends whatever is left."""
        self._over = asyncio.Event()
        server = await asyncio.start_server(self._lead, GATEWAY, 0)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        probing = asyncio.create_task(self._probe())
        await self._over.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(probing, *others, return_exceptions=True)

    async def _probe(self) -> None:
        running: dict[str, asyncio.Task[None]] = {}
        while True:
            for pod in self._pods():
                matches = all(pod.spec.labels.get(key) == value for key, value in self._selector.items())
                if matches and pod.spec.name not in running and pod.spec.readiness is not None:
                    running[pod.spec.name] = self._loop.create_task(self._watch(pod, pod.spec.readiness))
            await asyncio.sleep(0.25)

    async def _watch(self, pod: Pod, probe: Mapping[str, Any]) -> None:
        name = pod.spec.name
        url = f"http://{pod.address}:{self._port}{probe['httpGet']['path']}"
        async with httpx.AsyncClient(trust_env=False, timeout=probe.get("timeoutSeconds", 1)) as client:
            while pod.running and not pod.deleted:
                try:
                    is_well = (await client.get(url)).is_success
                except httpx.HTTPError:
                    is_well = False
                if is_well:
                    self._failures[name] = 0
                    self._ready[name] = pod
                else:
                    self._failures[name] += 1
                    if self._failures[name] >= probe.get("failureThreshold", 3):
                        self._ready.pop(name, None)
                await asyncio.sleep(probe.get("periodSeconds", 10))
        self._ready.pop(name, None)

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not (ready := self.ready):
            writer.transport.abort()
            return
        pod = ready[next(self._turns) % len(ready)]
        self.led[pod.spec.name] += 1
        out: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(10):
                theirs, out = await asyncio.open_connection(pod.address, self._port)
            await asyncio.gather(_copy(reader, out), _copy(theirs, writer))
        except (OSError, TimeoutError):
            writer.transport.abort()
        finally:
            for each in (writer, out):
                if each is not None:
                    each.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until the reader's end, which goes on as an end. OSError if either side breaks: then both are to."""
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
