"""Gives users rights: allow.py BOOTSTRAP_SERVERS USER:OPERATION:RESOURCE:NAME …, such as ann:read:topic:recency."""

import sys

from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, AdminClient, ResourcePatternType, ResourceType


def binding(right: str) -> AclBinding:
    user, operation, resource, name = right.split(":")
    return AclBinding(
        ResourceType[resource.upper()],
        name,
        ResourcePatternType.LITERAL,
        f"User:{user}",
        "*",
        AclOperation[operation.upper()],
        AclPermissionType.ALLOW,
    )


admin = AdminClient({"bootstrap.servers": sys.argv[1]})
for made in admin.create_acls([binding(right) for right in sys.argv[2:]]).values():
    made.result(timeout=30)
