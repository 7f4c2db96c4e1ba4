"""`atdatafs doctor`: each fault, made for real, is found with the advice that ends it."""

import os
import re
import subprocess
import uuid

import pytest

from command import Commands
from s3_strict import StrictS3
from servers import RedisServer


@pytest.fixture
def commands(team_world):
    return Commands(team_world)


def checks(answer):
    return {check["name"]: check for check in answer["checks"]}


def look(commands, *, code=1, **how):
    """The checks by name; every problem and warning says what to do."""
    answer = commands.json("doctor", code=code, **how)
    found = checks(answer)
    for check in found.values():
        if check["state"] in ("problem", "warning"):
            assert check["advice"], check
    assert (answer["problems"] > 0) == (code == 1)
    return found


def test_all_is_well(world):
    commands = Commands(world)
    commands("publish", world.shard("a.tar"), "mnist")
    before = world.objects()
    found = look(commands, code=0)
    assert not [c for c in found.values() if c["state"] == "problem"], found
    assert "1 datasets" in found["index"]["said"]
    assert found["fuse"]["state"] == "ok" and found["kernel"]["said"].startswith("Linux ")
    if world.kind == "team":
        assert found["redis tracking"]["state"] == "ok"
        assert found["store clock"]["state"] == found["redis clock"]["state"] == "ok"
        assert found["bucket"]["state"] == found["conditional writes"]["state"] == "ok"
    assert world.objects() == before and not world.uploads()
    text = commands("doctor").stdout
    assert "0 problems" in text and text.count("\nok ") > 4
    assert "problem" not in commands("doctor", "-q").stdout


def test_no_redis(commands):
    found = look(commands, index="redis://127.0.0.1:1/0")
    assert "refused" in found["redis"]["said"]
    assert "start the server" in found["redis"]["advice"]
    assert "127.0.0.1:1" in found["redis"]["advice"]
    found = look(commands, index="redis://no-such-host.invalid/0")
    assert "host's name" in found["redis"]["advice"]
    found = look(commands, index="unix:///nowhere/redis.sock")
    assert "start the server" in found["redis"]["advice"]


def test_wrong_password(team_world, tmp_path_factory):
    with RedisServer(tmp_path_factory.mktemp("locked"), password="right") as server:
        commands = Commands(team_world)
        place = f"127.0.0.1:{server.port}/0"
        for index in (f"redis://:wrong@{place}", f"redis://{place}"):
            found = look(commands, index=index)
            assert found["redis"]["state"] == "problem"
            assert "ATDATA_REDIS_PASSWORD" in found["redis"]["advice"]
            assert "password_file" in found["redis"]["advice"]
            assert "wrong@" not in str(found)
        assert look(commands, index=f"redis://:right@{place}", code=0)


@pytest.fixture
def own_redis(tmp_path_factory):
    with RedisServer(tmp_path_factory.mktemp("own-redis")) as server:
        yield server


def test_maxmemory_policy(commands, own_redis):
    client = own_redis.client()
    client.config_set("maxmemory-policy", "allkeys-lru")
    for limit in ("0", "100mb"):
        client.config_set("maxmemory", limit)
        found = look(commands, index=own_redis.url)
        assert "allkeys-lru" in found["redis memory"]["said"]
        assert "maxmemory-policy noeviction" in found["redis memory"]["advice"]
    client.config_set("maxmemory-policy", "noeviction")
    assert look(commands, index=own_redis.url, code=0)["redis memory"]["state"] == "ok"


def test_other_things_about_redis(commands, own_redis):
    client = own_redis.client()
    client.config_set("appendonly", "no")
    found = look(commands, index=own_redis.url, code=0)
    assert found["redis persistence"]["state"] == "warning"
    assert "appendonly yes" in found["redis persistence"]["advice"]
    client.execute_command("ACL SETUSER poor on >pw ~* +@read +scan +select +ping")
    found = look(commands, index=f"redis://poor:pw@127.0.0.1:{own_redis.port}/0", code=0)
    assert found["redis tracking"]["state"] == "warning"
    assert "+client" in found["redis tracking"]["advice"]
    client.hset("LocalDatasetEntry:broken", "name", "x")
    found = look(commands, index=own_redis.url, code=0)
    assert "verify" in found["index records"]["advice"]
    client.execute_command("REPLICAOF 127.0.0.1 1")
    found = look(commands, index=own_redis.url)
    assert "name the master" in found["redis role"]["advice"]


def test_no_bucket(commands):
    name = f"nobody-{uuid.uuid4().hex[:8]}"
    found = look(commands, options=f"store=s3://{name}/data")
    assert "does not exist" in found["bucket"]["said"]
    assert f"make the bucket '{name}'" in found["bucket"]["advice"]


