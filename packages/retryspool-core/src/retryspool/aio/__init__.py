"""The queue for asyncio.

.. code-block:: python

    from retryspool import aio


    async def main():
        async with aio.Queue.open("./spool") as queue:
            await queue.enqueue(b"hello", headers={"to": "https://example.com/hook"})

`Queue` is `retryspool.Queue` with coroutines for its methods, each of the same name, arguments and result. What waits
for a store waits in a thread, a bounded number of them at once, so that the event loop never does.

A coroutine that is cancelled ends when its thread does, and leaves nothing behind: a call that hadn't begun isn't made,
one that had is seen through, and what it opened is closed again. So a cancelled `enqueue` has stored the message, or
has not; with a `message_id` of one's own, it may be repeated. How long threads take is limited by `deadline()`, which
they heed, as `with deadline(2.0): await queue.enqueue(…)`; a time-out of asyncio's own waits for them.
"""

from retryspool.aio.queue import Queue
from retryspool.aio.writer import MessageWriter, Payload
from retryspool.queue.reading import AsyncPayload

__all__ = ["AsyncPayload", "MessageWriter", "Payload", "Queue"]
