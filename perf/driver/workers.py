"""Two workers of one process, beside two processes of one worker, beside one worker alone."""

from memory import Memory
from shunt import Shuntd, configuration, measure

CORES = (0, 1)


def run_pair(binary, folder, case, pcap, hugepages, seconds, warm_up):
    """One run of each. Returns, by core, what each kind of worker did there."""
    load = case.load
    memory = Memory.for_frames(2 * load.preloaded(), hugepages)

    def daemon(name, workers):
        device = f"net_pcap0,{','.join([f'rx_pcap={pcap}'] * len(workers))},infinite_rx=1"
        return Shuntd(binary, folder, name, configuration(load, device, memory, folder / f"{name}.sock", workers))

    runs = {core: {} for core in CORES}
    for core in CORES:
        with daemon("alone", [core]) as alone:
            (runs[core]["alone"],) = measure([alone], 1, load.half_stray, seconds, warm_up)
    with daemon("first", [CORES[0]]) as first, daemon("second", [CORES[1]]) as second:
        done = measure([first, second], 1, load.half_stray, seconds, warm_up)
    for core, run in zip(CORES, done):
        runs[core]["processes"] = run
    with daemon("both", CORES) as both:
        done = measure([both], len(CORES), load.half_stray, seconds, warm_up)
    for core, run in zip(CORES, done):
        runs[core]["workers"] = run
    return runs
