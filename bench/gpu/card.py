"""What has to stand beside every number of a card: name, driver, clocks, versions, and its memory."""

import os
import subprocess
import threading

FIELDS = ["name", "driver_version", "clocks.sm", "clocks.mem", "power.limit", "memory.total"]

# Dense bf16 rate of the data sheets, flops per second.
PEAK_RATES = {
    "H100 80GB HBM3": 989e12,
    "H100 SXM": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H200 NVL": 835e12,
    "H200": 989e12,
}


def query(fields: list[str]) -> list[str] | None:
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0]
    if visible:  # the benchmarks run on the first card that they see
        command += ["--id", visible]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.splitlines()
    return [value.strip() for value in lines[0].split(",")] if lines else None


def require_card() -> None:
    if query(["name"]) is None:
        raise SystemExit(
            "expected an NVIDIA card with its driver, got none (nvidia-smi does not answer);\n"
            "hint: --dry-run tries the same program in small sizes on the CPU"
        )


def describe_card(tiny: bool) -> dict | None:
    values = None if tiny else query(FIELDS)
    return dict(zip(FIELDS, values)) if values else None


def peak_rate(card: dict | None) -> float | None:
    """None for a card that is not in the table: no share of a peak is reported then."""
    name = card["name"] if card else ""
    return next((rate for part, rate in PEAK_RATES.items() if part in name), None)


class MemoryWatch:
    """The most memory in use on the card, by all processes, while the block runs; MiB."""

    def __enter__(self):
        self.peak, self.done = None, threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self) -> None:
        while not self.done.is_set():
            used = query(["memory.used"])
            if used is None or not used[0].isdigit():  # "[N/A]" on cards that share the host's memory
                return
            self.peak = max(self.peak or 0, int(used[0]))
            self.done.wait(1)  # what both sides allocate stays; asking often would disturb them

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()
