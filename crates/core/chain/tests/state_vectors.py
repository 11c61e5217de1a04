#!/usr/bin/env python3
"""Derives the vectors of state roots, proofs and headers without any code of the crates, from their documentation alone.

Without arguments: recomputes every root in data/state_vectors.json and exits 1 on the first difference.
With --write: writes the file anew. Changing it changes every state root or digest: a deliberate act.
"""

import hashlib
import json
import pathlib
import sys

FILE = pathlib.Path(__file__).parent / "data" / "state_vectors.json"
SCHEMA = 2
TABLES = (1, 2, 3, 4, 5)  # counted always
LATER = (6, 7)  # counted when they have rows
CLUSTER = bytes(range(32))


def h(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def be(number, width):
    return number.to_bytes(width, "big")


def path(row):
    table, key, _ = row
    return h(be(table, 1), key)


def leaf(row):
    table, key, value = row
    return h(b"\x00", be(table, 1), be(len(key), 4), key, be(len(value), 4), value)


def tree(rows, depth=0):
    if not rows:
        return h()
    if len(rows) == 1:
        return leaf(rows[0])
    sides = ([], [])
    for row in rows:
        bits = int.from_bytes(path(row), "big")
        sides[(bits >> (255 - depth)) & 1].append(row)
    return h(b"\x01", tree(sides[0], depth + 1), tree(sides[1], depth + 1))


def state(cluster, height, rows):
    tables = TABLES + tuple(table for table in LATER if any(row[0] == table for row in rows))
    counts = b"".join(be(table, 1) + be(sum(row[0] == table for row in rows), 8) for table in tables)
    return h(
        b"aequa/state/v1\0", cluster, be(SCHEMA, 4), be(height, 8), be(len(tables), 1), counts, tree(rows)
    )


def bit(row, depth):
    return (int.from_bytes(path(row), "big") >> (255 - depth)) & 1


def way(rows, key):
    """The hashes beside the way to a row from the top down, and the rows at its end: none, or one."""
    asked = (key[0], key[1:], b"")
    beside = []
    while len(rows) > 1:
        depth = len(beside)
        sides = ([], [])
        for row in rows:
            sides[bit(row, depth)].append(row)
        beside.append(tree(sides[1 - bit(asked, depth)], depth + 1))
        rows = sides[bit(asked, depth)]
    return beside, rows


def stored(row):
    return be(row[0], 1) + row[1]


def proof(what, rows, key):
    beside, end = way(rows, key)
    return {
        "what": what,
        "key": key.hex(),
        "beside": [digest.hex() for digest in beside],
        "end": [[stored(row).hex(), row[2].hex()] for row in end],
    }


def proofs(rows):
    """Of the rows: one that is there, one whose way ends in nothing, one whose way ends in another row."""
    absent = [stored(nonce(sender, 1, 0)) for sender in range(1, 100)]
    ends = [(key, way(rows, key)[1]) for key in absent]
    nothing = next(key for key, end in ends if not end)
    another = next(key for key, end in ends if end)
    return [
        proof("a row", rows, stored(nonce(0xAA, 2, 0))),
        proof("nothing", rows, nothing),
        proof("another row", rows, another),
    ]


def history(previous, height, root):
    return h(b"aequa/history/v1\0", previous, be(height, 8), root)


def nonce(sender, kind, value):
    return (1, bytes([sender]) * 20 + be(kind, 1), be(value, 8))


def operator(index, fees, bids, blocks):
    return (2, be(index, 1), be(fees, 16) + be(bids, 16) + be(blocks, 8))


def credit(recipient, amount):
    return (3, bytes([recipient]) * 20, be(amount, 16))


def evidence(operator, domain, height, round_, kind, digest, committed):
    place = be(operator, 1) + be(domain, 1) + be(height, 8) + be(round_, 8) + be(kind, 1)
    return (4, place, bytes([digest]) * 32 + be(committed, 8))


def time(height, timestamp_ms):
    return (5, be(height, 8), be(timestamp_ms, 8))


def slash(operator, stake):
    return (6, be(operator, 1), be(stake, 8))


def jail(operator, until):
    return (7, be(operator, 1), be(until, 8))


def le(number, width):
    return number.to_bytes(width, "little")


def merkle(chunks, limit):
    """SSZ: the root over `chunks`, padded with zeros to `limit`, a power of two."""
    chunks = [chunk.ljust(32, b"\0") for chunk in chunks] + [bytes(32)] * (limit - len(chunks))
    while len(chunks) > 1:
        chunks = [h(left, right) for left, right in zip(chunks[::2], chunks[1::2])]
    return chunks[0]


def header():
    """A header with totals beyond 64 bits, its SSZ form and its hash tree root."""
    roots = [bytes([number]) * 32 for number in range(1, 7)]
    cluster, parent, policy, payload, evidence_root, state_root = roots
    height, timestamp_ms, proposer, items = 258, 1_700_000_000_123, 3, 2
    fees, bids, proof = 2**64 + 5, 2**128 - 1, b"\7\6\5"
    fixed = [cluster, le(height, 8), parent, le(timestamp_ms, 8), le(proposer, 1), policy, payload]
    fixed += [evidence_root, state_root, None, le(fees, 16), le(bids, 16), le(items, 8)]
    offset = le(sum(4 if field is None else len(field) for field in fixed), 4)
    proof_root = h(merkle([proof], 4), le(len(proof), 32))
    return {
        "height": height,
        "timestamp_ms": timestamp_ms,
        "proposer": proposer,
        "leader_proof": proof.hex(),
        "total_fees": str(fees),
        "total_bids": str(bids),
        "items": items,
        "ssz": b"".join(offset if field is None else field for field in fixed).hex() + proof.hex(),
        "digest": merkle([proof_root if field is None else field for field in fixed], 16).hex(),
    }


def cases():
    """Numbers of rows 0, 1, 2, 3, 7, 10, 11 and 13, at consecutive heights."""
    rows = [
        operator(0, 0, 0, 1),
        nonce(0xAA, 1, 1),
        operator(1, 2**64 + 5, 0, 1),
        nonce(0xAA, 2, 257),
        credit(0xFE, 5000),
        nonce(0xBB, 1, 2**64 - 1),
        operator(3, 0, 2**127, 9),
        evidence(2, 0, 7, 0, 1, 0x5E, 9),
        evidence(2, 3, 2**40, 257, 4, 0x5F, 10),
        time(1000, 1_700_000_000_000),
        jail(2, 2**64 - 1),
        slash(2, 1000),
        jail(0, 1007),
    ]
    return [rows[:count] for count in (0, 1, 2, 3, 7, 10, 11, 13)]


def derive():
    vectors, previous = [], bytes(32)
    for height, rows in enumerate(cases()):
        root = state(CLUSTER, height, rows)
        previous = history(previous, height, root)
        vectors.append(
            {
                "height": height,
                "rows": [[(be(table, 1) + key).hex(), value.hex()] for table, key, value in rows],
                "leaves": [leaf(row).hex() for row in rows],
                "tree_root": tree(rows).hex(),
                "state_root": root.hex(),
                "history_root": previous.hex(),
            }
        )
    return {
        "cluster_id": CLUSTER.hex(),
        "schema": SCHEMA,
        "vectors": vectors,
        "proofs": proofs(cases()[-1]),
        "header": header(),
    }


def main():
    derived = derive()
    if sys.argv[1:] == ["--write"]:
        FILE.write_text(json.dumps(derived, indent=1) + "\n")
        return 0
    checked_in = json.loads(FILE.read_text())
    if checked_in != derived:
        print(f"{FILE.name} differs from what the documentation says", file=sys.stderr)
        return 1
    counts = len(derived["vectors"]), len(derived["proofs"])
    print("{} vectors of states, {} of proofs and one of a header agree".format(*counts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
