//! DPDK's edge with real ports and pools: no device has two owners, what is closed can be opened again, and a pool's memory stays as
//! long as a buffer of it is out. EAL is one for a process, so this is one test with several parts.

#![allow(clippy::print_stdout, reason = "a test says that it is skipped")]

use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use dataplane::base::packet::{Burst, Packet, PacketIo};
use dataplane::dpdk::{
    Device, Driver, Eal, EalError, EalOptions, Layout, Mbuf, Memory, Mempool, MempoolError, Port, PortError,
    PortSettings, QueuePair, ROOM, RegisteredThread,
};

const MBUFS: u32 = 4_095;

fn vdev(index: usize, arguments: &str) -> PortSettings {
    PortSettings { index, device: Device::Vdev(arguments.into()), queues: 1, vlan_strip: false, mtu: None }
}

fn interface(index: usize, driver: Driver) -> PortSettings {
    let device = Device::Interface { name: "lo".into(), driver };
    PortSettings { index, device, queues: 1, vlan_strip: false, mtu: Some(1_500) }
}

fn receive(queue: &mut QueuePair) -> Burst<Mbuf> {
    let mut burst = Burst::new();
    queue.rx_burst(&mut burst);
    burst
}

/// The device as which a port that cannot be opened is open.
fn owner(opened: Result<(Port, Vec<QueuePair>), PortError>) -> String {
    match opened {
        Err(PortError::Open { owner, .. }) => owner,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_has_two_owners_and_nothing_is_freed_under_its_owner() {
    // A loopback interface of its own, which no other run of this test has. Without root, there are no packet sockets either.
    let own = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).is_ok();
    let options = EalOptions {
        main_lcore: 0,
        memory: Memory::Plain { mib: 128 },
        file_prefix: format!("shunt-dpdk-{}", std::process::id()),
        pci: Vec::new(),
        extra: vec!["--vdev".into(), "net_null7,size=60".into()],
    };
    let eal = Eal::init(&options).expect("DPDK needs neither hugepages nor devices for this");
    // Empty, and EAL does not remove it by itself.
    let _ = std::fs::remove_dir(eal.runtime_folder());
    assert!(matches!(Eal::init(&options), Err(EalError::Twice)));

    pools_need_some_buffers(&eal);
    a_pool_of_pages_has_what_it_says_and_goes(&eal);
    if own {
        ip(&["link", "add", "xdp0", "type", "veth", "peer", "name", "xdp1"]);
        for interface in ["lo", "xdp0", "xdp1"] {
            ip(&["link", "set", interface, "up"]);
        }
        an_af_xdp_port_leaves_nothing(&eal);
    } else {
        println!("skipped in part: network namespaces need root");
    }
    let pool = Mempool::create(&eal, "shared", MBUFS, ROOM, None).expect("there is memory");
    a_device_has_one_owner(&eal, &pool);
    if own {
        a_link_is_known_by_interrupts(&eal, &pool);
        af_xdp_takes_no_buffers_that_it_cannot_use(&eal, &pool);
    }
    a_failed_port_is_given_back(&eal, &pool);
    many_threads_open_a_device_and_one_has_it(&eal, &pool);
    a_linux_interface_has_one_owner(&eal, &pool);
    null_frames_fit(&eal, &pool);
    frames_wait_in_a_ring(&eal, &pool);
    a_thread_is_registered_once(&eal, &pool);
    assert_eq!(pool.in_use(), 0, "all buffers are back");
    buffers_outlive_their_pool(&eal);
    assert_eq!(
        Arc::strong_count(&eal),
        3,
        "this, the shared pool's, and the one that keeps the lost buffers' memory mapped"
    );
}

fn pools_need_some_buffers(eal: &Arc<Eal>) {
    assert!(matches!(Mempool::create(eal, "few", 383, ROOM, None), Err(MempoolError::TooFew { mbufs: 383 })));
    drop(Mempool::create(eal, "few", 384, ROOM, None).expect("as many as a cache may hold"));
    drop(Mempool::create(eal, "few", 384, ROOM, None).expect("the name is free again"));
}

fn a_pool_of_pages_has_what_it_says_and_goes(eal: &Arc<Eal>) {
    let holders = Arc::strong_count(eal);
    let pool = Mempool::create(eal, "pages", MBUFS, Layout::Pages, None).expect("there is memory");
    assert!((MBUFS - 1..=MBUFS).contains(&pool.size()), "one may lie where sockets cannot reach it: {}", pool.size());
    assert_eq!((pool.in_use(), pool.available()), (0, pool.size()));
    let frame = vec![5; usize::from(pool.room())];
    let all: Vec<Mbuf> = std::iter::from_fn(|| Mbuf::with_data(&pool, &frame)).collect();
    assert_eq!((all.len(), pool.in_use()), (pool.size() as usize, pool.size()), "each takes so large a frame");
    drop(all);
    drop(pool);
    assert_eq!(Arc::strong_count(eal), holders, "with its memory");
    drop(Mempool::create(eal, "pages", MBUFS, Layout::Pages, None).expect("the name is free again"));
}

/// One end of a veth pair in our own network namespace.
fn xdp_port() -> PortSettings {
    let device = Device::Interface { name: "xdp0".into(), driver: Driver::AfXdp };
    PortSettings { device, ..interface(0, Driver::AfXdp) }
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().expect("iproute2 is there");
    assert!(status.success(), "ip {arguments:?}");
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc is mounted").count()
}

/// The driver does not close its sockets.
fn an_af_xdp_port_leaves_nothing(eal: &Arc<Eal>) {
    let pool = Mempool::create(eal, "xdp", MBUFS, Layout::Pages, None).expect("there is memory");
    // Its driver takes no XDP program, and the loss of buffers is not risked.
    let error = Port::open(eal, &pool, &interface(0, Driver::AfXdp)).expect_err("the loopback interface is none");
    assert!(matches!(error, PortError::Xdp(_)), "{error:?}");
    assert_eq!(pool.in_use(), 0);
    let (settings, mut before) = (xdp_port(), 0);
    for round in 0..4 {
        match Port::open(eal, &pool, &settings) {
            Ok((port, queues)) => {
                assert!(pool.in_use() >= 2_048, "in the fill ring");
                drop((port, queues));
            }
            Err(error) if round == 0 => return println!("skipped in part: {error:?}"),
            Err(error) => panic!("{error:?}"),
        }
        assert_eq!(pool.in_use(), 0);
        if round == 0 {
            // The driver's library has opened some for itself.
            before = descriptors();
        }
        assert_eq!(descriptors(), before);
    }
    let taken: Vec<_> = std::iter::from_fn(|| Mbuf::with_data(&pool, &[5; 60])).take(2_100).collect();
    let error = Port::open(eal, &pool, &settings).expect_err("the driver begins with more than are left");
    assert!(matches!(error, PortError::Buffers { needed: 2_048, .. }), "{error}");
    drop(taken);
}

/// One that interrupts for its link is not asked for it any more: DPDK knows.
fn a_link_is_known_by_interrupts(eal: &Arc<Eal>, pool: &Arc<Mempool>) {
    let (port, _queues) = match Port::open(eal, pool, &vdev(0, "net_tap0,iface=shunt-tap0")) {
        Ok(opened) => opened,
        Err(error) => return println!("skipped in part: no TAP device ({error:?})"),
    };
    for state in ["up", "down", "up"] {
        ip(&["link", "set", "shunt-tap0", state]);
        let begin = Instant::now();
        while port.link().up != (state == "up") {
            assert!(begin.elapsed() < Duration::from_secs(10), "the device does not tell that it is {state}");
            thread::sleep(Duration::from_millis(5));
        }
    }
    assert!(!port.news().removed);
}

fn af_xdp_takes_no_buffers_that_it_cannot_use(eal: &Arc<Eal>, pool: &Arc<Mempool>) {
    for settings in [xdp_port(), vdev(0, "net_af_xdp7,iface=xdp0")] {
        let error = Port::open(eal, pool, &settings).expect_err("between the buffers of this pool are gaps");
        let PortError::Umem { outside, buffers: MBUFS, .. } = error else { panic!("{error}") };
        assert!((MBUFS / 5 * 2..MBUFS / 2).contains(&outside), "{error}");
    }
}

fn a_device_has_one_owner(eal: &Arc<Eal>, pool: &Arc<Mempool>) {
    // The last one is probed by EAL itself, as PCI devices on its list are.
    for (index, arguments) in ["net_null0,size=60", "net_null7"].into_iter().enumerate() {
        let settings = vdev(index, arguments);
        let (port, mut queues) = Port::open(eal, pool, &settings).expect("it is free");
        let same_name = vdev(index + 10, arguments.split(',').next().expect("a name"));
        for again in [&settings, &same_name] {
            let error = Port::open(eal, pool, again).expect_err("it has an owner");
            assert!(error.to_string().contains("two [[ports]] name one device"), "{error}");
            assert!(matches!(error, PortError::Open { owner, .. } if owner == arguments));
        }
        assert_eq!(receive(&mut queues[0]).len(), 32, "the first owner's port is still started");
        drop(port);
        assert_eq!(owner(Port::open(eal, pool, &settings)), arguments, "a queue pair holds the port");
        drop(queues);
        let (_port, mut queues) = Port::open(eal, pool, &settings).expect("it is free again");
        assert_eq!(receive(&mut queues[0]).len(), 32, "and works again");
    }
}

fn a_failed_port_is_given_back(eal: &Arc<Eal>, pool: &Arc<Mempool>) {
    let good = vdev(0, "net_null1,size=60");
    let too_many = PortSettings { queues: 60_000, ..good.clone() };
    let strips = PortSettings { vlan_strip: true, ..good.clone() };
    for wrong in [too_many, strips] {
        let error = Port::open(eal, pool, &wrong).expect_err("the null device cannot do this");
        assert!(matches!(error, PortError::TooFewQueues { .. } | PortError::NoVlanStrip { .. }), "{error}");
        drop(Port::open(eal, pool, &good).expect("nobody has it"));
    }
}

fn many_threads_open_a_device_and_one_has_it(eal: &Arc<Eal>, pool: &Arc<Mempool>) {
    for _ in 0..20 {
        let opened: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| Port::open(eal, pool, &vdev(0, "net_null2,size=60")))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let (owners, others): (Vec<_>, Vec<_>) = opened.into_iter().partition(Result::is_ok);
        assert_eq!(owners.len(), 1, "{others:?}");
        others.into_iter().for_each(|other| assert_eq!(owner(other), "net_null2,size=60"));
    }
}

