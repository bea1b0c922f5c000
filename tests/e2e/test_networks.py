"""Networks as users combine them: shared ones, static addresses, IPv6, borrowed namespaces, every kind of port."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from .conftest import Machine, Project, open_folders
from .leaks import find_leaks
from .pages import await_page, fetch_page

SLEEPER = "image: busybox, init: true, command: [sleep, '1000']"
SERVER = (
    "image: busybox, init: true, "
    "command: [sh, -c, 'mkdir -p /srv; hostname > /srv/index.html; exec httpd -f -p 80 -h /srv']"
)


PATIENT_WGET = "until wget -qO- http://127.0.0.1/ 2>/dev/null; do sleep 0.1; done"


def ping(project: Project, source: str, target: str) -> bool:
    return project.run("exec", "-T", source, "ping", "-c1", "-W2", target).code == 0


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("0.0.0.0", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def neighbours(machine: Machine) -> Iterator[tuple[Project, Project]]:
    """Two projects; the first one makes a network that the second one joins."""
    for made in open_folders(machine, ["owner", "guest"]):
        owner, guest = made
        owner.write(f"""
services:
  api: {{{SLEEPER}, networks: {{shared: {{aliases: [backend]}}}}}}
  hidden: {{{SLEEPER}}}
networks: {{shared: {{name: e2e-shared}}}}
""")
        guest.write(f"""
services:
  web: {{{SLEEPER}, networks: [shared, default]}}
networks: {{shared: {{name: e2e-shared, external: true}}}}
""")
        yield owner, guest
        guest.succeed("down", "-t", "0")


def test_projects_find_each_other_on_a_shared_network(neighbours: tuple[Project, Project]) -> None:
    owner, guest = neighbours
    # Without the network that it joins, the guest is told so.
    ran = guest.run("up", "-d")
    assert ran.code == 1
    assert "e2e-shared" in ran.err
    owner.succeed("up", "-d")
    guest.succeed("up", "-d")
    assert ping(guest, "web", "api")
    assert ping(guest, "web", "backend")
    assert not ping(guest, "web", "hidden")
    # Who was there first hears of who came later, and of who goes.
    owner.wait_until("api finds web", lambda: ping(owner, "api", "web"))
    owner.succeed("up", "-d", "--scale", "api=2")
    guest.wait_until("web finds the second", lambda: ping(guest, "web", "owner-api-2"))
    guest.succeed("stop", "-t", "0", "web")
    owner.wait_until("web is forgotten", lambda: not ping(owner, "api", "web"))
    guest.succeed("start", "web")
    # The network stays as long as the guest is on it.
    ran = owner.run("down", "-t", "0")
    assert ran.code == 1
    assert "guest-web-1" in ran.err


def test_static_addresses_and_what_is_asked_of_a_network(project: Project) -> None:
    project.write(f"""
services:
  fixed:
    {{{SLEEPER}, networks: {{front: {{ipv4_address: 10.231.7.20, mac_address: "02:11:22:33:44:55"}}}}}}
  free: {{{SLEEPER}, networks: {{front: {{}}, back: {{}}}}}}
  inner: {{{SLEEPER}, networks: {{back: {{}}}}}}
networks:
  front: {{ipam: {{config: [{{subnet: 10.231.7.0/24, gateway: 10.231.7.254, ip_range: 10.231.7.16/28}}]}}}}
  back: {{internal: true}}
""")
    project.succeed("up", "-d")
    shown = project.succeed("exec", "-T", "fixed", "ip", "addr", "show", "eth0")
    assert "10.231.7.20/24" in shown
    assert "02:11:22:33:44:55" in shown
    assert "default via 10.231.7.254" in project.succeed("exec", "-T", "fixed", "ip", "route")
    assert ping(project, "free", "10.231.7.20")
    assert ping(project, "inner", "free")
    # Nothing leads out of an internal network.
    assert "default" not in project.succeed("exec", "-T", "inner", "ip", "route")
    assert not ping(project, "inner", "10.231.7.20")
    # A recreated container keeps its static address; the old one lets go of it in time.
    project.succeed("up", "-d", "--force-recreate", "-t", "0", "fixed")
    assert "10.231.7.20/24" in project.succeed("exec", "-T", "fixed", "ip", "addr", "show", "eth0")
    # A network that is changed is made anew, with everything on it.
    text = (project.folder / "compose.yaml").read_text()
    project.write(text.replace("10.231.7.", "10.231.8."))
    project.succeed("up", "-d", "-t", "0")
    assert "10.231.8.20/24" in project.succeed("exec", "-T", "fixed", "ip", "addr", "show", "eth0")
    assert ping(project, "free", "fixed")


def test_an_address_that_is_taken_or_not_of_the_subnet(project: Project) -> None:
    project.write(f"""
