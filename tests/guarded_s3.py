"""moto's S3 server, which enforces policies, with the one kind of condition that deploy/s3-policy.json has.

python -m tests.guarded_s3      INITIAL_NO_AUTH_ACTION_COUNT says how many calls come before the guard
"""

from fnmatch import fnmatchcase
from typing import Any

import flask
from moto.iam.access_control import IAMPolicyStatement, PermissionResult
from tests.s3_server import serve

permitted_by_moto = IAMPolicyStatement.is_action_permitted


def is_action_permitted(self: Any, *asked: Any, **more: Any) -> PermissionResult:
    """A statement whose condition is not met says nothing; a listing without a prefix has none to be compared."""
    statement = dict(self._statement)
    for kind, wanted in statement.pop("Condition", {}).items():
        assert kind == "StringLikeIfExists" and list(wanted) == ["s3:prefix"], "the guard knows no other condition"
        if not fnmatchcase(flask.request.args.get("prefix", wanted["s3:prefix"]), wanted["s3:prefix"]):
            return PermissionResult.NEUTRAL
    return permitted_by_moto(IAMPolicyStatement(statement), *asked, **more)


IAMPolicyStatement.is_action_permitted = is_action_permitted  # type: ignore[method-assign]

if __name__ == "__main__":
    serve()
