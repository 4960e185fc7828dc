"""Every error llm_relabel raises on purpose.

The tree (a caller may catch any branch):

    RelabelError
    ├── JobError                the job file or a command's words are wrong
    ├── DataError               the dataset, or a file beside it, cannot be used
    ├── DefinitionsError        the label definitions are wrong or do not fit the data
    ├── RunError                the run folder cannot be used as asked
    │   ├── RunLocked           another process is working in it
    │   └── RunChanged          data, labels, model or seed differ from what it was started with
    ├── Paused                  stopped on purpose; the same command goes on
    │   └── AwaitingPeople      questions wait for people's answers
    └── ProviderError           one call to a judge's provider did not give an answer
        ├── TransientError      the same call may succeed later
        │   ├── RateLimited     the provider said: slower
        │   ├── CallTimedOut    no answer in time; the provider may still charge for it
        │   └── Unreachable     no connection could be made
        ├── RequestRejected     the provider will never accept this request
        │   ├── NoSuchModel     it knows no such model or address: no call can succeed
        │   └── SchemaRefused   it does not take the answer's schema, or none at all
        ├── ContentRefused      the provider's safety system refused this item
        └── AccessDenied        the key or the account is refused: no call can succeed

Exit codes of the command line follow the branches: `JobError`, `DataError`,
`DefinitionsError` and `RunError` are 2, `Paused` is 3. A `ProviderError` never
leaves the judge plane: it becomes a failed verdict, or a `Paused`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType


class RelabelError(Exception):
    """Base of every error raised on purpose; its text is written for the user."""


class JobError(RelabelError):
    """Raised when a job file, an override or an argument is wrong, before anything is spent."""


class DataError(RelabelError):
    """Raised when a dataset cannot be read or used, with all its problems in one message."""


class DefinitionsError(RelabelError):
    """Raised when label definitions are malformed, or lack a label that the data uses."""


class RunError(RelabelError):
    """Raised when a run folder is missing, damaged, or cannot do what was asked."""


class RunLocked(RunError):
    """Raised when another live process holds the run folder."""


class RunChanged(RunError):
    """Raised when a run is continued with other data, labels, model or seed than it began with."""


class Paused(RelabelError):
    """Raised when a run stops on purpose: a cap, a deadline, or a provider that cannot answer.

    Everything that was paid for is kept; the same command goes on.
    """


class AwaitingPeople(Paused):
    """Raised when the judge `people` has no answer yet; all its questions are queued."""


class ProviderError(RelabelError):
    """Raised by a provider when one attempt at one call gave no answer.

    `may_be_billed`: the provider may charge for the attempt all the same, since the request
    had left and no error answer came back. `headers` are those of the answer, if one came.
    """

    may_be_billed = False
    headers: Mapping[str, str] = MappingProxyType({})


class TransientError(ProviderError):
    """Raised when the same call may succeed later.

    `retry_after` is the provider's own wish in seconds, or None.
    """

    def __init__(
        self, message: str, *, retry_after: float | None = None, may_be_billed: bool | None = None
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        if may_be_billed is not None:
            self.may_be_billed = may_be_billed


class RateLimited(TransientError):
    """Raised on a provider's rate limit or overload (HTTP 429, 529)."""


class CallTimedOut(TransientError):
    """Raised when no answer came within the call's timeout; it may still be charged."""

    may_be_billed = True


class Unreachable(TransientError):
    """Raised when no connection to the provider could be made or kept."""


class RequestRejected(ProviderError):
    """Raised when the provider will never accept this request (HTTP 400, 404, 413, 422)."""


class NoSuchModel(RequestRejected):
    """Raised when the provider has no such model, or nothing is at the address."""


class SchemaRefused(RequestRejected):
    """Raised when the provider does not take the schema of the answer, or any."""


class ContentRefused(ProviderError):
    """Raised when the provider's safety system refused the item."""


class AccessDenied(ProviderError):
    """Raised when the key, the account or its credit is refused (HTTP 401, 402, 403)."""


def nearest(value: str, allowed: Iterable[str]) -> str:
    """A ` (did you mean 'x'?)` for the allowed value closest to `value`, else an empty string.

    Only ever used in messages: an answer is never repaired by nearness.
    """
    found = difflib.get_close_matches(str(value), [str(name) for name in allowed], n=1, cutoff=0.6)
    return f" (did you mean {found[0]!r}?)" if found else ""