services:
  one: {{{SLEEPER}, networks: {{front: {{ipv4_address: 10.231.9.20}}}}}}
  two: {{{SLEEPER}, networks: {{front: {{ipv4_address: 10.231.9.20}}}}}}
  three: {{{SLEEPER}, networks: {{front: {{ipv4_address: 10.1.1.1}}}}}}
networks: {{front: {{ipam: {{config: [{{subnet: 10.231.9.0/24}}]}}}}}}
""")
    ran = project.run("up", "-d")
    assert ran.code in (1, 15)
    assert "10.231.9.20" in ran.err
    assert "10.1.1.1" in ran.err
    assert "Traceback" not in ran.err


def test_ipv6(project: Project) -> None:
    project.write(f"""
services:
  one: {{{SERVER}, networks: {{six: {{ipv6_address: "fd12:3456:789a::20"}}}}, ports: ["80"]}}
  two: {{{SLEEPER}, networks: [six]}}
networks: {{six: {{enable_ipv6: true, ipam: {{config: [{{subnet: "fd12:3456:789a::/64"}}]}}}}}}
""")
    project.succeed("up", "-d")
    assert "fd12:3456:789a::20" in project.succeed("exec", "-T", "two", "nslookup", "one")
    project.succeed("exec", "-T", "two", "ping", "-6", "-c1", "-W2", "one")
    project.succeed("exec", "-T", "two", "ping", "-4", "-c1", "-W2", "one")
    port = project.succeed("port", "one", "80").rpartition(":")[2].strip()
    assert await_page(f"http://[::1]:{port}/") == await_page(f"http://127.0.0.1:{port}/")


def test_the_default_bridge_comes_and_goes_with_the_containers_on_it(project: Project) -> None:
    sleeper = SLEEPER.replace("image:", "network_mode: bridge, image:")
    project.write(f"services: {{a: {{{sleeper}}}, b: {{{sleeper}}}}}")

    def links() -> list[str]:
        left = find_leaks(project.machine.state, project.machine.run_dir)
        return [one for one in left if one.startswith("link ")]

    for _ in range(2):
        project.succeed("up", "-d")
        address = project.succeed("exec", "-T", "b", "hostname", "-i").strip()
        assert ping(project, "a", address)
        # Nobody publishes a port, and what they send out is masqueraded all the same.
        table = subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True, text=True).stdout
        network = ".".join([*address.split(".")[:2], "0.0/16"])
        ours = [part for part in table.split("table inet ") if part.startswith("stack_") and network in part]
        assert any("masquerade" in part for part in ours)
        project.succeed("rm", "-sf", "a")
        assert links()
        project.succeed("rm", "-sf", "b")
        assert not links()


def test_borrowed_and_missing_namespaces(project: Project) -> None:
    project.write(
        f"""
services:
  main: {{{SERVER}, hostname: lender}}
  side: {{{SLEEPER}, network_mode: "service:main"}}
  bare: {{{SLEEPER}, network_mode: none}}
  open: {{{SLEEPER}, network_mode: host}}
  other: {{image: busybox, command: [sleep, "1000"], pid: "service:main", ipc: "service:main", stop_signal: SIGKILL}}
""".replace(f"main: {{{SERVER}", f"main: {{{SERVER}, ipc: shareable")
    )
    project.succeed("up", "-d")
    # One network for both; names too.
    assert project.succeed("exec", "-T", "side", "sh", "-c", PATIENT_WGET) == "lender\n"
    assert ping(project, "side", "other")
    links = project.succeed("exec", "-T", "bare", "ls", "/sys/class/net").split()
    assert links == ["lo"]
    assert project.succeed("exec", "-T", "open", "hostname") == socket.gethostname() + "\n"
    assert "httpd" in project.succeed("exec", "-T", "other", "ps")
    # When the lender is made anew the borrower follows it.
    project.succeed("up", "-d", "--force-recreate", "-t", "0", "main")
    project.succeed("up", "-d", "-t", "0")
    assert project.succeed("exec", "-T", "side", "sh", "-c", PATIENT_WGET) == "lender\n"


def test_every_kind_of_port(project: Project) -> None:
    fixed, first, local, datagrams = free_port(), free_port(), free_port(), free_port(socket.SOCK_DGRAM)
    project.write(f"""
services:
  web:
    {{{SERVER}, hostname: web, ports: ["{fixed}:80", "{first}-{first + 0}:80", "127.0.0.1:{local}:80", "[::1]::80"]}}
  echo: {{{SLEEPER}, ports: ["{datagrams}:7/udp"]}}
  client: {{{SLEEPER}}}
