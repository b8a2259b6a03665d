"""What botocore raises, translated into RetrySpool's errors: by class, by code and by status, never by text."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from botocore import exceptions as boto
from botocore.exceptions import ClientError
from urllib3.exceptions import HTTPError

from retryspool.deadline import remaining
from retryspool.errors import (
    BackendError,
    BackendUnavailableError,
    CorruptDataError,
    DataNotFoundError,
    DeadlineExceededError,
    Outcome,
    StorageError,
)
from retryspool_s3_data.transport import attempts

__all__ = ["Call", "code_of", "is_conflict", "is_missing", "is_taken", "is_unknown_upload", "status_of", "translating"]

_NOT_FOUND = 404
_CONFLICT = 409
_PRECONDITION_FAILED = 412
_OUT_OF_TIME_S = 0.01
"""A wait that ended when so little was left ended by the deadline."""

_FORBIDDEN = {
    "AccessDenied": "let these credentials read, write, list and delete the objects under this prefix",
    "InvalidAccessKeyId": "there's no such access key: look at access_key, or where else the credentials come from",
    "SignatureDoesNotMatch": "the secret key isn't that of the access key: look at secret_key",
    "ExpiredToken": "the temporary credentials have run out: get new ones",
    "InvalidToken": "the session token isn't one: look at session_token",
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it",
}
_FORBIDDEN_STATUS = (401, 403)
_NO_BUCKET = ("NoSuchBucket",)
_ELSEWHERE = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException")
_REFUSED_FOR_NOW = ("SlowDown", "ServiceUnavailable", "RequestLimitExceeded", "Throttling", "ThrottlingException")
_REFUSED_FOR_NOW_STATUS = (429, 503, 507)
_MAYBE_DONE = ("InternalError", "OperationAborted", "RequestTimeout")
_SERVER_FAILED = 500
_NOT_IMPLEMENTED = 501


@dataclass(frozen=True, slots=True)
class Call:
    """What was asked of the server, for its errors."""

    what: str
    """As in `storing the payload of message 'a'`."""
    bucket: str
    writes: bool
    """When no reply comes, an effect that can be seen may have happened."""
    message_id: str | None = None
    """Whose payload it reads, or None."""


@contextmanager
def translating(call: Call) -> Generator[None]:
    """Turn what botocore raises inside into an error of the tree, with botocore's as the cause."""
    attempts.uncertain = False
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        translated = _translated(error, call, uncertain=call.writes and attempts.uncertain)
        if translated is None:
            raise
        raise translated from error


def _translated(error: Exception, call: Call, *, uncertain: bool) -> StorageError | None:
    if isinstance(error, ClientError):
        return _answered(error, call, uncertain=uncertain)
    if isinstance(error, boto.FlexibleChecksumError) and call.message_id is not None:
        return CorruptDataError(call.message_id, f"its checksum isn't the one that bucket {call.bucket!r} has for it")
    if isinstance(error, boto.BotoCoreError | HTTPError | OSError):
        return _failed(error, call, uncertain=uncertain)
    return None


def _failed(error: Exception, call: Call, *, uncertain: bool) -> StorageError:
    """Translate what kept a request from being sent, or its reply from arriving."""
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError | boto.CredentialRetrievalError):
        return BackendError(
            f"{call.what}: there are no credentials; set access_key and secret_key, the environment's "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role"
        )
    connection = (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError, HTTPError, OSError)
    if not isinstance(error, connection):
        return BackendError(f"{call.what}: {type(error).__name__}: {error}")
    left = remaining()
    if left is not None and left <= _OUT_OF_TIME_S:
        return _too_late(call, uncertain=uncertain)
    outcome: Outcome = "unknown" if uncertain else "none"
    return BackendUnavailableError(
        f"{call.what}: bucket {call.bucket!r} can't be reached ({type(error).__name__}: {error}); "
        f"{_outcome_text(outcome)}",
        outcome=outcome,
    )


def _answered(error: ClientError, call: Call, *, uncertain: bool) -> StorageError:
    """Translate what the server answered."""
    code, status = code_of(error), status_of(error)
    answer = f"{call.what}: bucket {call.bucket!r} answered {code} (status {status})"
    if code in _NO_BUCKET:
        return BackendError(
            f"{call.what}: there is no bucket {call.bucket!r}; create it, or open it with create_bucket=True"
        )
    if call.message_id is not None and is_missing(error):
        return DataNotFoundError(call.message_id)
    if code in _FORBIDDEN or status in _FORBIDDEN_STATUS:
        return BackendError(f"{answer}: forbidden; {_FORBIDDEN.get(code, _FORBIDDEN['AccessDenied'])}")
    if code in _REFUSED_FOR_NOW or status in _REFUSED_FOR_NOW_STATUS:
        outcome: Outcome = "unknown" if uncertain else "none"
        text = f"{answer}: it takes no more for now; {_outcome_text(outcome)}"
    elif code in _MAYBE_DONE or (status >= _SERVER_FAILED and status != _NOT_IMPLEMENTED):
        outcome = "unknown" if call.writes else "none"
        text = f"{answer}; {_outcome_text(outcome)}"
    else:
        if code in _ELSEWHERE:
            answer += ": it's in another region; set region to that"
        return BackendError(f"{answer}: {error.response.get('Error', {}).get('Message', 'no more is known')}")
    left = remaining()
    if left is not None and left <= _OUT_OF_TIME_S:
        return _too_late(call, uncertain=outcome == "unknown")
    return BackendUnavailableError(text, outcome=outcome)


def _too_late(call: Call, *, uncertain: bool) -> DeadlineExceededError:
    outcome = _outcome_text("unknown" if uncertain else "none")
    return DeadlineExceededError(f"{call.what}: the deadline passed before bucket {call.bucket!r} replied; {outcome}")


def _outcome_text(outcome: Outcome) -> str:
    return "nothing was changed" if outcome == "none" else "whether it was done is unknown"


# -- what an answer says -----------------------------------------------------------------------------------------------


def code_of(error: ClientError) -> str:
    """Return the code of an answer; of one to a HEAD request, which has none, its status."""
    return str(error.response.get("Error", {}).get("Code", ""))


def status_of(error: ClientError) -> int:
    """Return the HTTP status of an answer, 0 if there is none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_missing(error: ClientError) -> bool:
    """Tell whether the object isn't there."""
    return code_of(error) in {"NoSuchKey", "NotFound", str(_NOT_FOUND)} and status_of(error) == _NOT_FOUND


def is_taken(error: ClientError) -> bool:
    """Tell whether a condition didn't hold: the object is there, or is another one."""
    return status_of(error) == _PRECONDITION_FAILED


def is_conflict(error: ClientError) -> bool:
    """Tell whether a write under a condition met another one, so that nobody has decided whether the condition holds.

    The object's deletion at the same time makes such a write fail as if the object had to be there.
    """
    return code_of(error) == "ConditionalRequestConflict" or status_of(error) == _CONFLICT or is_missing(error)


def is_unknown_upload(error: ClientError) -> bool:
    """Tell whether there's no such multipart upload: it was completed, or aborted."""
    return code_of(error) == "NoSuchUpload"
