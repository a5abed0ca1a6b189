#!/usr/bin/env python3
"""Reads what the CUDA compiler made: the instructions that were meant, no spills, launches within every card's limits.

usage: tests/cuda/sass.py BUILD [--launches LOG --program PROGRAM] [--list]

BUILD is a CUDA build folder. Its objects of engine/kernels/cuda are disassembled with cuobjdump and nvdisasm, from PATH, the
toolkit or the Python packages nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm; without them one line says so and nothing is
checked. LOG is what PROGRAM, a test of the host implementation, wrote to EMULATED_LAUNCH_LOG: the block and shared memory of
every launch, held against the registers that each architecture's code needs and the limits of sm_75 to sm_90.
Exit status: 0 all well or nothing checked, 1 something is not as meant, 2 usage.
"""
import argparse
import collections
import glob
import os
import re
import shutil
import subprocess
import sys

# CUDA C++ programming guide, technical specifications: per block for every architecture from 7.5 to 9.0.
REGISTERS_PER_BLOCK, THREADS_PER_BLOCK, REGISTERS_PER_THREAD = 65536, 1024, 255
SHARED_PER_BLOCK = {75: 64 << 10, 80: 163 << 10, 86: 99 << 10, 89: 99 << 10, 90: 227 << 10}
# Registers are given to warps in steps of this many per thread.
REGISTER_STEP = 8

# A pointer that is read from memory is accessed with LD and ST: its address space is not known.
# Kernels without 16-byte accesses to global memory in any instantiation, by file and name, and why that is meant.
NARROW = {
    "attention_plain_forward:combine_splits": "one float of a split's sums per thread, coalesced",
    "attention_ragged:fill_bounds": "a run of documents per thread",
    "attention_ragged:transpose_tiles": "a tile of floats per warp, coalesced both ways",
    "cross_entropy:mean_of_tokens": "one block, in the order of tokens",
    "elementwise:sum_partial": "few partial sums",
    "linear_rows:add_chunks": "few partial sums",
    "linear_rows:fill": "rows of any stride",
    "rms_norm_weight:sum_partial": "few partial sums",
    "rope:angles_of": "bound by double-precision sines, once per batch",
    "step_state:add_chunks": "few partial sums",
    "step_state:add_tensors": "few partial sums",
    "token_order:count_digits": "digits of single ids",
    "token_order:place_tokens": "scattered by design",
    "token_order:scan_counts": "few counts",
}
# Accesses to local memory that a kernel of a file may have at most, and why they are borne. Everywhere else: none.
SPILLS = {
    "rope": (8, "argument reduction of double-precision sines"),
    "step_state": (8, "one thread that advances the clock"),
    "rms_norm_weight": (2, "a word stored before the loops and read behind them, on sm_80"),
    "attention_plain_forward": (64, "the fallback of any head_dim; not tuned"),
    "attention_plain_backward": (96, "the fallback of any head_dim; not tuned"),
}
# Kernels whose products run on tensor cores: files that must hold the instruction, at which architectures.
TENSOR_CORES = [
    ("attention_flash", "HMMA", (75, 80, 86, 89, 90)),
    ("attention_wgmma", "HGMMA", (90,)),
]
# Kernels whose exponentials run while a product of the warpgroup does, behind the wait that leaves one under way: at least
# so many of them in the code. The compiler may move a wait up and nothing but the speed would tell.
BESIDE_PRODUCTS = [
    ("attention_wgmma_forward", "MUFU.EX2", 64),
    ("attention_wgmma_keys", "MUFU.EX2", 32),
    ("attention_wgmma_queries", "MUFU.EX2", 64),
]

Kernel = collections.namedtuple("Kernel", "file name base arch registers stack instructions")


def find_tool(name):
    places = [shutil.which(name)]
    places += [os.path.join(os.environ.get("CUDA_HOME", "/usr/local/cuda"), "bin", name)]
    for folder in sys.path:
        places += glob.glob(os.path.join(folder, "nvidia", "*", "bin", name))
    for place in places:
        if place and os.access(place, os.X_OK):
            return place
    return None


def run(*command):
    environment = dict(os.environ)
    environment["PATH"] = os.path.dirname(command[0]) + os.pathsep + environment.get("PATH", "")
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def demangle(names):
    if not names:
        return {}
    text = subprocess.run(["c++filt"], input="\n".join(names), check=True, capture_output=True, text=True).stdout
    return dict(zip(names, text.splitlines()))


def base_of(name):
    """forward_rows of "void ink::(anonymous namespace)::forward_rows<float, 8>(float const*, ...)"."""
    name = name.replace("(anonymous namespace)", "anonymous")
    return re.split(r"[<(]", name)[0].split("::")[-1].split(" ")[-1]


def kernels_of(path, cuobjdump):
    """Every kernel of an object, once per architecture."""
    usage = {}
    arch = 0
    for line in run(cuobjdump, "-res-usage", path).splitlines():
        if found := re.search(r"arch = sm_(\d+)", line):
            arch = int(found[1])
        elif found := re.match(r"\s*Function (\S+):", line):
            function = found[1]
        elif found := re.search(r"REG:(\d+) STACK:(\d+)", line):
            usage[arch, function] = int(found[1]), int(found[2])
    code = collections.defaultdict(collections.Counter)
    beside = False
    for line in run(cuobjdump, "-sass", path).splitlines():
        if found := re.search(r"^\s*code for sm_(\d+)", line):
            arch = int(found[1])
        elif found := re.match(r"\s*Function : (\S+)", line):
            function = found[1]
        elif found := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?\s*([A-Z][A-Z0-9_.]*)", line):
            code[arch, function][found[1]] += 1
            if found[1] == "WARPGROUP.DEPBAR.LE":
                beside = "gsb0, 0x1" in line
            elif beside:
                code[arch, function]["BESIDE " + found[1]] += 1
    names = demangle(sorted({function for _, function in usage}))
    file = os.path.basename(path).split(".")[0]
    return [
        Kernel(file, names[function], base_of(names[function]), arch, *usage[arch, function], code[arch, function])
        for arch, function in sorted(usage)
    ]


