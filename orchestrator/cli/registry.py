"""The command table: name, the module that holds it, one line of help. Modules are imported when a command is used."""

from __future__ import annotations

COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("up", "Create and start the services"),
    "down": ("down", "Stop and remove containers and networks"),
    "ps": ("ps", "List the project's containers"),
    "logs": ("logs", "Show what containers have written"),
    "exec": ("exec", "Run a command in a running container"),
    "start": ("start", "Start containers that exist"),
    "stop": ("stop", "Stop services"),
    "restart": ("restart", "Restart services"),
    "create": ("create", "Create containers without starting them"),
    "scale": ("scale", "Set the number of replicas of services"),
    "kill": ("kill", "Send a signal to services"),
    "pause": ("pause", "Freeze services"),
    "unpause": ("unpause", "Let frozen services go on"),
    "rm": ("rm", "Remove stopped containers"),
    "wait": ("wait", "Wait until containers of services have stopped"),
    "port": ("port", "Show the host's address of a published port"),
    "images": ("images", "List the images that the project's containers use"),
    "pull": ("pull", "Fetch the images of services"),
    "plan": ("plan", "Show what `up` would do, and why"),
    "why": ("why", "Show what holds a service back"),
    "config": ("config", "Show the stack file as it is understood"),
    "graph": ("graph", "Show what needs what, as a tree or a picture"),
    "ls": ("ls", "List the projects on this machine"),
    "image": ("image", "Import, load, list, pull and remove images"),
    "doctor": ("doctor", "Show what this machine has and lacks"),
    "completion": ("completion", "Print a completion script for a shell"),
    "version": ("version", "Show the version"),
}
