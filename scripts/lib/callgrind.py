"""Instructions per packet by function: what two runs of one program differ by, that had other numbers of packets.

    callgrind.py FEW MANY PACKETS      two files that callgrind wrote, and how many packets the second had more

Each function's own instructions, those of what was inlined into it included; a line for each that takes a fiftieth of all,
then one for the others together.
Source: valgrind's manual, "Callgrind Format Specification".
"""
import collections
import re
import sys


def own(path):
    """{function: its own instructions}."""
    names, costs, function, of_call = {}, collections.Counter(), None, False
    for line in open(path, encoding="utf-8", errors="replace"):
        if match := re.match(r"fn=\((\d+)\)(?: (.*))?", line):
            number, name = match.groups()
            function = names.setdefault(number, name)
        elif match := re.match(r"cfn=\((\d+)\) (.*)", line):
            names.setdefault(*match.groups())
        elif line.startswith("calls="):
            of_call = True
        elif match := re.match(r"(?:[+-]?\d+|\*) (\d+)$", line):
            # The line behind a call tells what that took, and is no cost of the caller's own.
            if not of_call:
                costs[function] += int(match[1])
            of_call = False
    return costs


def main():
    few, many, packets = own(sys.argv[1]), own(sys.argv[2]), int(sys.argv[3])
    more = {name: (count - few[name]) / packets for name, count in many.items()}
    total = sum(more.values())
    shown = {name: each for name, each in more.items() if each * 50 >= total}
    for name, each in sorted(shown.items(), key=lambda entry: -entry[1]):
        print(f"{each:8.0f}  {name.removeprefix('sluice_engine::')}")
    print(f"{total - sum(shown.values()):8.0f}  all others")


main()
