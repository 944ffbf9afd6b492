"""Runs a command on a terminal of its own and types a line at each prompt. Arguments: the lines, `--`, the command.
Prints what the terminal showed, and ends as the command did."""

import os
import pty
import sys

split = sys.argv.index("--")
lines, command = sys.argv[1:split], sys.argv[split + 1 :]
child, terminal = pty.fork()
if child == 0:
    os.execvp(command[0], command)

shown, answered = b"", 0
while True:
    try:
        octets = os.read(terminal, 1024)
    except OSError:  # Linux says so when the other end is closed.
        octets = b""
    if not octets:
        break
    shown += octets
    if shown[answered:].endswith(b": ") and lines:
        answered = len(shown)
        os.write(terminal, lines.pop(0).encode() + b"\n")
sys.stdout.write(shown.decode().replace("\r\n", "\n"))
sys.stdout.flush()
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
