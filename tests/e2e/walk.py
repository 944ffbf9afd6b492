"""Walks a subtree with pysnmp, first with GetNext, then with GetBulk, and prints identifier, type and value in
hexadecimal or decimal on a line each; an empty line stands between the walks. Arguments: host, port, root, and for
SNMPv3 with SHA-256 user and passphrase."""

import asyncio
import sys

from pysnmp.hlapi.v3arch.asyncio import (
    USM_AUTH_HMAC192_SHA256,
    CommunityData,
    ContextData,
    ObjectIdentity,
    ObjectType,
    SnmpEngine,
    UdpTransportTarget,
    UsmUserData,
    bulk_walk_cmd,
    walk_cmd,
)

host, port, root, *user = sys.argv[1:]
if user:
    access = UsmUserData(user[0], authKey=user[1], authProtocol=USM_AUTH_HMAC192_SHA256)
else:
    access = CommunityData("public")


async def walk(command, *repetitions):
    target = await UdpTransportTarget.create((host, int(port)), timeout=10, retries=0)
    answers = command(
        SnmpEngine(),
        access,
        target,
        ContextData(),
        *repetitions,
        ObjectType(ObjectIdentity(root)),
        lexicographicMode=False,
        lookupMib=False,
    )
    async for error, status, index, varbinds in answers:
        if error or status:
            sys.exit(f"{error or status.prettyPrint()} at {index}")
        for oid, value in varbinds:
            kind = type(value).__name__
            text = bytes(value).hex() if kind == "OctetString" else int(value)
            print(oid, kind, text, sep="\t")


asyncio.run(walk(walk_cmd))
print()
asyncio.run(walk(bulk_walk_cmd, 0, 25))
