"""How one refresh's token request travels: through the courier where there is one, else straight from this process."""

from __future__ import annotations

from dataclasses import replace

import structlog

from mooring.courier.client import CourierClient, CourierUnavailableError
from mooring.courier.wire import Delivered, Parcel
from mooring.kit.http import BufferedResponse, HttpClient, HttpFailure, OutboundRequest

log = structlog.get_logger(__name__)


class Carriage:
    """Carries the requests of one lease, and remembers which answers the courier keeps for it."""

    def __init__(self, http: HttpClient, courier: CourierClient | None, parcel: Parcel) -> None:
        self._http = http
        self._courier = courier
        self._parcel = parcel
        self._numbers: list[int] = []

    async def send(self, request: OutboundRequest, *, deadline: float, max_bytes: int = 1 << 20) -> BufferedResponse:
        """Send a request and read the whole answer. Raises HttpFailure.

        With the courier gone for seconds the request leaves from here: an answer that a crash may lose is better than
        an account that is surely down. The lease keeps it correct either way.
        """
        parcel = self._parcel
        self._parcel = replace(parcel, uncertain=True)  # a second request is sent only when the first one is unclear
        if self._courier is not None:
            try:
                response, number = await self._courier.send(parcel, request, deadline=deadline, max_bytes=max_bytes)
            except CourierUnavailableError:
                log.warning("courier unreachable; sending from this process", account_id=self._parcel.account_id)
            except HttpFailure as e:
                if e.kind == "blocked":
                    self._http.blocked += 1  # by the courier's guard; it has no /metrics of its own
                raise
            else:
                self._numbers.append(number)
                return response
        return await self._http.send(request, deadline=deadline, max_bytes=max_bytes)

    async def left_behind(self) -> list[Delivered]:
        """Answers to earlier requests for the same generation that nobody stored, oldest first.

        Empty as well when the courier can't be asked: the request that follows then ends as well as it can.
        """
        if self._courier is None:
            return []
        try:
            waiting = await self._courier.waiting(older_than=0, account_id=self._parcel.account_id)
        except CourierUnavailableError:
            return []
        found = [d for d in waiting if d.parcel.generation == self._parcel.generation]
        self._numbers += [d.number for d in found]
        return found

    async def stored(self) -> None:
        """Say that every answer was dealt with. Not called when dealing with it failed: then somebody recovers it."""
        for number in self._numbers:
            assert self._courier is not None
            await self._courier.acknowledge(number)
