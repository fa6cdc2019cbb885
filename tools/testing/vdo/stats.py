# SPDX-License-Identifier: GPL-2.0

"""The text of the message `stats`, and what operations add to the counters in it."""

import re

# The names of the fields that tests compare, shorter. Several fields under one name must be equal.
_SHORT = {
    "data": ["dataBlocksUsed"],
    "ovh": ["overheadBlocksUsed"],
    "lbu": ["logicalBlocksUsed"],
    "je": [f"journal.entries.{when}" for when in ("started", "written", "committed")],
    "jb": [f"journal.blocks.{when}" for when in ("started", "written", "committed")],
    "valid": ["hashLock.dedupeAdviceValid"],
    "stale": ["hashLock.dedupeAdviceStale"],
    "match": ["hashLock.concurrentDataMatches"],
    "hit": ["index.postsFound"],
    "miss": ["index.postsNotFound"],
    "qhit": ["index.queriesFound"],
    "qmiss": ["index.queriesNotFound"],
    "upd": ["index.updatesFound"],
    "ent": ["index.entriesIndexed"],
    "frag": ["packer.compressedFragmentsWritten"],
    "cblk": ["packer.compressedBlocksWritten"],
    "inpk": ["packer.compressedFragmentsInPacker"],
    "fo": ["flushOut"],
    "nospc": ["errors.noSpaceErrorCount"],
    "roerr": ["errors.readOnlyErrorCount"],
    "mapr": ["blockMap.readCount"],
    "mapw": ["blockMap.writeCount"],
    "out_r": ["biosOut.read"],
    "out_w": ["biosOut.write"],
}
for _group, _field in (("in", "biosIn"), ("inP", "biosInPartial")):
    for _name, _kind in (("r", "read"), ("w", "write"), ("d", "discard"), ("fua", "fua"),
                         ("flush", "flush"), ("empty", "emptyFlush")):
        _SHORT[f"{_group}_{_name}"] = [f"{_field}.{_kind}"]

# What only an index can bring about.
INDEX = {"valid", "stale", "match", "hit", "miss", "qhit", "qmiss", "upd", "ent"}

NEW = {"data": 1, "lbu": 1, "je": 1, "out_w": 1, "ent": 1, "miss": 1}
OVERWRITE = {"je": 1, "out_w": 1, "ent": 1, "miss": 1}
DUPLICATE = {"lbu": 1, "je": 1, "out_r": 1, "valid": 1, "hit": 1}
STALE = {"data": 1, "lbu": 1, "je": 1, "out_r": 1, "out_w": 1, "stale": 1, "hit": 1, "upd": 1}


def total(*changes, **more):
    """The sum of changes."""
    result = {}
    for change in (*changes, more):
        for key, value in change.items():
            result[key] = result.get(key, 0) + value
    return result


def times(count, change):
    return {key: value * count for key, value in change.items()}


def parse(text):
    """Field names with dots to numbers (the mode: a word), in the text's order."""
    fields, path = {}, []
    for name, value, end in re.findall(r"(\w+) : (\{|[^,{} ]+,)|(\})", text):
        if end:
            if path:
                path.pop()
        elif value == "{":
            path.append(name)
        else:
            word = value.rstrip(",")
            fields[".".join((*path, name))] = int(word) if word.isdigit() else word
    return fields


def short(fields):
    """The compared counters under their short names."""
    result = {}
    for name, sources in _SHORT.items():
        values = {fields[source] for source in sources}
        # The journal's blocks: how many a batch takes is free, all must be equal at rest.
        assert len(values) == 1, f"{name}: {[(one, fields[one]) for one in sources]}"
        result[name] = values.pop()
    return result


def settled(fields):
    """Nothing in flight but what the packer keeps, no entry of the journal that waits for others."""
    return (fields["currentVIOsInProgress"] == fields["packer.compressedFragmentsInPacker"]
            and fields["journal.entries.started"] == fields["journal.entries.committed"])


def steady(fields):
    """Without what may change at rest."""
    return {key: value for key, value in fields.items() if not key.startswith("memoryUsage")}