""")
    project.succeed("up", "-d")
    for port in (fixed, first):
        for host in ("127.0.0.1", "[::1]", outside_address()):
            assert await_page(f"http://{host}:{port}/") == "web\n", (host, port)
    assert await_page(f"http://127.0.0.1:{local}/") == "web\n"
    with pytest.raises(OSError):
        fetch_page(f"http://{outside_address()}:{local}/")
    # From a container, by the host's address: hairpin, to itself too.
    for source in ("client", "web"):
        url = f"http://{outside_address()}:{fixed}/"
        assert project.succeed("exec", "-T", source, "wget", "-qO-", url) == "web\n"
    with echo_datagrams(project.pid("echo-1"), 7):
        for host in ("127.0.0.1", outside_address()):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.settimeout(5)
                client.sendto(b"ping", (host, datagrams))
                assert client.recv(100) == b"ping"
    # What is stopped is closed: another program can have the port.
    project.succeed("stop", "-t", "0", "web")
    with pytest.raises(OSError):
        fetch_page(f"http://127.0.0.1:{fixed}/")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("0.0.0.0", fixed))
        other.listen()
        ran = project.run("start", "web")
        assert ran.code == 1
        assert str(fixed) in ran.err
    project.succeed("start", "web")
    assert await_page(f"http://127.0.0.1:{fixed}/") == "web\n"


@contextmanager
def echo_datagrams(pid: int, port: int) -> Iterator[None]:
    """Answer datagrams in the network namespace of a process: the image has no program that could."""
    script = (
        "import socket; one = socket.socket(type=socket.SOCK_DGRAM); "
        f"one.bind(('0.0.0.0', {port})); print('up', flush=True)\n"
        "while True: one.sendto(*one.recvfrom(100))"
    )
    server = subprocess.Popen(
        ["nsenter", f"--net=/proc/{pid}/ns/net", sys.executable, "-c", script], stdout=subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == b"up\n"
        yield
    finally:
        server.kill()
        server.communicate()


def outside_address() -> str:
    """An address of this host that is not a loopback's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this host has no address but the loopback's")
        return str(probe.getsockname()[0])


def test_a_range_of_ports_is_shared_by_replicas(project: Project) -> None:
    project.write(f"""
services:
  web: {{{SERVER}, scale: 3, ports: ["127.0.0.1:41600-41602:80"]}}
""")
    project.succeed("up", "-d")
    pages = {await_page(f"http://127.0.0.1:{port}/") for port in (41600, 41601, 41602)}
    assert len(pages) == 3
    ran = project.run("up", "-d", "--scale", "web=4")
    assert ran.code == 1
    assert "41600-41602" in ran.err
    assert len([row for row in project.containers().values() if row["State"] == "running"]) == 3


def test_another_projects_port_names_its_container(two_projects: tuple[Project, Project]) -> None:
    port = free_port()
    for one in two_projects:
        one.write(f"services: {{w: {{{SLEEPER}, ports: ['127.0.0.1:{port}:80']}}}}")
    two_projects[0].succeed("up", "-d")
    ran = two_projects[1].run("up", "-d")
    assert ran.code == 1
    assert f"{port}" in ran.err
    assert "one-w-1" in ran.err
    two_projects[0].succeed("down", "-t", "0")
    two_projects[1].succeed("up", "-d")


def test_a_network_that_is_made_anew_keeps_its_containers(project: Project) -> None:
    text = f"""
services:
  web: {{{SERVER}, networks: [front], ports: ["80"]}}
  free: {{{SLEEPER}, networks: [front, back], depends_on: [web]}}
  inner: {{{SLEEPER}, network_mode: "service:web"}}
  other: {{{SLEEPER}, networks: [back]}}
networks: {{front: {{ipam: {{config: [{{subnet: 10.231.17.0/24}}]}}}}, back: {{}}}}
"""
    project.write(text)
    project.succeed("up", "-d")
    ids = {name: row["ID"] for name, row in project.containers().items()}
    other = project.pid("other-1")
    project.succeed("exec", "-T", "free", "touch", "/mine")
    project.write(text.replace("10.231.17.", "10.231.18."))
    ran = project.run("up", "-d", "-t", "0")
    assert ran.code == 0, ran.err
    assert "Network" in ran.err
    assert "Recreate" not in ran.err
    # The same containers, with all that they have written, on the new network.
    assert {name: row["ID"] for name, row in project.containers().items()} == ids
    assert {row["State"] for row in project.containers().values()} == {"running"}
    assert project.pid("other-1") == other
    project.succeed("exec", "-T", "free", "test", "-e", "/mine")
    assert "10.231.18." in project.succeed("exec", "-T", "free", "ip", "addr")
    assert ping(project, "free", "web")
    assert ping(project, "other", "free")
    assert "10.231.18." in project.succeed("exec", "-T", "inner", "ip", "addr")
    assert project.run("up", "-d").err.count("Starting") == 0
