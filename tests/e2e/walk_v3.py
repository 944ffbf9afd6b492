"""Walks a subtree over SNMPv3 with pysnmp's GetBulk, authenticated with SHA-256, and prints an identifier to a line.
Arguments: host, port, root, user, passphrase."""

import asyncio
import sys

from pysnmp.hlapi.v3arch.asyncio import (
    USM_AUTH_HMAC192_SHA256,
    ContextData,
    ObjectIdentity,
    ObjectType,
    SnmpEngine,
    UdpTransportTarget,
    UsmUserData,
    bulk_walk_cmd,
)


async def walk():
    host, port, root, user, passphrase = sys.argv[1:]
    answers = bulk_walk_cmd(
        SnmpEngine(),
        UsmUserData(user, authKey=passphrase, authProtocol=USM_AUTH_HMAC192_SHA256),
        await UdpTransportTarget.create((host, int(port)), timeout=10, retries=0),
        ContextData(),
        0,
        25,
        ObjectType(ObjectIdentity(root)),
        lexicographicMode=False,
        lookupMib=False,
    )
    async for error, status, index, varbinds in answers:
        if error or status:
            sys.exit(f"{error or status.prettyPrint()} at {index}")
        for oid, _ in varbinds:
            print(f".{oid}")


asyncio.run(walk())
