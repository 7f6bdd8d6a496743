"""The parts of Envoy's bootstrap that know and limit callers. Pure functions, as in
:mod:`recmesh.deployments.envoy_config`; the reasons are in ``docs/security.md``.

The filters in their order: what callers say of themselves is taken off; a token is verified; who
calls is put into one header; that becomes the caller's name and priority; JSON becomes gRPC; the
caller's methods; its quota.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from buf.validate import validate_pb2
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from recmesh.deployments import envoy_secrets
from recmesh.deployments.caller import (
    CALLER_KEY,
    EVENT_CALLERS_KEY,
    MESH_TOKEN_KEY,
    PRIORITY_KEY,
)
from recmesh.deployments.caller_table import METHODS
from recmesh.deployments.edge_security import EdgeSecurity
from recmesh.v1 import catalog_pb2, feedback_pb2, recommendation_pb2

Json = dict[str, Any]

IDENTITY = "x-recmesh-identity"
"""Header between filters: the SPIFFE id that a certificate or a token proves."""
HEALTH = "/grpc.health.v1.Health/Check"
"""Open to all. Not Watch: whoever opens enough of its streams would keep everybody out."""
WATCH = "/grpc.health.v1.Health/Watch"
RULES = validate_pb2.DESCRIPTOR.name
REFLECTION = "/grpc.reflection."
CLOCK_SKEW_S = 10
_TYPES = "type.googleapis.com/envoy"
_HTTP = f"{_TYPES}.extensions.filters.http"
_OWN_HEADERS = (IDENTITY, CALLER_KEY, EVENT_CALLERS_KEY, PRIORITY_KEY, MESH_TOKEN_KEY)
_JSON_PRINTED = {"preserve_proto_field_names": True}


def filters(security: EdgeSecurity, directory: Path) -> list[Json]:
    """HTTP filters before those that every edge has; ``directory`` is where secrets are named."""
    return [
        _mutation("strip", [{"remove": header} for header in _OWN_HEADERS]),
        *([_tokens(security, security.token_keys)] if security.token_keys else ()),
        _mutation(
            "identity",
            [
                {
                    # A token wins: whoever passes one on from behind its own certificate means it.
                    "append": {
                        "header": {"key": IDENTITY, "value": "%DOWNSTREAM_PEER_URI_SAN%"},
                        "append_action": "ADD_IF_ABSENT",
                    }
                }
            ],
        ),
        _names(security),
        _transcoder(),
        _methods(security),
        _quotas(security),
        *([_mesh_token(directory)] if security.mesh_token else ()),
    ]


def access_log(security: EdgeSecurity) -> list[Json]:
    """Nothing here may identify a person: no path but a known method's, no address, no agent."""
    return [
        {
            "name": "envoy.access_loggers.file",
            "typed_config": {
                "@type": f"{_TYPES}.extensions.access_loggers.file.v3.FileAccessLog",
                "path": str(security.access_log),
                "log_format": {
                    "json_format": {
                        "time": "%START_TIME%",
                        # A route's name, because a path may hold anything.
                        "method": "%ROUTE_NAME%",
                        "caller": f"%REQ({CALLER_KEY})%",
                        "priority": f"%REQ({PRIORITY_KEY})%",
                        "http_code": "%RESPONSE_CODE%",
                        "grpc_code": "%GRPC_STATUS(SNAKE_STRING)%",
                        "duration_ms": "%DURATION%",
                        "bytes_received": "%BYTES_RECEIVED%",
                        "bytes_sent": "%BYTES_SENT%",
                        "flags": "%RESPONSE_FLAGS%",
                        "request_id": "%REQ(X-REQUEST-ID)%",
                    }
                },
            },
        }
    ]


def refusals() -> list[Json]:
    """Envoy's own refusals, in the contract's codes and with words that help."""
    nobody = _reply(
        [_status(403, 401), _header_is_absent(IDENTITY)],
        401,
        16,
        "no credentials, or none that are believed: give a client certificate or a bearer token",
    )
    stranger = _reply(
        [_status(403), _header_is_absent(CALLER_KEY)],
        403,
        7,
        "this caller has no table [callers.NAME]",
    )
    forbidden = _reply(
        [_status(403)],
        403,
        7,
        "this caller may not use this method",
    )
    often = _reply(
        [_status(429)],
        429,
        8,
        "more requests a second than this caller's quota; send fewer, or ask for more",
    )
    not_ready = _reply(
        [_status(401)],
        503,
        14,
        "the edge lacks the token that it shows its mesh; try again later",
    )
    return [nobody, stranger, forbidden, often, not_ready]


