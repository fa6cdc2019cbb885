# SPDX-License-Identifier: GPL-2.0

"""Where ours is meant to differ from C: a row named here passes on what is said here."""

# What C is known to leave in the kernel's log.
NOISE = "assertion"

TEXT = {
    "A20": "a volume of 4 PiB may start: its map takes memory only for what is used",
    "A29": "a cache of no page is refused, EINVAL or EIO, without a stack dump",
    "B11b": "a device smaller than the volume is refused before anything is written",
    "BUG1": "the blocks behind a partial first one of a discard read as zeroes",
    "BUG1b": "a volume with such a discard in its journal recovers",
    "CV1": "a volume that LVM's import has converted from the old manager starts, recovers and grows; "
           "mainline refuses it since 6.9",
    "E1": "write-zeroes is offered where the storage offers it",
    "E12": "a discard of what is not mapped leaves no journal entry",
    "F7": "a changed `maxDiscard` is in force after the resume",
    "F8": "after a resume that failed, the table before can be loaded and resumed",
    "F19": "a device that does not hold this volume is refused, at load or at resume",
    "I1": "a failed data write is tried elsewhere; here the storage refuses all of it",
    "I2": "the index state is a documented word after a resume",
    "I3": "a growth that cannot be is refused, and the old table resumes",
    "I7": "space in use on a read-only start is never less than the map itself takes",
    "I11": "a page of the map that cannot be read is EIO for whoever asks, and may be read the next "
           "time",
    "I20": "a failed data write is tried elsewhere, or the flush fails: never a good flush for "
           "lost data",
    "I21b": "the index of a read-only volume is shown as closed, as it is",
    "I21": "flushed data reads back on a volume that starts read-only; counters are never wrapped",
    "I22": "a growth that cannot be is refused, and the old table resumes",
    "I25": "the flush fails that a failed journal write would have had to cover",
    "I26": "a failed data write is tried elsewhere, up to four places",
    "I31": "an error and read-only mode, where the damage can be told from a page that was never "
           "written",
    "K6b": "with deduplication off nothing is grouped: 16 blocks are written",
    "C8": "what a message has set of compression holds until a table says something else",
    "C9": "the same",
    "CA1": "a message sets how hard blocks are compressed; mainline does not know it",
    "K3": "of equal blocks in requests that are served at once each request may store one more where "
          "a block has all its references",
    "K8a": "a lone fragment is stored as it is after 5 ms (also in K8b, K8c, K8j, K8k, K8l, K8q, K8r)",
    "K8b": "the same",
    "K8c": "the same",
    "K8d": "the index is told of a fragment once (also in K8e, K8f, K8o)",
    "K8e": "the same",
    "K8f": "the same",
    "K8j": "as K8a",
    "K8k": "as K8a",
    "K8l": "as K8a",
    "K8o": "as K8d",
    "K8q": "as K8a",
    "K8r": "as K8a",
    "K9b": "as K8a",
    "L17b": "a suspended volume may show a documented index state",
    "Q3": "space numbers while recovering are within the rounding of the stored hints",
    "R1": "a suspend and resume while recovering loses nothing at the next crash",
    "S13": "a device that does not hold this volume is refused, at load or at resume",
    "S14": "one look at a page may serve several requests",
    "S15": "page writes follow from the number of journal blocks, which may be far fewer",
    "T1": "write-zeroes is offered where the storage offers it",
    "T22": "the index state of a suspended volume is a documented word, which LVM understands "
           "(also in B3, C8, I2, I14, Q3b)",
    "T2": "a new page of the map is not read from the disk first",
    "T13": "a discard of what is not mapped leaves no journal entry",
    "WA8": "an event is raised when the volume becomes read-only",
    "WA8b": "an event is raised when a recovery ends",
    "WA8c": "events are raised when used space rises through 80, 85, 90, 95 and 100 %",
    "WF6": "a forced rebuild is given up where a page of the map cannot be read; nothing is lost",
    "WP9": "write-zeroes is offered where the storage offers it",
    "WR2": "a start is given up where the journal cannot be read, and the next one may succeed; C takes "
           "it for empty, and what was flushed is lost",
    "WS10": "what one bad block refuses is stored elsewhere",
    "WS2": "reads fail on a volume that starts read-only and whose journal cannot be read",
    "WS2b": "flushed data reads back on a volume that starts read-only",
    "WV1": "neighbouring blocks are written together",
    "WV3": "a second write of a block does not wait for the journal",
    "WV4": "a flush is one write of the journal",
    "WV5": "a large discard has few journal blocks",
    "WV11": "memory is taken as it is used",
    "X2": "what is under way is never more than 2048 blocks, and less where acknowledging is fast",
    "X4b": "the index state is `error` while its device fails",
    "Z2": "a read-only table never writes",
    "Z2b": "nor does one that takes the place of another; what writes all the same gets EIO",
    "Z2c": "a read-only table is refused after a suspend without flush, which saves nothing",
    "Z4": "the damage may be detected, where something later proves it",
    "Z5": "the damage may be detected, where something later proves it",
    "Z6": "few page writes after a resume, as before it",
    "Z7": "as many flushes served, with fewer journal writes",
}


def _order(name):
    """Letters first, then numbers as numbers."""
    head = name.rstrip("0123456789abcdefghijklmnopqrstuvwxyz")
    rest = name[len(head):]
    digits = "".join(one for one in rest if one.isdigit())
    return head, int(digits or 0), rest


def write(out):
    """The table as a document."""
    out.write("""# Where the vdo target differs from mainline's

Made by `python3 -m vdo --differences` from the table by which the tests judge (`tools/testing/vdo`).
They run against both implementations: a row below passes on what is said here and on nothing else,
every other row gives the same result on both.

| Row | Ours |
|---|---|
""")
    for name in sorted(TEXT, key=_order):
        out.write(f"| {name} | {TEXT[name]} |\n")
