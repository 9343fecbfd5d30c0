# SPDX-License-Identifier: MIT OR Apache-2.0
# What a Python program does with its heap: parse, build, sort, join, throw away.
import json
import random

random.seed(7)
text = json.dumps([{"name": "n%d" % i, "value": i * 1.5, "tags": ["t%d" % (i % 97)] * (i % 5)}
                   for i in range(6000)])
total = 0
for turn in range(40):
    rows = json.loads(text)
    random.shuffle(rows)
    rows.sort(key=lambda row: row["value"])
    table = {}
    for row in rows:
        table.setdefault(row["name"][:3], []).append(bytearray(100 + len(row["tags"]) * 200))
    total += sum(len(b) for blocks in table.values() for b in blocks)
    total += len(",".join(row["name"] for row in rows))
print(total)
