"""A network of several commands, as it is now: its bridge, who is on it, and the names of all.

Runs in the parent, and in `pyspaces network`. The kernel has the truth: an address is taken as long
as there is an interface on the bridge whose alias has it, which says who that is, too. The
interface goes with the network namespace of its command, however that ends, so no address is ever
lost. Nobody has an address before the alias says so.

Each command has a file of its own with the names of all: root of its user namespace can write to
what is mounted there, and so to no more than what it sees itself. It may also do to its file what
the owner of a file can, such as take a lease (fcntl(2)) or change the mode: no launcher waits for
it, or fails because of it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from pyspaces.errors import SpaceError
from pyspaces.features.existing import lookup, runtime
from pyspaces.features.network import subnets
from pyspaces.kernel import nsfs
from pyspaces.kernel.libc import KernelError, Naming
from pyspaces.launch.network import entry
from pyspaces.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyspaces.features.network.subnets import Subnet
    from pyspaces.kernel.rtnetlink import Link

BRIDGE = "bridge"
# What the command's end is called.
INSIDE = "eth0"
_PREFIX = "on-"
# Files beside those of registered names, in which there is no colon.
_HOSTS, _LOCK = "hosts:", "lock:"
_HEAD = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
_OPEN = os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL
# How long another launch may keep the network locked, in seconds; it takes milliseconds.
_PATIENCE = 60.0
_PAUSE = 0.005


class Member(Record):
    """A command on a network.

    addresses: one of each subnet. pid: of its first process, as its launcher knows it. token: the
    end of the name of its file.
    """

    addresses: tuple[str, ...]
    hostname: str = ""
    pid: int = 0
    token: str = ""

    def __str__(self) -> str:
        name = f"{self.hostname}, " if self.hostname else ""
        return f"{' and '.join(self.addresses)} ({name}process {self.pid})"


class SharedNetwork:
    """A network that is open. Raises SpaceError and KernelError, as all of its methods do."""

    def __init__(self, name: str, *, what: str = "network") -> None:
        """Open the network `name`. what: what the name was given for."""
        holder = lookup.ready_holder_of(name, what)
        self.name, self.subnets = name, _subnets_of(holder.subnets, name, what)
        self.pid = holder.pid
        # Of this network, and not of another one that gets the name after it.
        self._prefix = f"{_HOSTS}{name}:{holder.pid}.{holder.start}:"
        self.holder, self.interfaces = entry.open_holder(holder)
        # The directory, the lock, and the file of names of this command.
        self._files: list[int] = []
        try:
            self._files.append(_directory(name))
            self._files.append(self._open_lock())
        except BaseException:
            self.close()
            raise

    def _open_lock(self) -> int:
        try:
            return _open(_LOCK + self.name, self._files[0], os.O_RDWR)
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
            raise self._removed() from None

    def _removed(self) -> SpaceError:
        return SpaceError(f"network: {self.name}: has been removed")

    def close(self) -> None:
        """Close it; more than once is fine."""
        self.interfaces.close()
        files, self._files = [*self._files, self.holder], []
        self.holder = -1
        for descriptor in files:
            if descriptor >= 0:
                os.close(descriptor)

    def create_names(self) -> tuple[str, os.stat_result, str]:
        """Create the file of names of a new command; return its path, its status and its token.

        While it is locked: others remove a file that has no lock and no command.
        """
        token = os.urandom(8).hex()
        name = self._prefix + token
        self._files.append(_open(name, self._files[0], _NEW, 0o644))
        os.fchmod(self._files[2], 0o644)  # whatever the umask: it is read by any user inside
        # As long as this launcher lives, others do not take it for one that was left behind.
        fcntl.flock(self._files[2], fcntl.LOCK_SH)
        _write(self._files[2], _HEAD)
        path = os.path.join(runtime.directory(), name)
        return path, os.fstat(self._files[2]), token

    def __enter__(self) -> None:
        """Lock the network: one launch after the other changes it."""
        limit = time.monotonic() + _PATIENCE
        while not _is_locked(self._files[1]):
            if time.monotonic() > limit:
                raise SpaceError(f"network: {self.name}: another process keeps it locked")
            time.sleep(_PAUSE)

    def __exit__(self, *_: object) -> None:
        """Unlock it."""
        fcntl.flock(self._files[1], fcntl.LOCK_UN)

    def check_alive(self) -> None:
        """Raise SpaceError if it was removed meanwhile. To be called while it is locked."""
        if nsfs.has_ended(self.holder) or not os.fstat(self._files[1]).st_nlink:
            raise self._removed()

    def members(self) -> list[Member]:
        """Return the commands on it, in the order in which they came."""
        found = map(_member_of, self.interfaces.links())
        return [member for member in found if member]

    def add(
        self,
        network: int,
        pid: int,
        *,
        wanted: Sequence[str],
        hostname: str,
        given_as: str,
        token: str,
    ) -> Member:
        """Connect a network namespace, and return what it has become. While it is locked.

        network: a descriptor of the namespace. pid: of the command. wanted: its addresses; of each
        subnet in which it wants none, it gets the next free one. hostname: empty for none.
        given_as: the option that it comes from. token: that of its file of names.
        """
        self.check_alive()
        members = self.members()
        others = [one for one in members if hostname and _same(one, hostname)]
        # A registered name is free before the kernel has removed the interface of a killed command.
        if given_as == "name":
            others = [one for one in others if os.path.exists(f"/proc/{one.pid}")]
        if others:
            raise SpaceError(f"{given_as}: {hostname}: is in use on {self.name}: {others[0]}")
        addresses = self._addresses(wanted, members)
        member = Member(addresses=addresses, hostname=hostname, pid=pid, token=token)
        name = f"{_PREFIX}{token[:12]}"
        self.interfaces.create_veth(
            name,
            master=self.interfaces.index(BRIDGE),
            network=network,
            peer=INSIDE,
            peer_mac=subnets.hardware_address(addresses[0]),
        )
        self.interfaces.set_alias(name, f"{','.join(addresses)} {pid} {token} {hostname}")
        return member

    def disconnect(self, member: Member) -> None:
        """Take a command that has ended off the network. While it is locked.

        Its addresses are free then. The kernel removes the interface with the namespace, in which
        another process may still run.
        """
        if link := self._link_of(member):
            with _IfThere():
                self.interfaces.disconnect(link.name, f"gone{link.index}")

    def remove(self, member: Member) -> None:
        """Remove the interfaces of a command. While it is locked."""
        if link := self._link_of(member):
            with _IfThere():
                self.interfaces.remove(link.name)

    def _link_of(self, member: Member) -> Link | None:
        links = self.interfaces.links()
        return next((link for link in links if _member_of(link) == member), None)

    def write_names(self) -> None:
        """Bring the files of names up to date. While it is locked.

        They are mounted in the commands, so each has to stay the same file. Who came later is
        further down: what a resolver reads at this moment begins as before. Removes what killed
        launchers have left.
        """
        members = self.members()
        rows = [f"{at} {one.hostname}\n" for one in members if one.hostname for at in one.addresses]
        used = {self._prefix + member.token for member in members}
        for name in _files_of_names(self._prefix, self._files[0]):
            try:
                self._write_names(name, "".join((_HEAD, *rows)), is_used=name in used)
            except OSError:  # its command has seen to that
                continue

    def _write_names(self, name: str, text: str, *, is_used: bool) -> None:
        file = os.open(name, os.O_WRONLY | os.O_NONBLOCK | _OPEN, dir_fd=self._files[0])
        try:
            if not is_used and _is_locked(file):
                os.unlink(name, dir_fd=self._files[0])
            else:
                _write(file, text)
        finally:
            os.close(file)

    def remove_names(self, token: str) -> None:
        """Remove the file of names of a command that has ended."""
        _unlink(self._prefix + token, self._files[0])

    def _addresses(self, wanted: Iterable[str], members: list[Member]) -> tuple[str, ...]:
        taken = {address: member for member in members for address in member.addresses}
        chosen: dict[Subnet, str] = {}
        for text in wanted:
            number, size = subnets.address_of(text)
            subnet = next((one for one in self.subnets if one.size == size), None)
            if subnet is None:
                raise SpaceError(f"ip: {text}: is not in the subnet {self.subnets[0]}")
            if fault := subnet.fault(number):
                raise SpaceError(f"ip: {text}: {fault}")
            chosen[subnet] = subnet.text(number)
            if chosen[subnet] in taken:
                raise SpaceError(f"ip: {text}: is in use: {taken[chosen[subnet]]}")
        return tuple(chosen.get(one) or self._next(one, taken) for one in self.subnets)

    def _next(self, subnet: Subnet, taken: dict[str, Member]) -> str:
        for number in subnet.for_commands():
            if (text := subnet.text(number)) not in taken:
                return text
        raise SpaceError(f"network: {self.name}: all addresses of {subnet} are in use")


class _IfThere:
    """Context that ignores that an interface has gone meanwhile, with its namespace."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        return isinstance(error, KernelError) and error.errno == errno.ENODEV


