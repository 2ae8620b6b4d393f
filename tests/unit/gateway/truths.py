"""What an answer must keep of `/openapi.json`, of a gateway alone and of a whole fleet."""

from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

TRUTHS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.unsupported_method,
    checks.allow_header_conformance,
]