fn a_linux_interface_has_one_owner(eal: &Arc<Eal>, pool: &Arc<Mempool>) {
    let first = match Port::open(eal, pool, &interface(0, Driver::AfPacket)) {
        Ok(first) => first,
        Err(error) => return println!("skipped: AF_PACKET on lo needs root ({error})"),
    };
    for again in [
        interface(1, Driver::AfPacket),
        interface(2, Driver::Auto),
        vdev(3, "net_af_packet9,iface=lo"),
        interface(0, Driver::AfPacket),
    ] {
        assert_eq!(owner(Port::open(eal, pool, &again)), "iface:lo", "{again:?}");
    }
    drop(first);
    drop(Port::open(eal, pool, &interface(1, Driver::AfPacket)).expect("the interface is free again"));
}

fn null_frames_fit(eal: &Arc<Eal>, pool: &Arc<Mempool>) {
    let error = Port::open(eal, pool, &vdev(0, "net_null3,size=2049")).expect_err("a buffer has 2048 bytes");
    assert!(matches!(error, PortError::NullFrames { room: ROOM, .. }), "{error}");
    let (_port, mut queues) = Port::open(eal, pool, &vdev(0, "net_null3,size=2048")).expect("these fit");
    assert!(receive(&mut queues[0]).iter().all(|frame| frame.data().len() == 2_048));
}