def test_no_server_and_wrong_keys(team_world, commands):
    found = look(commands, options="endpoint=http://127.0.0.1:1")
    assert "endpoint=URL" in found["store"]["advice"]
    wrong = team_world.directory / "wrong.env"
    team_world.minio.write_env_file(wrong, AWS_SECRET_ACCESS_KEY="wrong")
    found = look(commands, options=f"env_file={wrong}")
    assert "correct the keys" in found["bucket"]["advice"]
    missing = look(commands, options=f"env_file={team_world.directory}/nothing.env")
    assert "env_file" in missing["store"]["advice"]


def test_wrong_region(team_world, commands):
    """The server names its own: it works, and is worth a word. One that names none is a problem."""
    with StrictS3(region="eu-west-9") as s3:
        s3.make_bucket(team_world.bucket)
        for options in ("region=us-west-2", "region=us-east-1"):
            found = look(commands, options=f"endpoint={s3.url},{options}", code=0)
            assert "'eu-west-9'" in found["region"]["said"]
            assert "region=eu-west-9" in found["region"]["advice"]
        found = look(commands, options=f"endpoint={s3.url},region=eu-west-9", code=0)
        assert "region" not in found


@pytest.mark.parametrize("hours", [1, -1])
def test_the_clock_is_off(team_world, commands, hours):
    with StrictS3(clock_offset_s=3600 * hours) as s3:
        s3.make_bucket(team_world.bucket)
        found = look(commands, options=f"endpoint={s3.url}")
        assert found["store clock"]["state"] == "problem"
        assert re.search(r" (3599|360\d) s$", found["store clock"]["said"])
        assert "set-ntp" in found["store clock"]["advice"]
        # What the mount does about it works.
        assert found["bucket"]["state"] == "ok"


def test_a_store_that_writes_over_objects(team_world, commands):
    with StrictS3(ignore_if_none_match=True) as s3:
        s3.make_bucket(team_world.bucket)
        found = look(commands, options=f"endpoint={s3.url}", code=0)
        assert found["conditional writes"]["state"] == "warning"
        found = look(commands, options=f"endpoint={s3.url},ro", code=0)
        assert found["conditional writes"]["state"] == "note"


def namespaced(commands, script, **how):
    """The command in a mount namespace of its own, after `script`."""
    words = ["unshare", "-m", "sh", "-c", f'mount --make-rprivate / && {script} && exec "$0" "$@"']
    return checks(commands.json("doctor", prefix=words, **how))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a mount namespace")
def test_the_cache_disk_is_full(team_world, commands, tmp_path):
    tiny = tmp_path / "tiny"
    tiny.mkdir(mode=0o700)
    fill = f"mount -t tmpfs -o size=4m,mode=700 none {tiny}"
    fill += f" && (dd if=/dev/zero of={tiny}/full bs=64k 2>/dev/null || true)"
    for options in ("", ",cache_floor=0"):
        found = namespaced(commands, fill, options=f"cache_dir={tiny}/c{options}", code=1)
        assert found["cache"]["state"] == "problem", found["cache"]
        assert "cache_dir=DIR" in found["cache"]["advice"]
        assert "free some room" in found["cache"]["advice"]
    found = namespaced(commands, fill, options=f"state_dir={tiny}/s", code=1)
    assert "nothing can be published" in found["state directory"]["said"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a mount namespace")
def test_dev_fuse_is_missing(commands):
    hide = "mount -t tmpfs none /dev && mknod /dev/null c 1 3 && mknod /dev/urandom c 1 9"
    found = namespaced(commands, hide, code=1)
    assert found["fuse"]["state"] == "problem"
    assert "modprobe fuse" in found["fuse"]["advice"] and "--device" in found["fuse"]["advice"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to give rights up")
def test_who_may_not_mount(disk_world, tmp_path):
    commands = Commands(disk_world)
    drop = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
    commands.env["PATH"] = str(tmp_path)
    words = [*drop, *commands.words("doctor", "--json")]
    words[0] = "/usr/bin/setpriv"
    done = subprocess.run(words, env=commands.env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "install fuse3" in done.stdout, done


def test_the_cache_is_somebody_elses(commands, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    found = look(commands, options=f"cache_dir={cache}")
    assert "go-w" in found["cache"]["said"]
    file = tmp_path / "file"
    file.write_text("")
    assert look(commands, options=f"cache_dir={file}")["cache"]["state"] == "problem"
    assert look(commands, options="cache=none", code=0)["cache"]["state"] == "note"


def test_a_sqlite_index(disk_world, tmp_path):
    commands = Commands(disk_world)
    found = look(commands, index=f"sqlite:{tmp_path}/nothing.db")
    assert "does not exist" in found["index"]["said"]
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"no database" * 1000)
    assert look(commands, index=f"sqlite:{broken}")["index"]["state"] == "problem"


def test_what_is_wrong_with_the_command_line(commands):
    assert commands("doctor", "word", code=2).stderr
    assert commands("doctor", options="nonsense", code=2).stderr
