"""A store that says nothing, or has gone: only who needs it waits, and not for ever."""

import errno
import os
import signal
import socket
import subprocess
import time

import pytest

from bounded import SANITIZED, SLACK, ls, read, run, wait_until
from mounting import LAZY_UNMOUNT
from remote import HONEST, MIB, RECOVERS_SECONDS, reads_well, same_bytes, shard_paths
from servers import wait_gone

READERS = 64


def p99(call, count=300):
    """The 99th percentile of a call's seconds, the best of a few rounds: the machine is shared."""
    rounds = []
    for _ in range(3):
        times = []
        for number in range(count):
            began = time.monotonic()
            call(number)
            times.append(time.monotonic() - began)
        rounds.append(sorted(times)[int(count * 0.99)])
    return min(rounds)


def start_readers(paths, count=READERS, direct=False):
    """Each wants another place that nobody has fetched."""
    readers = []
    for number in range(count):
        path = paths[number % len(paths)]
        skip = (1 + number // len(paths)) * 32 * MIB * len(paths) // READERS // 4096
        command = ["dd", f"if={path}", "of=/dev/null", "bs=4096", "count=1", f"skip={skip}"]
        if direct:
            command.append("iflag=direct")
        readers.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
    return readers


def test_stopped_server_stops_only_its_readers(remote):
    timeout = 15 if SANITIZED else 8
    keys = remote.dataset("cold", 4, 36 * MIB)
    [warm] = remote.dataset("warm", 1, 2 * MIB)
    mount = remote.mount(timeout=timeout)
    paths = shard_paths(mount, "cold")
    [warm_path] = shard_paths(mount, "warm")
    assert same_bytes(warm_path, remote.objects[warm])
    remote.settled(mount)
    cached = os.open(warm_path, os.O_RDONLY)
    readers = []
    try:
        with remote.minio.paused():
            began = time.monotonic()
            readers = start_readers(paths)
            wait_until(lambda: mount.metrics()["cache_waiters"] > 0, timeout, "readers wait")
            measured = {
                # A name never asked for goes to the daemon.
                "stat of a name": p99(lambda n: os.path.lexists(mount / "datasets" / f"no-{n}")),
                "stat": p99(lambda n: os.stat(paths[n % len(paths)])),
                "ls": p99(lambda n: os.listdir(mount / "datasets" / "cold")),
                "status": p99(lambda n: os.stat(mount / ".atdatafs" / "status.json")),
                "cached read": p99(lambda n: os.pread(cached, 4096, n % 500 * 4096)),
            }
            for reader in readers:
                assert reader.poll() is None or time.monotonic() - began > timeout
            # A killed reader dies at once, whatever it waits for.
            killed, waiting = readers[: READERS // 2], readers[READERS // 2 :]
            for reader in killed:
                reader.send_signal(signal.SIGKILL)
            took = max(wait_gone(reader.pid) for reader in killed)
            assert took < 1 * SLACK, took
            for reader in waiting:
                reader.wait(timeout + 20)
                told = reader.stderr.read()
                assert reader.returncode != 0, told
                assert "timed out" in told or "Input/output error" in told, told
            assert time.monotonic() - began < timeout + 20
            slow = {what: seconds for what, seconds in measured.items() if seconds > 0.005 * SLACK}
            assert not slow, measured
        for path, key in zip(paths, keys, strict=True):
            wait_until(
                lambda path=path, key=key: reads_well(path, remote.objects[key]),
                RECOVERS_SECONDS,
                f"{path.name} reads after the pause",
            )
    finally:
        os.close(cached)
        for reader in readers:
            reader.kill()
            reader.communicate()
    remote.settled(mount)
    assert mount.metrics()["cache_waiters"] == 0


def test_killed_direct_readers_die_at_once(remote):
    """With O_DIRECT the kernel waits for the answer even of a killed process: FUSE_INTERRUPT."""
    remote.dataset("cold", 1, 36 * MIB)
    mount = remote.mount(timeout=20)
    paths = shard_paths(mount, "cold")
    with remote.minio.paused():
        readers = start_readers(paths, count=8, direct=True)
        try:
            wait_until(lambda: mount.metrics()["cache_waiters"] > 0, 20, "readers wait")
            for reader in readers:
                reader.kill()
            took = max(wait_gone(reader.pid, 30) for reader in readers)
        finally:
            for reader in readers:
                reader.communicate()
    assert took < 2 * SLACK, took


def test_known_shard_does_not_wait_for_its_neighbour(remote):
    """One shard of the list is on a server that never says anything."""
    remote.put("data/mixed/good.tar", size=MIB)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        elsewhere = f"http://127.0.0.1:{silent.getsockname()[1]}/bad.tar"
        remote.index.entry("mixed", [remote.url("data/mixed/good.tar"), elsewhere])
        mount = remote.mount(timeout=6)
        directory = mount / "datasets" / "mixed"
        good = directory / "good.tar"
        [cid] = ls(mount / "by-cid")
        assert same_bytes(good, remote.objects["data/mixed/good.tar"])
        ls(mount / "by-cid" / cid)
        time.sleep(3.5)  # then the silent server may be asked again
        began = time.monotonic()
        assert same_bytes(good, remote.objects["data/mixed/good.tar"])
        assert os.stat(mount / "by-cid" / cid / "good.tar").st_size == MIB
        took = time.monotonic() - began
        assert took < 1 * SLACK, took
        with pytest.raises(TimeoutError):
            os.stat(directory / "bad.tar")


def test_stall_is_an_error_in_time(remote):
    [key] = remote.dataset("stalling", 1, 8 * MIB)
    mount = remote.mount(timeout=5)
    [path] = shard_paths(mount, "stalling")
    remote.proxy.rule("stall")
    began = time.monotonic()
    with pytest.raises(OSError) as raised:
        read(path, timeout=60)
    assert raised.value.errno in (errno.ETIMEDOUT, errno.EIO)
    assert time.monotonic() - began < 5 + 15
    remote.proxy.behave()
    wait_until(lambda: reads_well(path, remote.objects[key]), RECOVERS_SECONDS, "it reads again")


def test_stall_within_a_reply_is_gone_round(remote):
    """Another attempt goes on where the first has stopped to come, before any reader's deadline."""
    [key] = remote.dataset("stalling", 1, 8 * MIB)
    mount = remote.mount(timeout=60)
    [path] = shard_paths(mount, "stalling")
    remote.proxy.rule("stall", at=500_000, times=1)
    assert same_bytes(path, remote.objects[key])
    remote.settled(mount)
    metrics = mount.metrics()
    assert metrics["net_retries"] + metrics["net_hedges"] >= 1


def test_server_that_is_restarted(remote):
    keys = remote.dataset("restarted", 2, 3 * MIB)
    mount = remote.mount(timeout=5)
    first, second = shard_paths(mount, "restarted")
    assert same_bytes(first, remote.objects[keys[0]])
    remote.minio.kill()
    try:
        assert same_bytes(first, remote.objects[keys[0]])
        with pytest.raises(OSError) as raised:
            read(second, timeout=60)
        assert raised.value.errno in HONEST
    finally:
        remote.minio.start()
    wait_until(
        lambda: reads_well(second, remote.objects[keys[1]]), RECOVERS_SECONDS, "it reads again"
    )


def test_unmount_while_readers_wait(remote):
    """A mount with a dead server can still be taken away."""
    remote.dataset("cold", 1, 36 * MIB)
    mount = remote.mount(timeout=60)
    [path] = shard_paths(mount, "cold")
    with remote.minio.paused():
        readers = start_readers([path])
        wait_until(lambda: mount.metrics()["cache_waiters"] > 0, 20, "readers wait")
        run(*LAZY_UNMOUNT, mount.path)
        for reader in readers:
            reader.kill()
        for reader in readers:
            reader.communicate(timeout=20)
        mount.wait_exit()
