#!/usr/bin/env python3
"""Turns the CSV of Nsight Compute into a Markdown table, one row per kernel and launch shape.

    ncu --clock-control none --csv --page raw --metrics METRICS blockgtq ... > kernels.csv
    kernel_table.py kernels.csv [...] > table.md

METRICS: gpu__time_duration.sum,dram__bytes.sum,dram__throughput.avg.pct_of_peak_sustained_elapsed,
sm__throughput.avg.pct_of_peak_sustained_elapsed
"""
import csv
import re
import statistics
import sys

TIME, BYTES, MEMORY, COMPUTE = ("gpu__time_duration.sum", "dram__bytes.sum",
                                "dram__throughput.avg.pct_of_peak_sustained_elapsed",
                                "sm__throughput.avg.pct_of_peak_sustained_elapsed")
TO_US = {"ns": 1e-3, "nsecond": 1e-3, "us": 1, "usecond": 1, "ms": 1e3, "msecond": 1e3}
TO_MB = {"byte": 1e-6, "Kbyte": 1e-3, "Mbyte": 1, "Gbyte": 1e3}


def rows_of(path):
    with open(path, newline="") as file:
        lines = [line for line in file if line.startswith('"')]  # not what the program prints
    header, units, *rows = csv.reader(lines)
    unit = dict(zip(header, units))
    for row in rows:
        cell = dict(zip(header, row))
        yield cell["Kernel Name"], cell["Grid Size"], {
            "us": float(cell[TIME].replace(",", "")) * TO_US[unit[TIME]],
            "mb": float(cell[BYTES].replace(",", "")) * TO_MB[unit[BYTES]],
            "memory": float(cell[MEMORY]), "compute": float(cell[COMPUTE])}


def short(name):
    """Our kernels without namespaces and arguments; the library's as they are."""
    ours = re.search(r"(\w+_kernel)(<[^(]*>)?", name)
    name = ours.group(1) + (ours.group(2) or "") if ours else name
    return name if len(name) <= 60 else name[:57] + "..."


launches = {}
for path in sys.argv[1:]:
    for kernel, grid, figures in rows_of(path):
        launches.setdefault((short(kernel), grid), []).append(figures)
print("| kernel | grid | launches | us | MB | GB/s | of DRAM peak | of SM peak |")
print("|---|---|---:|---:|---:|---:|---:|---:|")
for (kernel, grid), all_of in sorted(launches.items(), key=lambda x: -sum(f["us"] for f in x[1])):
    middle = {key: statistics.median(f[key] for f in all_of) for key in all_of[0]}
    print(f"| `{kernel}` | {grid} | {len(all_of)} | {middle['us']:.1f} | {middle['mb']:.2f} | "
          f"{middle['mb'] / middle['us'] * 1e3:.0f} | {middle['memory']:.0f} % | {middle['compute']:.0f} % |")