def _set(key: str, value: str) -> Json:
    return {
        "header": {"key": key, "value": value},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }


def _mutation(name: str, mutations: list[Json]) -> Json:
    return {
        "name": name,
        "typed_config": {
            "@type": f"{_HTTP}.header_mutation.v3.HeaderMutation",
            "mutations": {"request_mutations": mutations},
        },
    }


def _tokens(security: EdgeSecurity, token_keys: Path) -> Json:
    callers = {
        "issuer": security.token_issuer,
        "audiences": [security.token_audience],
        "local_jwks": {"filename": str(token_keys)},
        # Not from the query, which others may log.
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        "claim_to_headers": [{"header_name": IDENTITY, "claim_name": "sub"}],
        "require_expiration": True,
        "clock_skew_seconds": CLOCK_SKEW_S,
    }
    either = {"requirements": [{"provider_name": "callers"}, {"allow_missing": {}}]}
    return {
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": {
            "@type": f"{_HTTP}.jwt_authn.v3.JwtAuthentication",
            "providers": {"callers": callers},
            "rules": [
                {"match": {"path": HEALTH}},
                {"match": {"prefix": "/"}, "requires": {"requires_any": either}},
            ],
        },
    }


def _names(security: EdgeSecurity) -> Json:
    """A caller's identity becomes its name and its priority; of others nothing becomes anything."""
    found = {}
    for name, table in security.callers.items():
        headers = {CALLER_KEY: name, PRIORITY_KEY: table.priority}
        if table.event_callers:
            headers[EVENT_CALLERS_KEY] = ",".join(table.event_callers)
        mutation = _mutation(
            "caller", [{"append": _set(key, value)} for key, value in headers.items()]
        )
        found[table.identity(name)] = {
            "action": {
                "name": "named",
                "typed_config": {
                    "@type": f"{_HTTP}.composite.v3.ExecuteFilterAction",
                    "typed_config": mutation,
                },
            }
        }
    return {
        "name": "names",
        "typed_config": {
            "@type": f"{_TYPES}.extensions.common.matching.v3.ExtensionWithMatcher",
            "extension_config": {
                "name": "composite",
                "typed_config": {"@type": f"{_HTTP}.composite.v3.Composite"},
            },
            "xds_matcher": {
                "matcher_tree": {
                    "input": {
                        "name": "identity",
                        "typed_config": {
                            "@type": f"{_TYPES}.type.matcher.v3.HttpRequestHeaderMatchInput",
                            "header_name": IDENTITY,
                        },
                    },
                    "exact_match_map": {"map": found},
                }
            },
        },
    }


def _transcoder() -> Json:
    return {
        "name": "envoy.filters.http.grpc_json_transcoder",
        "typed_config": {
            "@type": f"{_HTTP}.grpc_json_transcoder.v3.GrpcJsonTranscoder",
            "proto_descriptor_bin": base64.b64encode(descriptors()).decode(),
            "services": [f"recmesh.v1.{service}" for service in METHODS],
            "auto_mapping": True,
            "convert_grpc_status": True,
            "print_options": _JSON_PRINTED,
        },
    }


def descriptors() -> bytes:
    """The contract with all that it imports, as a serialized FileDescriptorSet.

    Without the rules of validation, which Envoy does not know: they are five sixths of it.
    """
    found: dict[str, FileDescriptorProto] = {}

    def take(file: FileDescriptor) -> None:
        if file.name in found or file.name == RULES:
            return
        for other in file.dependencies:
            take(other)
        said = FileDescriptorProto()
        file.CopyToProto(said)
        _drop_extensions(said)
        if RULES in said.dependency:
            said.dependency.remove(RULES)
        found[file.name] = said

    # Those of errors, too: without them a refusal with details would come without a body.
    errors = (status_pb2, error_details_pb2)
    for module in (recommendation_pb2, feedback_pb2, catalog_pb2, *errors):
        take(module.DESCRIPTOR)
    return FileDescriptorSet(file=found.values()).SerializeToString(deterministic=True)


