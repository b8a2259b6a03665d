"""Messages on their way into a spool, out of it, and from one to another."""

from retryspool.transfer.exporting import Exported, export_messages
from retryspool.transfer.folders import read_files, read_maildir, read_queue_folder
from retryspool.transfer.found import Aside, Found
from retryspool.transfer.importing import Imported, import_messages
from retryspool.transfer.mbox import read_mbox
from retryspool.transfer.migration import Migration, Moved
from retryspool.transfer.sinks import FolderSink, MaildirSink, MboxSink, Sink, TarSink
from retryspool.transfer.tar import read_tar

__all__ = [
    "Aside",
    "Exported",
    "FolderSink",
    "Found",
    "Imported",
    "MaildirSink",
    "MboxSink",
    "Migration",
    "Moved",
    "Sink",
    "TarSink",
    "export_messages",
    "import_messages",
    "read_files",
    "read_maildir",
    "read_mbox",
    "read_queue_folder",
    "read_tar",
]