def count(kernel, pattern):
    return sum(number for name, number in kernel.instructions.items() if re.match(pattern, name))


def check_code(kernels, complain):
    for kernel in kernels:
        local = count(kernel, r"(LDL|STL)\b")
        if local > SPILLS.get(kernel.file, (0, ""))[0]:
            complain(f"{kernel.file} sm_{kernel.arch}: {kernel.name}: {local} accesses to local memory")
        if kernel.registers > REGISTERS_PER_THREAD:
            complain(f"{kernel.file} sm_{kernel.arch}: {kernel.name}: {kernel.registers} registers")
    groups = collections.defaultdict(list)
    for kernel in kernels:
        groups[kernel.file, kernel.base, kernel.arch].append(kernel)
    for (file, base, arch), group in sorted(groups.items()):
        wide = any(count(k, r"(LDG|STG|LDGSTS|LD|ST)\.\S*128") for k in group)
        if not wide and f"{file}:{base}" not in NARROW:
            complain(f"{file} sm_{arch}: {base}: no 16-byte access to global memory in any instantiation")
        if wide and f"{file}:{base}" in NARROW:
            complain(f"{file} sm_{arch}: {base}: has 16-byte accesses, and NARROW says it has none")
    for prefix, instruction, archs in TENSOR_CORES:
        for file, arch in sorted({(k.file, k.arch) for k in kernels if k.file.startswith(prefix) and k.arch in archs}):
            mine = [k for k in kernels if k.file == file and k.arch == arch]
            if not any(count(k, instruction + r"\b") for k in mine):
                complain(f"{file} sm_{arch}: no {instruction} in any kernel")
    for file, instruction, least in BESIDE_PRODUCTS:
        for kernel in (k for k in kernels if k.file == file):
            there = kernel.instructions["BESIDE " + instruction]
            if there < least:
                complain(f"{file}: {kernel.name}: {there} {instruction} beside products, expected {least}")


def read_launches(log, program):
    """(base name, threads, shared bytes, architecture) of every launch that was seen."""
    symbols = {}
    for line in subprocess.run(["nm", "-C", program], check=True, capture_output=True, text=True).stdout.splitlines():
        if found := re.match(r"([0-9a-f]+) [tTwWuV] (.+)", line):
            symbols[int(found[1], 16)] = found[2]
    launches = set()
    with open(log, encoding="utf-8") as lines:
        for line in lines:
            offset, threads, shared, arch = map(int, line.split())
            launches.add((base_of(symbols.get(offset, "unknown")), threads, shared, arch))
    return launches


def check_launches(launches, kernels, complain):
    registers = collections.defaultdict(int)
    for kernel in kernels:
        registers[kernel.base] = max(registers[kernel.base], kernel.registers)
    for base, threads, shared, arch in sorted(launches):
        if base not in registers:
            continue  # a kernel of a test
        given = -(-registers[base] // REGISTER_STEP) * REGISTER_STEP * (-(-threads // 32) * 32)
        if threads > THREADS_PER_BLOCK:
            complain(f"{base}: {threads} threads in a block")
        if given > REGISTERS_PER_BLOCK:
            complain(f"{base}: {threads} threads of {registers[base]} registers do not fit into a block")
        if shared > SHARED_PER_BLOCK[arch]:
            complain(f"{base}: {shared} bytes of shared memory at sm_{arch}, which has {SHARED_PER_BLOCK[arch]}")
    return len([launch for launch in launches if launch[0] in registers]), set(registers) - {l[0] for l in launches}


def main():
    parser = argparse.ArgumentParser(usage=__doc__, add_help=False)
    parser.add_argument("build")
    parser.add_argument("--launches")
    parser.add_argument("--program")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    cuobjdump = find_tool("cuobjdump")
    if cuobjdump is None or find_tool("nvdisasm") is None:
        print("sass: nothing was checked, cuobjdump and nvdisasm are missing (pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm)")
        return 0
    objects = sorted(glob.glob(os.path.join(options.build, "engine", "**", "*.cu.o"), recursive=True))
    if not objects:
        print(f"error: sass.py: expected a CUDA build with its kernels, got none in {options.build}", file=sys.stderr)
        return 2
    kernels = [kernel for path in objects for kernel in kernels_of(path, cuobjdump)]
    problems = []
    check_code(kernels, problems.append)
    if options.list:
        for k in kernels:
            print(f"{k.file:24} sm_{k.arch} {k.registers:4} registers {k.stack:5} stack  {k.name}")
    print(f"sass: {len(kernels)} kernels of {len(objects)} files, most registers {max(k.registers for k in kernels)}")
    if options.launches:
        seen, unseen = check_launches(read_launches(options.launches, options.program), kernels, problems.append)
        print(f"sass: {seen} launch configurations; never launched: {', '.join(sorted(unseen)) or 'none'}")
    for problem in problems:
        print("sass: " + problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
