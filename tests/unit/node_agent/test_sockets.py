"""The kernel's two lists of listening sockets say the same, and the cheap one is taken where it can be."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from node_agent.host import sock_diag, sockets
from node_agent.host.netlink import NetlinkUnavailable
from node_agent.host.sockets import ListeningSocket, listening

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1
   1: 0100007F:1F41 0100007F:0050 01 00000000:00000000 00:00000000 00000000     0        0 4712 1
"""


def ours(found: tuple[ListeningSocket, ...], ports: set[int]) -> set[tuple[str, int, int]]:
    """Those of this test: others on the machine come and go."""
    return {(each.address, each.port, each.inode) for each in found if each.port in ports}


def test_both_lists_name_the_same_sockets() -> None:
    with socket.create_server(("127.0.0.1", 0)) as four, socket.create_server(("::", 0), family=socket.AF_INET6) as six:
        ports = {four.getsockname()[1], six.getsockname()[1]}
        by_netlink, by_table = ours(listening(), ports), ours(sockets._by_table("/proc"), ports)
        with socket.create_connection(four.getsockname()):  # connected sockets are in neither
            assert ours(listening(), ports) == by_netlink
    assert by_netlink == by_table
    assert {address for address, _, _ in by_netlink} == {"127.0.0.1", "::"}
    assert not ours(listening(), ports), "closed"


def test_more_sockets_than_one_answer_holds_are_all_listed() -> None:
    many = [socket.create_server(("127.0.0.1", 0)) for _ in range(600)]
    ports = {each.getsockname()[1] for each in many}
    assert {port for _, port, _ in ours(listening(), ports)} == ports
    for each in many:
        each.close()


def test_a_kernel_without_the_cheap_list_is_asked_for_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(family: int) -> object:
        raise NetlinkUnavailable(str(family))

    monkeypatch.setattr(sock_diag, "listening", refuse)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert {p for _, p, _ in ours(listening(), {port})} == {port}


def test_a_proc_of_another_network_is_read_and_not_mistaken_for_ours(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text(TABLE)
    assert listening(str(tmp_path)) == (ListeningSocket(address="127.0.0.1", port=8000, inode=4711),)
