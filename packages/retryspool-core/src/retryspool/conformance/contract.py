"""The clauses of the contract, by number; docs/contract.md says what each holds, what it doesn't promise, and why.

A clause is never renumbered. A new one gets the version in which it came: a backend that declares an older one
(`capabilities.contract`) is only warned by it, until the contract's next minor version.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CLAUSES", "CONTRACT_VERSION", "Clause", "is_binding"]

CONTRACT_VERSION = "1.1"
"""Of docs/contract.md. The minor part rises with each new clause, the major one when a clause changes."""


@dataclass(frozen=True, slots=True)
class Clause:
    """One promise."""

    id: str
    title: str
    """As in docs/contract.md."""
    since: str = "1.0"
    """The version of the contract that it came with."""


_ALL = (
    # -- factories -----------------------------------------------------------------------------------------------------
    Clause("FACTORY-1", "A new store opens empty"),
    Clause("FACTORY-2", "Two namespaces share nothing"),
    Clause("FACTORY-3", "A factory is a value"),
    Clause("FACTORY-4", "A URL holds the settings, and no others"),
    Clause("FACTORY-5", "No password is shown"),
    Clause("FACTORY-6", "The name is a name"),
    Clause("FACTORY-7", "Many may open a new store at once"),
    Clause("FACTORY-8", "Capabilities are declared on the class"),
    Clause("FACTORY-9", "A store that can't be reached is refused in time"),
    Clause("FACTORY-10", "It says what is at work"),
    Clause("FACTORY-11", "What was lent is left open"),
    Clause("FACTORY-12", "A store can be destroyed"),
    # -- records -------------------------------------------------------------------------------------------------------
    Clause("META-1", "Every valid id is a message of its own"),
    Clause("META-2", "An id that is none is refused before anything else"),
    Clause("META-3", "A record is created once"),
    Clause("META-4", "What is stored is what is read"),
    Clause("META-5", "A record that can't be stored is refused before anything else"),
    Clause("META-6", "The backend sets version and times"),
    Clause("META-7", "What isn't there is not found"),
    Clause("META-8", "An update replaces the whole record"),
    Clause("META-9", "An update never creates"),
    Clause("META-10", "Every write raises the version by one"),
    Clause("META-11", "A version that doesn't match changes nothing"),
    Clause("META-12", "What is deleted is gone"),
    Clause("META-13", "A message is in exactly one state"),
    # -- moves ---------------------------------------------------------------------------------------------------------
    Clause("META-14", "A move is compare and swap"),
    Clause("META-15", "Of any number of movers one wins"),
    Clause("META-16", "A move to the same state only looks"),
    Clause("META-17", "A lease ends with the state that it was for"),
    # -- claims and leases ---------------------------------------------------------------------------------------------
    Clause("META-18", "Only what is due is claimed"),
    Clause("META-19", "Claims follow sources, priority, and age"),
    Clause("META-20", "A claim takes all that it may"),
    Clause("META-21", "A claim writes owner, lease and delivery"),
    Clause("META-22", "An expired lease is taken over"),
    Clause("META-23", "Excluded routes are passed over"),
    Clause("META-24", "No message goes to two claimers"),
    Clause("META-25", "A claim out of range is refused"),
    Clause("META-26", "One clock decides what is due"),
    Clause("META-27", "A renewal extends the lease"),
    Clause("META-28", "A renewal answers for each message"),
    Clause("META-29", "A late worker's result is refused"),
    Clause("META-60", "The oldest goes first where that is asked for", "1.1"),
    # -- batches -------------------------------------------------------------------------------------------------------
    Clause("META-30", "A batch has one result each"),
    Clause("META-31", "A batch keeps the order of a message's writes"),
    Clause("META-32", "A batch that can't be right is refused whole"),
    # -- listings ------------------------------------------------------------------------------------------------------
    Clause("META-33", "A listing is a page of a total"),
    Clause("META-34", "Every order is total, and reversed exactly"),
    Clause("META-35", "Since means created or updated"),
    Clause("META-36", "What stays put is iterated exactly once"),
    Clause("META-37", "Iterating survives every change"),
    Clause("META-38", "Counts equal listings"),
    Clause("META-39", "The oldest due is found"),
    Clause("META-40", "A record that can't be read is neither hidden nor handed out"),
    Clause("META-41", "Waiting ends in time, and at a change"),
    # -- notes ---------------------------------------------------------------------------------------------------------
    Clause("META-61", "A note is what was set last", "1.1"),
    Clause("META-62", "Notes are their store's, and no messages", "1.1"),
    Clause("META-63", "A note that can't be set is refused before anything else", "1.1"),
    Clause("META-64", "A note that changes ends waiting", "1.1"),
    Clause("META-65", "A note is as safe as a record", "1.1"),
    # -- transactions --------------------------------------------------------------------------------------------------
    Clause("META-66", "What is joined takes effect when the caller commits", "1.1"),
    Clause("META-67", "An open transaction keeps its ids", "1.1"),
    # -- lifetime ------------------------------------------------------------------------------------------------------
    Clause("META-42", "A closed backend does nothing more"),
    Clause("META-43", "Threads share an instance"),
    Clause("META-44", "Processes share a store"),
    Clause("META-45", "A fork shares no connection"),
    Clause("META-46", "A deadline that has passed stops all effect"),
    Clause("META-47", "What was acknowledged is there after reopening"),
    Clause("META-48", "What was acknowledged survives kill -9"),
    Clause("META-49", "Every history is linearizable"),
    Clause("META-50", "Every sequence agrees with the model"),
    Clause("META-51", "Findings change nothing"),
    Clause("META-52", "Old formats open"),
    Clause("META-57", "What was acknowledged survives a power cut"),
    Clause("META-58", "A refused call costs nothing"),
    Clause("META-59", "A record that was altered is found out"),
    # -- networks ------------------------------------------------------------------------------------------------------
    Clause("META-53", "A store that hangs is given up in time"),
    Clause("META-54", "An unknown outcome is called unknown"),
    Clause("META-55", "It works again once the network does"),
    Clause("META-56", "A restart of the server loses nothing"),
    # -- payloads ------------------------------------------------------------------------------------------------------
    Clause("DATA-1", "Every valid id is a payload of its own"),
    Clause("DATA-2", "An id that is none is refused before anything else"),
    Clause("DATA-3", "What is stored is what is read"),
    Clause("DATA-4", "The size is that of the bytes handed in"),
    Clause("DATA-5", "A payload may be of any size, none included"),
    Clause("DATA-6", "Storing again replaces the whole"),
    Clause("DATA-7", "If absent means once"),
    Clause("DATA-8", "Nothing is visible before close"),
    Clause("DATA-9", "An abort leaves nothing"),
    Clause("DATA-10", "A source that fails stores nothing"),
    Clause("DATA-11", "A reader has the payload of its opening"),
    Clause("DATA-12", "What isn't there is not found at once"),
    Clause("DATA-13", "Readers and writers are binary files"),
    Clause("DATA-14", "A deletion is idempotent"),
    Clause("DATA-15", "A batch has one result each"),
    Clause("DATA-16", "Only small ones are fetched"),
    Clause("DATA-17", "What stays is iterated exactly once"),
    Clause("DATA-18", "Iterating survives every change"),
    Clause("DATA-19", "Memory doesn't grow with the payload"),
    Clause("DATA-20", "No reader gets a mix of two"),
    Clause("DATA-21", "A payload that lost a part is found out"),
    Clause("DATA-22", "What dead writers left is swept"),
    # -- lifetime ------------------------------------------------------------------------------------------------------
    Clause("DATA-23", "A closed backend does nothing more"),
    Clause("DATA-24", "Threads share an instance"),
    Clause("DATA-25", "Processes share a store"),
    Clause("DATA-26", "A fork shares no connection"),
    Clause("DATA-27", "A deadline that has passed stops all effect"),
    Clause("DATA-28", "What was acknowledged is there after reopening"),
    Clause("DATA-29", "What was acknowledged survives kill -9"),
    Clause("DATA-30", "Every history is linearizable"),
    Clause("DATA-31", "Every sequence agrees with the model"),
    Clause("DATA-32", "Findings change nothing"),
    Clause("DATA-33", "Old formats open"),
    Clause("DATA-38", "What was acknowledged survives a power cut"),
    Clause("DATA-39", "A refused call costs nothing"),
    # -- networks ------------------------------------------------------------------------------------------------------
    Clause("DATA-34", "A store that hangs is given up in time"),
    Clause("DATA-35", "An unknown outcome is called unknown"),
    Clause("DATA-36", "It works again once the network does"),
    Clause("DATA-37", "A restart of the server loses nothing"),
    # -- middleware ----------------------------------------------------------------------------------------------------
    Clause("MIDDLEWARE-1", "What goes in comes out", "1.1"),
    Clause("MIDDLEWARE-2", "Readers and writers are binary files", "1.1"),
    Clause("MIDDLEWARE-3", "Closing ends the stream, and leaves the sink open", "1.1"),
    Clause("MIDDLEWARE-4", "A failure on the way is passed on", "1.1"),
    Clause("MIDDLEWARE-5", "An abort leaves no payload", "1.1"),
    Clause("MIDDLEWARE-6", "Memory doesn't grow with the payload", "1.1"),
    Clause("MIDDLEWARE-7", "What was altered is found out", "1.1"),
    Clause("MIDDLEWARE-8", "A payload is its message's", "1.1"),
    Clause("MIDDLEWARE-9", "What is concealed doesn't show", "1.1"),
    Clause("MIDDLEWARE-10", "Damage is an error of the tree", "1.1"),
    Clause("MIDDLEWARE-11", "Threads share an instance", "1.1"),
    Clause("MIDDLEWARE-12", "A fork may use it on both sides", "1.1"),
    Clause("MIDDLEWARE-13", "A URL holds the settings, and no others", "1.1"),
    Clause("MIDDLEWARE-14", "No secret is shown", "1.1"),
    Clause("MIDDLEWARE-15", "The name is a name", "1.1"),
    Clause("MIDDLEWARE-16", "Old formats open", "1.1"),
    Clause("MIDDLEWARE-17", "Sealed headers come back, and show nothing", "1.1"),
    Clause("MIDDLEWARE-18", "What needs no secret is read without", "1.1"),
)

CLAUSES = {clause.id: clause for clause in _ALL}
"""All of them, by id, in order."""


def is_binding(clause: Clause, declared: str) -> bool:
    """Tell whether breaking the clause is a failure for a backend that declares this version of the contract.

    One that came with the newest version is only a warning to a backend that was written before it.
    """
    return clause.since != CONTRACT_VERSION or _parts(clause.since) <= _parts(declared)


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
