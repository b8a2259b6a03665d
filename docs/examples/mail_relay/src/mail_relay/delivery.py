"""Sending mail on to its next hop, and telling its sender who doesn't get it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import BinaryIO

from mail_relay.settings import Address, Settings
from mail_relay.trace import header_section
from retryspool import Queue, RetryableError
from retryspool.model import utc_now
from retryspool.queue import Message
from retryspool_cli.handlers.envelope import MAIL_FROM, RCPT_TO
from retryspool_cli.handlers.replies import RCPT_RESULTS, Result, failure, read_results, write_results
from retryspool_cli.handlers.report import Undelivered, delivery_report
from retryspool_cli.handlers.smtp import RCPT_REFUSED, SmtpHandler, SmtpServer

__all__ = ["Bounces", "Delivery"]

_log = logging.getLogger(__name__)

_HEADER_BYTES = 64 * 1024


class Bounces:
    """The handler of mail that has bounced: its sender gets a report, through the same spool."""

    def __init__(self, settings: Settings, queue: Queue) -> None:
        self._settings = settings
        self._queue = queue

    def __call__(self, message: Message, payload: BinaryIO) -> None:
        """Report all who haven't got the mail; it's done with then."""
        known = read_results(message.headers)
        unknown = failure("5.0.0", message.last_error)
        left = [address for address in message.headers.get(RCPT_TO, "").split(", ") if address]
        self.report(message, payload, {address: known.get(address, unknown) for address in left})

    def report(self, message: Message, payload: BinaryIO, results: Mapping[str, Result]) -> None:
        """Enqueue a report about some recipients, once for each attempt. Nobody is told of a report's own failure."""
        sender = message.headers.get(MAIL_FROM, "<>").removeprefix("<").removesuffix(">")
        if not sender:
            _log.warning("%s: a report can't be delivered, and is dropped: %s", message.id, message.last_error)
            return
        payload.seek(0)
        undelivered = Undelivered(
            sender=sender,
            results=results,
            headers=header_section(payload.read(_HEADER_BYTES)),
            message_id=message.id,
            arrived=message.created,
            now=utc_now(),
        )
        self._queue.enqueue(
            delivery_report(undelivered, self._settings.hostname),
            headers={MAIL_FROM: "<>", RCPT_TO: sender, "report-of": message.id},
            message_id=f"{message.id}.report{message.attempts}",
            route=str(self._settings.next_hop(sender)),
            if_exists="skip",
        )
        _log.info("%s: <%s> is told that %d recipients don't get it", message.id, sender, len(results))


class Delivery:
    """The handler of mail: sends it to the next hop that its route names."""

    def __init__(self, settings: Settings, bounces: Bounces) -> None:
        self._settings = settings
        self._bounces = bounces
        self._lock = threading.Lock()
        self._hops: dict[str, SmtpHandler] = {}

    def __call__(self, message: Message, payload: BinaryIO) -> None:
        """Send the mail; report those who are refused for good now, even if others are still to be tried."""
        try:
            self._hop(message.route)(message, payload)
        except RetryableError:
            self._report_refused(message, payload)
            raise

    def _report_refused(self, message: Message, payload: BinaryIO) -> None:
        refused = message.headers.get(RCPT_REFUSED, "").split(", ")
        results = read_results(message.headers)
        told = {address: result for address, result in results.items() if address in refused}
        if told:
            self._bounces.report(message, payload, told)
            del message.headers[RCPT_REFUSED]
            left = {address: result for address, result in results.items() if address not in told}
            message.headers[RCPT_RESULTS] = write_results(left)

    def _hop(self, route: str) -> SmtpHandler:
        with self._lock:
            hop = self._hops.get(route)
            if hop is None:
                address = Address.parse(route)
                server = SmtpServer(
                    address.host, address.port, tls=self._settings.tls, local_hostname=self._settings.hostname
                )
                hop = self._hops[route] = SmtpHandler(server)
            return hop

    def stop(self) -> None:
        """End the sessions that are kept."""
        with self._lock:
            for hop in self._hops.values():
                hop.stop()
