"""TRex's field engine, as its server runs it on one core: from STLProfile.to_json() to the frames on the wire.

Written from the instructions' descriptions in TRex's client and from what its server does (src/stx/stl/trex_stl_stream_vm.h of
trex-core). An instruction, or an option of one, that is not known here is an error, never left out.
"""

import base64
import heapq
import itertools
import struct

WORDS = {1: "B", 2: "H", 4: "I", 8: "Q"}


class UnknownInstruction(Exception):
    """The program has something that this interpreter does not know."""


class Random:
    """TRex's random numbers: a linear congruential generator with 15 bits a turn, put together to more."""

    def __init__(self, seed):
        self.state = seed & 0xFFFFFFFF

    def bits15(self):
        self.state = (214013 * self.state + 2531011) & 0xFFFFFFFF
        return self.state >> 16 & 0x7FFF

    def of_size(self, size):
        if size <= 2:
            return self.bits15()
        high, low = (self.bits15(), self.bits15()) if size == 4 else (self.of_size(4), self.of_size(4))
        return (high << 8 * (size // 2)) + low


class Context:
    """What instructions work on: the variables, the frame, the random numbers."""

    def __init__(self, seed):
        self.values = {}
        self.sizes = {}
        self.random = Random(seed)
        self.frame = bytearray()

    def word(self, variable):
        """A variable, and its size."""
        return self.values[variable], self.sizes[variable]


def take(fields, *names):
    """The named fields of an instruction. All others must be without effect."""
    harmless = {"type": None, "split_to_cores": None, "next_var": {None}}
    for name, value in fields.items():
        if name not in names and (name not in harmless or (harmless[name] is not None and value not in harmless[name])):
            raise UnknownInstruction(f"{fields['type']}: {name} = {value!r}")
    return [fields[name] for name in names]


def flow_var(fields, context):
    """A variable that counts up between two values, or is random between them; or the same with a list."""
    if "value_list" in fields:
        name, size, operation, values, step = take(fields, "name", "size", "op", "value_list", "step")
        first, last, initial = 0, len(values) - 1, 0
    else:
        names = ("name", "size", "op", "min_value", "max_value", "init_value", "step")
        name, size, operation, first, last, initial, step = take(fields, *names)
        values = None
    if operation not in ("inc", "random"):
        raise UnknownInstruction(f"flow_var: op = {operation}")
    context.sizes[name] = size
    count = last - first + 1
    # The variable moves before it is written: it starts one step behind.
    position = (initial - first - step) % count

    def run():
        nonlocal position
        if operation == "random":
            # A list's index is always 15 bits.
            position = context.random.of_size(2 if values else size) % count
        else:
            position = (position + step) % count
        context.values[name] = values[position] if values else first + position

    return run


def tuple_flow_var(fields, context):
    """An address that counts up, and a port that does when the address has gone round; anew after so many flows."""
    names = ("name", "ip_min", "ip_max", "port_min", "port_max", "limit_flows", "flags")
    name, ip_min, ip_max, port_min, port_max, limit, flags = take(fields, *names)
    if flags != 0:
        raise UnknownInstruction(f"tuple_flow_var: flags = {flags}")
    context.sizes |= {f"{name}.ip": 4, f"{name}.port": 2}
    clients, ports = ip_max - ip_min + 1, port_max - port_min + 1
    flow = -1

    def run():
        nonlocal flow
        flow += 1
        if limit and flow == limit:
            flow = 0
        context.values[f"{name}.ip"] = ip_min + flow % clients
        context.values[f"{name}.port"] = port_min + flow // clients % ports

    return run


def write_word(frame, offset, size, value, big_endian):
    """Puts a number into the frame, its low bytes."""
    struct.pack_into((">" if big_endian else "<") + WORDS[size], frame, offset, value % (1 << 8 * size))


def write_flow_var(fields, context):
    """Writes a variable into the frame, with its own size."""
    name, offset, add, big_endian = take(fields, "name", "pkt_offset", "add_value", "is_big_endian")

    def run():
        value, size = context.word(name)
        write_word(context.frame, offset, size, value + add, big_endian)

    return run


def internet_checksum(data):
    """RFC 1071, over an even number of bytes."""
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def fix_header(frame, offset):
    """Puts the checksum into the IPv4 header at the offset."""
    length = (frame[offset] & 0xF) * 4
    frame[offset + 10 : offset + 12] = b"\x00\x00"
    struct.pack_into(">H", frame, offset + 10, internet_checksum(bytes(frame[offset : offset + length])))


def fix_checksum_ipv4(fields, context):
    """The IPv4 header's checksum, by TRex."""
    (offset,) = take(fields, "pkt_offset")
    return lambda: fix_header(context.frame, offset)


# l4_type: where the checksum is in the L4 header, and the protocol's number.
L4_TYPES = {11: (6, 17), 13: (16, 6)}


def fix_checksum_hw(fields, context):
    """The IPv4 header's checksum and that of TCP or UDP, by the NIC."""
    l2_length, l3_length, l4_type = take(fields, "l2_len", "l3_len", "l4_type")
    if l4_type not in L4_TYPES:
        raise UnknownInstruction(f"fix_checksum_hw: l4_type = {l4_type}")
    place, protocol = L4_TYPES[l4_type]

    def run():
        frame, start = context.frame, l2_length + l3_length
        if frame[l2_length] >> 4 == 4:
            fix_header(frame, l2_length)
            end = l2_length + struct.unpack_from(">H", frame, l2_length + 2)[0]
            addresses = frame[l2_length + 12 : l2_length + 20]
        else:
            end = l2_length + 40 + struct.unpack_from(">H", frame, l2_length + 4)[0]
            addresses = frame[l2_length + 8 : l2_length + 40]
        frame[start + place : start + place + 2] = b"\x00\x00"
        pseudo = bytes(addresses) + struct.pack(">HH", protocol, end - start)
        payload = bytes(frame[start:end])
        checksum = internet_checksum(pseudo + payload + bytes(len(payload) % 2))
        # 0 would say that there is none (RFC 768).
        struct.pack_into(">H", frame, start + place, checksum or (0xFFFF if protocol == 17 else 0))

    return run


INSTRUCTIONS = {
    function.__name__: function for function in (flow_var, tuple_flow_var, write_flow_var, fix_checksum_ipv4, fix_checksum_hw)
}


def stream_frames(stream):
    """The frames of a stream of STLProfile.to_json(), without end."""
    unknown = set(stream["vm"]) - {"instructions"}
    if unknown:
        raise UnknownInstruction(f"vm: {sorted(unknown)}")
    template = base64.b64decode(stream["packet"]["binary"])
    context = Context(stream.get("random_seed", 1))
    program = []
    for fields in stream["vm"]["instructions"]:
        if fields["type"] not in INSTRUCTIONS:
            raise UnknownInstruction(fields["type"])
        program.append(INSTRUCTIONS[fields["type"]](fields, context))
    while True:
        context.frame = bytearray(template)
        for run in program:
            run()
        yield bytes(context.frame)


def timed_frames(stream):
    """The same with the time at which each is sent, in seconds."""
    mode, rate = stream["mode"]["type"], stream["mode"]["rate"]
    if (mode, rate["type"]) != ("continuous", "pps") or not (stream["enabled"] and stream["self_start"]):
        raise UnknownInstruction(f"stream: {mode}, rate in {rate['type']}")
    for number, frame in enumerate(stream_frames(stream)):
        yield stream["isg"] * 1e-6 + number / rate["value"], frame


def profile_frames(streams, count, pps):
    """The first frames of all streams of a profile, in the order in which they leave at so many a second in all."""
    whole = sum(stream["mode"]["rate"]["value"] for stream in streams)
    scaled = []
    for stream in streams:
        share = stream["mode"]["rate"]["value"] / whole
        rate = dict(stream["mode"]["rate"], value=share * pps)
        scaled.append(timed_frames(dict(stream, mode=dict(stream["mode"], rate=rate))))
    merged = heapq.merge(*scaled, key=lambda timed: timed[0])
    return [frame for _, frame in itertools.islice(merged, count)]
