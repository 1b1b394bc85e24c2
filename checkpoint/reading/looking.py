"""Check everything in a store against its checksums, beside a writer too; nothing is written.

A writer may replace values between two reads. As in `recovery`, damage counts only if a second
look finds it again.
"""

from dataclasses import replace

from checkpoint.errors import DamagedStoreError
from checkpoint.hierarchy import read_root
from checkpoint.reading.checksums import Look
from checkpoint.reading.damage_report import Finding, Verification
from checkpoint.stores import Store

__all__ = ["verify_store"]

_N_LOOKS = 5


def verify_store(store: Store) -> Verification:
    """Return a report of what is damaged in a store, and what is intact.

    Raises
    ------
    RunNotFoundError, NotARunError, FormatVersionError
        If there is no run of this package.
    StoreUnreachableError
        If the store does not answer.

    Notes
    -----
    Durability: nothing is written, and no lock is taken.
    """
    report = _look(store)
    for _ in range(_N_LOOKS):
        if not report.findings:
            break
        again = _look(store)
        both = tuple(finding for finding in again.findings if finding in report.findings)
        is_unchanged = len(both) == len(again.findings)
        report = replace(again, findings=both)
        if is_unchanged:
            break
    return report.with_findings(report.findings)


def _look(store: Store) -> Verification:
    try:
        manifest = read_root.existing_manifest(store)
    except DamagedStoreError as error:
        of_place, notes = store.faults()
        findings = (Finding("the root", str(error)), *(Finding(store.name, t) for t in of_place))
        return Verification(store.name, 1, 0, findings, (), tuple(notes))
    return Look(store, manifest).report()
