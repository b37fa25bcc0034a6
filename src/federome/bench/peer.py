"""What the network is measured against: the same server stack with nothing behind it, over the same TLS.

``python -m federome.bench.peer FOLDER PORT`` serves ``POST /echo`` and ``PUT /upload`` with the certificate of a hub's
folder. ``echo_s`` and ``uploading`` are the clients.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Final

import httpx2 as httpx
import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool

from federome.demo.local import free_port, wait_for_port
from federome.network.transport import tls_context

END_S: Final = 5.0


def create_app(folder: Path) -> FastAPI:
    """Echo, and upload into a file, as plainly as the stack allows."""
    app = FastAPI(docs_url=None, redoc_url=None)

    @app.post("/echo")
    async def echo(request: Request) -> Response:
        return Response(await request.body(), media_type="application/octet-stream")

    @app.put("/upload")
    async def upload(request: Request, name: str) -> Response:
        with (folder / f"upload-{name}").open("wb") as file:
            held = bytearray()
            async for piece in request.stream():
                held += piece
                if len(held) >= 1 << 20:
                    await run_in_threadpool(file.write, bytes(held))
                    held.clear()
            file.write(held)
        return Response(status_code=204)

    return app


@contextmanager
def serving(folder: Path, keys: Path) -> Iterator[str]:
    """Serve the peer as a process; gives its address."""
    port = free_port()
    command = [sys.executable, "-m", "federome.bench.peer", str(folder), str(keys), str(port)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603
    try:
        wait_for_port("127.0.0.1", port, process)
        yield f"https://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def echo_s(url: str, certificate: Path, *, size: int, repeats: int) -> float:
    """Median seconds of a POST of ``size`` bytes and its answer, over one connection."""
    body = bytes(size)
    with httpx.Client(base_url=url, verify=tls_context(certificate)) as http:
        seconds = []
        for _ in range(repeats):
            started = time.perf_counter()
            http.post("/echo", content=body).read()
            seconds.append(time.perf_counter() - started)
    return median(seconds[len(seconds) // 10 :])


@contextmanager
def uploading(url: str, certificate: Path, *, size: int, clients: int) -> Iterator[Callable[[], float]]:
    """Client processes, as long as the block lasts; gives what has each upload ``size`` bytes, at once, in seconds."""
    with ProcessPoolExecutor(clients, mp_context=get_context("spawn")) as pool:
        ready = partial(_upload, url, certificate)
        list(pool.map(ready, [1] * clients, range(clients)))

        def upload() -> float:
            started = time.perf_counter()
            list(pool.map(ready, [size] * clients, range(clients)))
            return time.perf_counter() - started

        yield upload


def _upload(url: str, certificate: Path, size: int, name: int) -> None:
    with httpx.Client(base_url=url, verify=tls_context(certificate), timeout=120) as http:
        http.put("/upload", params={"name": str(name)}, content=bytes(size)).raise_for_status()


def main() -> None:
    """Serve until told to stop."""
    folder, keys, port = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    uvicorn.run(
        create_app(folder),
        host="127.0.0.1",
        port=port,
        ssl_certfile=keys / "tls.pem",
        ssl_keyfile=str(keys / "tls.key"),
        timeout_graceful_shutdown=1,
        timeout_keep_alive=60,
        log_level="warning",
        server_header=False,
        date_header=False,
    )


if __name__ == "__main__":
    main()