/// What is sent to DPDK's ring device is received from it.
fn frames_wait_in_a_ring(eal: &Arc<Eal>, pool: &Arc<Mempool>) {
    let (_port, mut queues) = Port::open(eal, pool, &vdev(0, "net_ring0")).expect("a ring");
    let mut burst = Burst::new();
    (0..5_u8).for_each(|number| burst.push(Mbuf::with_data(pool, &[number; 60]).expect("the pool is full")));
    queues[0].tx_burst(&mut burst);
    assert_eq!((burst.len(), pool.in_use()), (0, 5));
    let received = receive(&mut queues[0]);
    assert!(received.iter().zip(0..).all(|(frame, number)| frame.data() == [number; 60]));
    assert_eq!(received.len(), 5);
}

fn a_thread_is_registered_once(eal: &Arc<Eal>, pool: &Arc<Mempool>) {
    assert!(RegisteredThread::register(eal).is_err(), "it has initialized EAL");
    let other = || {
        let registered = RegisteredThread::register(eal).expect("there are lcore ids");
        assert!(RegisteredThread::register(eal).is_err());
        drop(Mbuf::with_data(pool, &[1; 60]));
        drop(registered);
        drop(RegisteredThread::register(eal).expect("it is not any more"));
    };
    thread::scope(|scope| scope.spawn(other).join()).expect("no panic");
}

