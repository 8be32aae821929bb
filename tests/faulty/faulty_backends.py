"""All faulty backends, by area."""

from __future__ import annotations

import faults_hooks
import faults_numbers
import faults_persistence
import faults_placement
import faults_qspecs
import faults_table
from seeded import SeededFault

__all__ = ["FAULTY"]

FAULTY: tuple[SeededFault, ...] = (
    *faults_hooks.FAULTS,
    *faults_table.FAULTS,
    *faults_qspecs.FAULTS,
    *faults_placement.FAULTS,
    *faults_numbers.FAULTS,
    *faults_persistence.FAULTS,
)
