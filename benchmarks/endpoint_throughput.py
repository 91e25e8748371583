"""How fast `harness run` drives an endpoint, beside a bare client loop and (where installed) inspect_ai.

    python benchmarks/endpoint_throughput.py [--inspect PYTHON] [--rounds 5]

The endpoint is a process of its own on loopback that answers after a fixed latency. All sides keep 64 requests in
flight and send the same files as data URLs. At 1 s of latency the endpoint is the limit; at 0.1 s the client is:
start-up is the wall time for one picture, the marginal time that of each further picture between the two largest runs.
The sides take turns; figures are medians over the rounds, ratios medians of the rounds' ratios. All modules
are compiled before, as pip leaves them. `harness run` writes every answer durably, keeps its cache, probes the endpoint
and scores. PYTHON is the interpreter of an environment that has inspect_ai, which runs in the first round only. About
five minutes on two quiet cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
COMPILED = Path(tempfile.gettempdir()) / "endpoint_throughput_compiled"
CONCURRENCY = 64
LABELS = ["amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness", "something else"]
PROMPT = f"Which of these emotions does this painting evoke, and why: {', '.join(LABELS)}?"
SAID = "awe because the sky above the dark hills is vast and the light falls through it"

BARE_LOOP = """
import asyncio, base64, json, sys
from pathlib import Path
import openai
url, folder, prompt, concurrency = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
async def main():
    client = openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0)
    places, answers = asyncio.Semaphore(concurrency), {}
    async def ask(path):
        async with places:
            image = "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()
            content = [{"type": "image_url", "image_url": {"url": image}}, {"type": "text", "text": prompt}]
            done = await client.chat.completions.create(
                model="m", max_tokens=300, temperature=0, messages=[{"role": "user", "content": content}])
            answers[path.name] = done.choices[0].message.content
    await asyncio.gather(*(ask(path) for path in sorted(folder.glob("*.jpg"))))
    print(len(answers))
asyncio.run(main())
"""
INSPECT = """
import sys
from pathlib import Path
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import ChatMessageUser, ContentImage, ContentText
from inspect_ai.scorer import includes
from inspect_ai.solver import generate
url, folder, prompt, concurrency, logs = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5]
samples = [Sample(input=[ChatMessageUser(content=[ContentImage(image=str(p)), ContentText(text=prompt)])], target="awe")
           for p in sorted(folder.glob("*.jpg"))]
(log,) = eval(Task(dataset=samples, solver=generate(), scorer=includes()), model="openai/m", model_base_url=url,
              model_args={"responses_api": False}, max_connections=concurrency, max_samples=concurrency, display="none",
              log_dir=logs, log_images=False, max_tokens=300, temperature=0)
assert log.status == "success", log.error
print(len(log.samples or samples))
"""


# ------------------------------------------------------------------------------------------- the endpoint


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, latency_s: float) -> None:
    """Serve one connection: chat completions after `latency_s`, and the right colour to the harness's probe."""
    from harness.adapters.endpoint_images import SHOWN, plain_image

    colours = {plain_image(colour).encode(): colour for colour in SHOWN}
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode().split("\r\n")
            length = next((int(x.split(":")[1]) for x in lines if x.lower().startswith("content-length:")), 0)
            body = await reader.readexactly(length)
            probe = next((colour for url, colour in colours.items() if len(body) < 20_000 and url in body), None)
            if length and probe is None:
                await asyncio.sleep(latency_s)
            content = completion(probe or SAID) if length else json.dumps({"object": "list", "data": []}).encode()
            head = (
                f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n".encode()
            )
            writer.write(head + content)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def completion(text: str) -> bytes:
    """A chat completion in JSON."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 800, "completion_tokens": 20, "total_tokens": 820}
    named = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
    return json.dumps(named | {"choices": [choice], "usage": usage}).encode()


async def serve(port: int, latency_s: float) -> None:
    """Answer for ever."""
    server = await asyncio.start_server(lambda r, w: answer(r, w, latency_s), "127.0.0.1", port, limit=2**24)
    await server.serve_forever()


def started(latency_s: float) -> tuple[subprocess.Popen[bytes], str]:
    """The endpoint's process and base URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, __file__, "--serve", str(port), str(latency_s)])
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process, f"http://127.0.0.1:{port}/v1"
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("the endpoint did not come up")


# ---------------------------------------------------------------------------------------------- the sides