def create_files(name: str) -> None:
    """Create the files of a network whose name this process has. Raises SpaceError."""
    remove_files(name)
    directory = _directory(name)
    try:
        os.close(_open(_LOCK + name, directory, _NEW, 0o600))
    finally:
        os.close(directory)


def remove_files(name: str) -> None:
    """Remove the files of a network. Missing ones are no error."""
    directory = _directory(name)
    try:
        for file in (_LOCK + name, *_files_of_names(f"{_HOSTS}{name}:", directory)):
            _unlink(file, directory)
    finally:
        os.close(directory)


def _unlink(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except OSError:
        return


def _files_of_names(prefix: str, directory: int) -> list[str]:
    return [name for name in os.listdir(directory) if name.startswith(prefix)]


def _subnets_of(texts: Sequence[str], name: str, what: str) -> tuple[Subnet, ...]:
    try:
        found = subnets.subnets_of(texts)
    except ValueError:
        found = ()
    if not found:
        raise SpaceError(f"{what}: {name}: is the name of a command or hold, and not of a network")
    return found


def _directory(name: str) -> int:
    try:
        return runtime.open_directory(runtime.directory())
    except OSError as error:
        raise SpaceError(f"network: {name}: {runtime.directory()}: {error.strerror}") from None


def _open(name: str, directory: int, flags: int, mode: int = 0) -> int:
    with Naming("open", os.path.join(runtime.directory(), name)):
        return os.open(name, flags | _OPEN, mode, dir_fd=directory)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(descriptor: int, text: str) -> None:
    """Replace the content of a file by a single write: nobody reads an empty one."""
    data = text.encode()
    with Naming("write"):
        os.pwrite(descriptor, data, 0)
        os.ftruncate(descriptor, len(data))


def _member_of(link: Link) -> Member | None:
    if not link.master or not link.name.startswith(_PREFIX):
        return None
    addresses, pid, token, hostname = [*link.alias.split(" "), "", "", "", ""][:4]
    if not addresses:  # its launcher has not come that far; or somebody has removed the alias
        return None
    known = int(pid) if pid.isdecimal() else 0
    found = tuple(addresses.split(","))
    return Member(addresses=found, hostname=hostname, pid=known, token=token)


def _same(member: Member, hostname: str) -> bool:
    return member.hostname.lower() == hostname.lower()
