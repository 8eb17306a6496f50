"""What the HTTP client raises, as ProviderError: whether bytes had left, and so whether the call may be billed."""

from __future__ import annotations

import aiohttp
import httpx

from producer_sdk.contract import Usage
from worker.addresses import RefusedAddress
from worker.errors import KEY_CHANGED, NO_KEY, Billed, FailureKind, ProviderError
from worker.providers.errors import broken

FOREIGN = (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, aiohttp.ClientError)
# httpx-aiohttp raises ConnectTimeout for most of what aiohttp raises before an answer, a server that hung up included:
# only aiohttp's own error below it tells whether there was a connection.
_NEVER_CONNECTED = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
)
_NOTHING_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)


def before_answer(provider: str, error: Exception, *, sent: bool) -> ProviderError:
    """The error for a call that got no answer at all; `sent`: it was under way when this came."""
    if not sent or _is_unsent(error):
        code, why = _why_unsent(error)
        return ProviderError(
            FailureKind.CONNECT_ERROR, f"{provider} cannot be reached: {why}", billed="no", code=code
        )
    if isinstance(error, aiohttp.ClientResponseError):
        return broken(
            f"{provider} answered in no HTTP that can be read, or with too long headers", code="not_http"
        )
    if isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout):
        return timed_out(provider, None)
    what = f"{provider} closed the connection before it answered"
    return broken(what, code="disconnected")


def inside_answer(provider: str, error: Exception, *, billed: Billed, usage: Usage | None) -> ProviderError:
    """The error for an answer that stopped coming."""
    if isinstance(error, httpx.ReadTimeout):
        return timed_out(provider, usage)
    return broken(f"{provider} broke its answer off", code="disconnected", billed=billed, usage=usage)


def timed_out(provider: str, usage: Usage | None, *, sent: bool = True) -> ProviderError:
    """The error for an attempt whose time was up: the provider may go on, and bill, if anything was sent."""
    what = f"{provider} did not answer in the attempt's time"
    billed: Billed = "unknown" if sent else "no"
    return ProviderError(FailureKind.TIMEOUT, what, billed=billed, usage=usage, code="timeout")


def no_key(provider: str, why: str) -> ProviderError:
    """The error for a call whose key has gone since it was planned: nothing is sent."""
    return ProviderError(FailureKind.AUTH, f"{provider} cannot be called: {why}", billed="no", code=NO_KEY)


def key_changed(provider: str, refusal: ProviderError) -> ProviderError:
    """The error for a key that was refused while its file got another one: the next call carries that."""
    what = f"{provider} refused a key that has been replaced since"
    return ProviderError(FailureKind.SERVER_ERROR, what, billed=refusal.billed, code=KEY_CHANGED)


def _why_unsent(error: Exception) -> tuple[str, str]:
    cause = error.__cause__ or error
    if isinstance(cause, aiohttp.ClientConnectorDNSError):
        return "dns", "its name has no address"
    if isinstance(cause, aiohttp.ClientConnectorError) and isinstance(cause.os_error, RefusedAddress):
        return "link_local", "its address is link-local or a cloud's metadata service, see allow_link_local"
    if isinstance(cause, aiohttp.ClientSSLError):
        return "tls", "its certificate or its TLS is not to be trusted"
    return type(error).__name__, "there is no connection"


def _is_unsent(error: Exception) -> bool:
    cause = error.__cause__
    if isinstance(cause, aiohttp.ClientError):
        return isinstance(cause, _NEVER_CONNECTED)
    return isinstance(error, _NOTHING_SENT + _NEVER_CONNECTED)