def _drop_extensions(message: Message) -> None:
    for field, value in message.ListFields():
        if field.is_extension:
            message.ClearExtension(field)  # type: ignore[arg-type] # its stub knows generated ones
        elif field.message_type is not None:
            for below in [value] if isinstance(value, Message) else value:
                _drop_extensions(below)


def _methods(security: EdgeSecurity) -> Json:
    def path(kind: str, value: str) -> Json:
        return {"url_path": {"path": {kind: value}}}

    policies: Json = {
        "health": {
            "permissions": [path("exact", HEALTH)],
            "principals": [{"any": True}],
        },
        # What the contract is, is no secret.
        "reflection and health": {
            "permissions": [path("prefix", REFLECTION), path("exact", WATCH)],
            "principals": [{"header": {"name": CALLER_KEY, "present_match": True}}],
        },
    }
    for name, table in security.callers.items():
        policies[f"caller {name}"] = {
            "permissions": [path("exact", one) for one in table.paths],
            "principals": [{"header": {"name": CALLER_KEY, "string_match": {"exact": name}}}],
        }
    return {
        "name": "envoy.filters.http.rbac",
        "typed_config": {
            "@type": f"{_HTTP}.rbac.v3.RBAC",
            "rules": {"action": "ALLOW", "policies": policies},
        },
    }


def _bucket(per_s: int) -> Json:
    return {"max_tokens": per_s, "tokens_per_fill": per_s, "fill_interval": "1s"}


def _quotas(security: EdgeSecurity) -> Json:
    always: Json = {"numerator": 100, "denominator": "HUNDRED"}
    return {
        "name": "envoy.filters.http.local_ratelimit",
        "typed_config": {
            "@type": f"{_HTTP}.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "quota",
            # For those without a name, which only health lets through.
            "token_bucket": _bucket(security.health_per_s),
            "always_consume_default_token_bucket": False,
            "filter_enabled": {"default_value": always},
            "filter_enforced": {"default_value": always},
            "rate_limited_as_resource_exhausted": True,
            "rate_limits": [
                {
                    "actions": [
                        {
                            "request_headers": {
                                "header_name": CALLER_KEY,
                                "descriptor_key": "caller",
                            }
                        }
                    ]
                }
            ],
            "descriptors": [
                {
                    "entries": [{"key": "caller", "value": name}],
                    "token_bucket": _bucket(table.requests_per_s),
                }
                for name, table in security.callers.items()
            ],
        },
    }


def _mesh_token(directory: Path) -> Json:
    """Says to replicas that a call comes from inside; without the token none goes on."""
    generic = {
        "@type": f"{_TYPES}.extensions.http.injected_credentials.generic.v3.Generic",
        "credential": envoy_secrets.source(envoy_secrets.MESH_TOKEN, directory),
        "header": MESH_TOKEN_KEY,
    }
    return {
        "name": "envoy.filters.http.credential_injector",
        "typed_config": {
            "@type": f"{_HTTP}.credential_injector.v3.CredentialInjector",
            "overwrite": True,
            "credential": {"name": "mesh-token", "typed_config": generic},
        },
    }


def _status(*codes: int) -> Json:
    each = [
        {
            "status_code_filter": {
                "comparison": {
                    "op": "EQ",
                    "value": {"default_value": code, "runtime_key": f"edge.code_{code}"},
                }
            }
        }
        for code in codes
    ]
    return each[0] if len(each) == 1 else {"or_filter": {"filters": each}}


def _header_is_absent(name: str) -> Json:
    return {"header_filter": {"header": {"name": name, "present_match": False}}}


def _reply(when: list[Json], http_code: int, grpc_code: int, words: str) -> Json:
    return {
        "filter": when[0] if len(when) == 1 else {"and_filter": {"filters": when}},
        "status_code": http_code,
        "body": {"inline_string": words},
        "headers_to_add": [_set("grpc-status", str(grpc_code))],
    }