def pictures(folder: Path, count: int, side: int | None = None) -> Path:
    """`count` paintings of the package (about 600 px), or made larger, and a task card over them."""
    from PIL import Image

    shipped = sorted((REPOSITORY / "tasks" / "demo_data" / "images").glob("*.jpg"))
    folder.mkdir(parents=True)
    lines = []
    for number in range(count):
        path, source = folder / f"{number:05}.jpg", shipped[number % len(shipped)]
        if side is None:
            shutil.copy(source, path)
        else:
            with Image.open(source) as picture:
                scale = side / max(picture.size)
                picture.resize((round(picture.width * scale), round(picture.height * scale))).save(path, quality=90)
        with path.open("ab") as file:
            file.write(b"\0" * (1 + number // len(shipped)))  # the same picture twice is two files
        said = [{"emotion": "awe", "explanation": "the sky is vast"}]
        lines.append(json.dumps({"id": str(number), "image": path.name, "annotations": said}))
    (folder / "examples.jsonl").write_text("\n".join(lines))
    card = {"name": "speed", "dataset": "jsonl", "emotions": LABELS, "options": {"examples": "examples.jsonl"}}
    card |= {"metrics": ["accuracy"], "prompts": {"default": PROMPT}}
    (folder / "speed.yaml").write_text(json.dumps(card))
    return folder


def command(side: str, url: str, folder: Path, scratch: Path, inspect: str | None) -> list[str]:
    """The command line of one side."""
    plain = [url, str(folder), PROMPT, str(CONCURRENCY)]
    if side == "bare loop":
        return [sys.executable, "-c", BARE_LOOP, *plain]
    if side == "inspect_ai":
        assert inspect is not None
        return [inspect, "-c", INSPECT, *plain, str(scratch / "logs")]
    words = ["run", "--tasks", str(folder / "speed.yaml"), "--models", f"gpt4v:model=m,base_url={url}", "--no-report"]
    return [sys.executable, "-m", "harness", *words, "--out", str(scratch / "run"), "--concurrency", str(CONCURRENCY)]


def measured(side: str, url: str, folder: Path, inspect: str | None) -> tuple[float, float, float]:
    """Wall seconds, peak memory in MB and processor seconds of one side's process."""
    with tempfile.TemporaryDirectory() as scratch:
        environment = os.environ | {
            "HARNESS_DATA": f"{scratch}/data",
            "OPENAI_API_KEY": "none",
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONPYCACHEPREFIX": str(COMPILED),
        }
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        if side == "inspect_ai":
            environment.pop("PYTHONPATH")
        with (Path(scratch) / "output").open("w+") as output:
            begun = time.perf_counter()
            words = command(side, url, folder, Path(scratch), inspect)
            process = subprocess.Popen(words, env=environment, stdout=output, stderr=output)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - begun
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode != 0:
                output.seek(0)
                raise RuntimeError(f"{side}: exit code {process.returncode}\n{output.read()[-3000:]}")
        return seconds, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime


Run = tuple[float, float, float]
"""Wall seconds, peak memory in MB, processor seconds."""


def compare(
    latency_s: float, counts: Sequence[int], rounds: int, inspect: str | None = None, side_px: int | None = None
) -> dict[str, Any]:
    """Medians over rounds by side and number of pictures; the sides take turns."""
    process, url = started(latency_s)
    sides = ["bare loop", "harness run", *(["inspect_ai"] if inspect else [])]
    found: dict[str, dict[int, list[Run]]] = {side: {n: [] for n in counts} for side in sides}
    try:
        with tempfile.TemporaryDirectory() as scratch:
            folders = {n: pictures(Path(scratch) / str(n), n, side_px) for n in counts}
            for side in sides[:2]:
                measured(side, url, folders[min(counts)], inspect)  # compiles what it imports
            for number in range(rounds):
                for count in counts:
                    for side in sides if number == 0 else sides[:2]:
                        found[side][count].append(measured(side, url, folders[count], inspect))
    finally:
        process.terminate()
        process.wait()
    ratios = ratio_of(marginal(found["harness run"]), marginal(found["bare loop"]))
    return {side: summary(rows) for side, rows in found.items()} | ({"harness over bare": ratios} if ratios else {})


def marginal(rows: dict[int, list[Run]]) -> list[tuple[float, float]]:
    """Milliseconds, and those of processor time, of each further picture between the two largest runs, by round."""
    if len(rows) < 2:
        return []
    few, many = sorted(rows)[-2:]
    pairs = zip(rows[few], rows[many], strict=True)
    return [tuple(1000 * (b[i] - a[i]) / (many - few) for i in (0, 2)) for a, b in pairs]  # type: ignore[misc]


def ratio_of(ours: Sequence[tuple[float, float]], theirs: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Median over rounds of how many times as long a picture takes."""
    names = ("marginal_ms", "marginal_cpu_ms")
    pairs = list(zip(ours, theirs, strict=True))
    return {name: round(statistics.median(a[i] / b[i] for a, b in pairs), 2) for i, name in enumerate(names) if pairs}


def summary(rows: dict[int, list[Run]]) -> dict[str, Any]:
    """Wall, processor time and memory by count; start-up and marginal milliseconds where they were measured."""

    def medians(part: int, digits: int) -> dict[str, float]:
        return {str(n): round(statistics.median(run[part] for run in runs), digits) for n, runs in rows.items()}

    found: dict[str, Any] = {"wall_s": medians(0, 3), "cpu_s": medians(2, 3), "peak_memory_mb": medians(1, 0)}
    if 1 in rows:
        found["start_up_s"] = found["wall_s"]["1"]
    for i, name in enumerate(("marginal_ms_per_request", "marginal_cpu_ms_per_request")):
        if times := marginal(rows):
            found[name] = round(statistics.median(pair[i] for pair in times), 3)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--serve", nargs=2, metavar=("PORT", "LATENCY"), help=argparse.SUPPRESS)
    parser.add_argument("--inspect", metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=1000)
    options = parser.parse_args(arguments)
    if options.serve:
        asyncio.run(serve(int(options.serve[0]), float(options.serve[1])))
    few = max(2, options.count // 5)
    result = {
        "environment": {
            "cores": os.cpu_count(),
            "load_average_1m": round(os.getloadavg()[0], 2),
            "python": sys.version.split()[0],
            "concurrency": CONCURRENCY,
            "rounds": options.rounds,
        },
        "latency 0.1 s": compare(0.1, [1, few, options.count], options.rounds, options.inspect),
        "latency 0.1 s, pictures of 1,024 px": compare(0.1, [1, few], options.rounds, side_px=1024),
        "latency 1 s": compare(1.0, [options.count], (options.rounds + 1) // 2),
        "ideal_s_at_latency_1_s": options.count / CONCURRENCY,
    }
    result["environment"]["load_average_1m_after"] = round(os.getloadavg()[0], 2)
    out = REPOSITORY / "benchmarks" / "results" / "endpoint_throughput.json"
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