fn buffers_outlive_their_pool(eal: &Arc<Eal>) {
    let holders = Arc::strong_count(eal);
    // A registered thread's cache is full of buffers when it ends, and another thread has one in its hands.
    let pool = Mempool::create(eal, "outlived", MBUFS, ROOM, None).expect("there is memory");
    let (to_other, from_here) = channel::<Mbuf>();
    let (answers, answer) = channel();
    let other = thread::spawn({
        let (eal, pool) = (eal.clone(), pool.clone());
        move || {
            let registered = RegisteredThread::register(&eal).expect("there are lcore ids");
            let many: Vec<Mbuf> =
                (0..300).map(|_| Mbuf::with_data(&pool, &[2; 60]).expect("the pool is full")).collect();
            drop((many, pool, registered, eal));
            let kept = from_here.recv().expect("a buffer");
            answers.send(()).expect("the test waits");
            from_here.recv().expect_err("the pool is gone");
            assert_eq!(kept.data(), [3; 60]);
        }
    });
    to_other.send(Mbuf::with_data(&pool, &[3; 60]).expect("the pool is full")).expect("the thread waits");
    answer.recv().expect("it has the buffer");
    drop(pool);
    drop(to_other);
    other.join().expect("the buffer is whole");
    assert_eq!(Arc::strong_count(eal), holders + 1, "with a buffer out, the memory stays, and what maps it");

    // With all buffers back, those of a thread that has ended among them, it goes.
    let pool = Mempool::create(eal, "returned", MBUFS, ROOM, None).expect("there is memory");
    thread::scope(|scope| {
        scope.spawn(|| {
            let _registered = RegisteredThread::register(eal).expect("there are lcore ids");
            drop((0..300).map(|_| Mbuf::with_data(&pool, &[4; 60])).collect::<Vec<_>>());
        });
    });
    drop(pool);
    assert_eq!(Arc::strong_count(eal), holders + 1, "this one is freed");
    drop(Mempool::create(eal, "returned", MBUFS, ROOM, None).expect("its name is free, and its memory"));
    Mempool::create(eal, "outlived", MBUFS, ROOM, None).expect_err("the other one is still there");
}
