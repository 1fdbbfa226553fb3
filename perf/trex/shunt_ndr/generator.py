"""TRex as the generator: sends a profile by one port for a while, and counts what comes in at the other."""

import time


class GeneratorError(Exception):
    """TRex does not do what is asked of it."""


def connect(server, sync_port=4501, async_port=4500):
    """A client of the TRex server, connected."""
    import lbr_trex_client  # noqa: F401  (puts TRex's own packages on the path)
    from trex.stl.api import STLClient, TRexError

    client = STLClient(server=server, sync_port=sync_port, async_port=async_port)
    try:
        client.connect()
    except TRexError as error:
        raise GeneratorError(f"No TRex server in stateless mode (t-rex-64 -i) at {server}:{sync_port}: {error}") from error
    return client


def was_interrupted(error):
    """Whether somebody has pressed Ctrl-C.

    TRex's client makes an error of its own of that. It also makes one of a lost connection, for which its other thread presses
    Ctrl-C, so to say; that one says so.
    """
    while error is not None and "had been lost" not in str(error):
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def description(client):
    """What sends: TRex's version, its CPU, and on how many cores it sends."""
    version, system = client.get_server_version(), client.get_server_system_info()
    return {
        "version": version.get("version", "unknown"),
        "cpu": system.get("core_type", "unknown"),
        "cores": system.get("dp_core_count", "unknown"),
    }


def largest_frame(streams):
    """The length of the longest frame, without the Ethernet checksum, which no virtual device has."""
    return max(len(bytes(stream.pkt)) for stream in streams)


def trex_error():
    """The class of TRex's own errors."""
    import lbr_trex_client  # noqa: F401
    from trex.stl.api import TRexError

    return TRexError


def load(profile, tunables):
    """The streams of a profile."""
    import lbr_trex_client  # noqa: F401
    from trex.stl.api import STLProfile, TRexError

    try:
        loaded = STLProfile.load(profile, direction=0, port_id=0, tunables=tunables)
    except TRexError as error:
        raise GeneratorError(f"{profile}: {error}") from error
    if loaded is None:
        # It has printed its own help.
        raise GeneratorError(f"{profile}: no profile with {' '.join(tunables)}")
    return loaded.get_streams()


class Generator:
    """Two ports of a TRex server: one sends, one receives what Shunt forwards."""

    def __init__(self, client, streams, tx_port=0, rx_port=1, seconds=10.0, drain_s=1.0, sleep=time.sleep):
        self.client = client
        self.tx_port = tx_port
        self.rx_port = rx_port
        self.seconds = seconds
        self.drain_s = drain_s
        self.sleep = sleep
        ports = sorted({tx_port, rx_port})
        client.reset(ports=ports)
        # Backends have other MAC addresses than the receiving port, unless they were given its own.
        client.set_port_attr(ports=ports, promiscuous=True)
        client.add_streams(streams, ports=[tx_port])

    def send(self, pps, seconds=None):
        """Sends at that rate, as long as a trial, and waits until all is sent, and until what is on its way has arrived."""
        seconds = seconds or self.seconds
        self.client.start(ports=[self.tx_port], mult=f"{pps}pps", duration=seconds, force=True)
        self.client.wait_on_traffic(ports=[self.tx_port], timeout=seconds + 30)
        self.sleep(self.drain_s)

    def counted(self):
        """Packets sent by the one port and received by the other, since ever."""
        stats = self.client.get_stats(ports=sorted({self.tx_port, self.rx_port}))
        return stats[self.tx_port]["opackets"], stats[self.rx_port]["ipackets"]

    def warm_up(self, pps, seconds):
        """Sends for a while without counting: the switch learns, caches fill."""
        self.send(pps, seconds)
