# SPDX-License-Identifier: GPL-2.0

"""Identifiers of the acceptance list that are no row of their own, and where they are."""

WHERE = {
    "G2": "with G1",
    "G3": "takeover.sh: the rounds that end in a power cut",
    "G4": "takeover.sh: what the next round finds",
    "H8": "with H6",
    "I10": "void, see I24",
    "I27": "with I12",
    "K1": "K1a to K1c",
    "K10": "no two blocks with the same hash are known",
    "K5b": "with K5",
    "L2": "the set-up of L3",
    "L6b": "with L6",
    "L6c": "with L6",
    "L10b": "with L10",
    "M1": "a figure: bench",
    "PF1-PF10": "figures: bench",
    "S6": "void, see Q3a",
    "Y1": "the set-up of Y1a",
    "Y1c": "with Y1b; how long it takes is WV3",
}
