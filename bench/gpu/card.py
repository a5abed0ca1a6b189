"""What has to stand beside every number of a card: name, driver, clocks, versions, and its memory."""

import importlib.metadata
import os
import platform
import statistics
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


def torch_versions() -> dict:
    """Of the process that has torch."""
    import torch

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": importlib.metadata.version("transformers"),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


class CardWatch:
    """While the block runs: the most memory in use on the card, by all processes, in MiB, and the clock of its
    multiprocessors in MHz while they are busy, the median."""

    BUSY = 90  # percent of the driver's last sampling period
    FIELDS = ["memory.used", "clocks.sm", "utilization.gpu"]

    def __enter__(self):
        self.peak, self.clocks, self.done = None, [], threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self) -> None:
        while not self.done.is_set():
            values = query(self.FIELDS)
            if values is None:
                return
            # "[N/A]" on cards that share the host's memory, or that are divided.
            used, clock, busy = (int(value) if value.isdigit() else None for value in values)
            if used is not None:
                self.peak = max(self.peak or 0, used)
            if clock is not None and busy is not None and busy >= self.BUSY:
                self.clocks.append(clock)
            self.done.wait(1)  # what both sides allocate stays; asking often would disturb them

    @property
    def clock(self) -> float | None:
        return statistics.median(self.clocks) if self.clocks else None

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()
