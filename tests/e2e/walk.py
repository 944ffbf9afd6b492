"""Walks a subtree with pysnmp, first with GetNext, then with GetBulk, and prints identifier, type and value in
hexadecimal or decimal on a line each; an empty line stands between the walks. Arguments: host, port, root."""

import asyncio
import sys

from pysnmp.hlapi.v3arch.asyncio import (
    CommunityData,
    ContextData,
    ObjectIdentity,
    ObjectType,
    SnmpEngine,
    UdpTransportTarget,
    bulk_walk_cmd,
    walk_cmd,
)


async def walk(command, *repetitions):
    host, port, root = sys.argv[1:]
    target = await UdpTransportTarget.create((host, int(port)), timeout=10, retries=0)
    answers = command(
        SnmpEngine(),
        CommunityData("public"),
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
