"""All tables of all slices, gathered where migrations look for them."""

from __future__ import annotations

from mooring.accounts import models as accounts
from mooring.actions import models as actions
from mooring.auth_configs import models as auth_configs
from mooring.connect import models as connect
from mooring.grants import models as grants
from mooring.identity import audit_models, user_models
from mooring.identity import models as identity
from mooring.incoming import models as incoming
from mooring.kit import idempotency, jobs
from mooring.kit.db import Base
from mooring.logs import models as logs
from mooring.webhooks import models as webhooks

MODULES = (
    idempotency,
    jobs,
    identity,
    user_models,
    audit_models,
    auth_configs,
    accounts,
    actions,
    incoming,
    connect,
    grants,
    logs,
    webhooks,
)
METADATA = Base.metadata
