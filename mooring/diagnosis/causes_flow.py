"""Causes that lie in how a sign-in was run, or in this hub's own set-up."""

from __future__ import annotations

from typing import Final

from mooring.diagnosis.cause import Cause

_START = "Start again from the page where you clicked Connect."
_OPERATOR = "You can't mend this yourself. Tell the contact below and give the code of this error."

FLOW: Final = (
    Cause(
        "issuer_mismatch",
        "The answer comes from another issuer",
        "The answer does not come from the provider that was asked.",
        f"{_START} If it happens again, do not enter anything and tell the contact below.",
        "`iss` of the callback differs from the configured issuer (RFC 9207 §2.4): a mix-up attack, or a wrong `issuer`.",
        "provider",
    ),
    Cause(
        "issuer_missing",
        "The answer lacks its issuer",
        "The provider's answer does not say who it is from, although it should.",
        f"{_START} If it happens again, tell the contact below.",
        "The callback has no `iss`, but the connector says `iss_required` (RFC 9207).",
        "provider",
    ),
    Cause(
        "state_expired",
        "The sign-in is unknown or over",
        "This sign-in is unknown, already finished, or took longer than ten minutes.",
        _START,
        "No live transaction has this `state`: expired, used before, or never made here.",
        "user",
        retry=True,
    ),
    Cause(
        "other_browser",
        "It was started in another browser",
        "This sign-in was started in another browser or window.",
        "Start again, and finish in the same browser. Private windows and blocked cookies have the same effect.",
        "The cookie that binds the flow to its browser is missing or another one (session fixation is refused).",
        "user",
        retry=True,
    ),
    Cause(
        "callback_mixed_up",
        "The answer came to the wrong address",
        "The answer came to the address of another connection.",
        _START,
        "The connector in the callback's path is not the transaction's: a wrong registered redirect URI, or a mix-up.",
        "operator",
    ),
    Cause(
        "no_code",
        "The provider sent no answer",
        "The provider sent you back without an answer.",
        _START,
        "The callback has neither `code` nor `error`.",
        "provider",
        retry=True,
    ),
    Cause(
        "bad_callback",
        "The answer holds an unexpected value",
        "The provider's answer holds a value that is not expected.",
        f"{_START} If it happens again, tell the contact below.",
        "A query parameter named by `callback_keep` does not match its pattern.",
        "provider",
    ),
    Cause(
        "authorization_failed",
        "The provider ended the sign-in",
        "The provider ended the sign-in with an error.",
        f"{_START} If it happens again, tell the contact below.",
        "The callback carries an error that is not known here; its words are in the description.",
        "provider",
        retry=True,
    ),
    Cause(
        "popup_closed",
        "The window was closed",
        "The window was closed before the sign-in was finished.",
        "Connect again, and leave the window open until it closes by itself.",
        "The attempt was cancelled by the Hub; a callback that comes later connects nothing.",
        "user",
        retry=True,
    ),
    Cause(
        "attempt_expired",
        "The sign-in took too long",
        "The sign-in was not finished within ten minutes.",
        "Connect again, and finish the steps at the provider without a long pause.",
        "The attempt's time was over before a callback came. A provider that shows an error page of its own, such as a "
        "redirect URI that it does not know, sends no callback at all: run the preflight.",
        "user",
        retry=True,
    ),
    Cause(
        "invalid_form",
        "The form is not complete",
        "Something in the form is missing or does not look right.",
        "Correct the fields that are named, and connect again.",
        "The form values of the OAuth start did not pass the connector's rules.",
        "user",
    ),
    Cause(
        "disabled",
        "The connection is switched off",
        "This connection was switched off meanwhile.",
        "Ask the contact below to switch it on, then connect again.",
        "The auth config was disabled while the flow was under way.",
        "operator",
    ),
    Cause(
        "setup_incomplete",
        "The set-up is not complete",
        "The set-up of this connection lacks a value.",
        _OPERATOR,
        "A value that the connector's templates need is missing or can't be used, such as the client id or the private key.",
        "operator",
    ),
    Cause(
        "discovery_mismatch",
        "The provider describes itself differently",
        "The provider's own description differs from how it is set up here.",
        _OPERATOR,
        "The discovery document (RFC 8414, OpenID) names another issuer or other endpoints than the connector.",
        "operator",
    ),
    Cause(
        "internal_error",
        "An error of this application",
        "Something went wrong in this application, not at the provider.",
        "Try again; if it happens again, tell the contact below and give the request id.",
        "An unexpected exception; the log has it under the request id.",
        "mooring",
        retry=True,
    ),
)
