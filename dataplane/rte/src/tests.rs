//! Packets through real queues of software devices, without huge pages. DPDK starts once in a process, so all tests share it;
//! each has pools and ports of its own, and counts that every buffer came back.

use std::sync::OnceLock;
use std::thread;

use crate::vdev::{self, Vdev};
use crate::{
    BURST, Burst, Eal, EalConfig, Error, HEADROOM, Mbuf, Mempool, Port, PortConfig, RxChecksum, RxQueue,
    SocketId, StartedPort, TxQueue, spsc_ring,
};

fn eal() -> &'static Eal {
    static EAL: OnceLock<Eal> = OnceLock::new();
    EAL.get_or_init(|| {
        let config = EalConfig { memory_mb: 256, ..EalConfig::default() };
        Eal::init(config).expect("dpdk starts without huge pages")
    })
}

fn pool(name: &str) -> Mempool {
    Mempool::new(eal(), name, 4095, 64, 2048 + HEADROOM, SocketId::ANY).expect("memory for a pool")
}

fn started(vdev: &Vdev, pool: &Mempool) -> (StartedPort, RxQueue, TxQueue) {
    let index = eal().create_vdev(&vdev.name, &vdev.args).expect("a software device");
    let config = PortConfig { rx_desc: 256, tx_desc: 256, ..PortConfig::default() };
    let (port, mut rx, mut tx) = Port::configure(eal(), index, config, pool).unwrap().start().unwrap();
    assert_eq!((rx.len(), tx.len()), (1, 1));
    (port, rx.remove(0), tx.remove(0))
}

/// A packet that says its number.
fn numbered(pool: &Mempool, number: u32) -> Mbuf {
    let mut mbuf = pool.alloc().expect("a buffer");
    mbuf.extend(60).expect("room").fill(0);
    mbuf.data_mut()[..4].copy_from_slice(&number.to_be_bytes());
    mbuf
}

fn number(mbuf: &Mbuf) -> u32 {
    u32::from_be_bytes(mbuf.data()[..4].try_into().unwrap())
}

fn numbers(burst: &Burst) -> Vec<u32> {
    burst.iter().map(number).collect()
}

#[test]
fn a_second_start_is_refused() {
    eal();
    assert!(matches!(Eal::init(EalConfig::default()), Err(Error::AlreadyInitialised)));
}

#[test]
fn start_leaves_the_callers_affinity_alone() {
    let before = core_affinity::get_core_ids();
    eal();
    assert_eq!(core_affinity::get_core_ids(), before);
    assert!(eal().tsc_hz() > 100_000_000);
}

#[test]
fn buffers_go_back_to_their_pool() {
    let pool = pool("t_pool");
    let _registered = eal().register_thread().unwrap();
    assert_eq!(pool.available(), pool.size());
    let one = pool.alloc().unwrap();
    let mut burst = Burst::new();
    assert!(pool.alloc_bulk(&mut burst, BURST));
    assert_eq!(pool.in_use(), 33);
    drop(one);
    drop(burst.pop());
    drop(burst.swap_remove(3));
    assert!(burst.swap_remove(30).is_none());
    assert_eq!(pool.in_use(), 30);
    let mut drain = burst.drain();
    assert_eq!(drain.len(), 30);
    drop(drain.next());
    drop(drain);
    assert!(burst.is_empty());
    assert_eq!(pool.in_use(), 0);
    assert!(pool.alloc_bulk(&mut burst, BURST));
    drop(burst);
    assert_eq!(pool.available(), pool.size());
}

#[test]
fn an_empty_pool_says_so() {
    let pool = Mempool::new(eal(), "t_empty", 63, 0, 256 + HEADROOM, SocketId::ANY).unwrap();
    let mut burst = Burst::new();
    assert!(pool.alloc_bulk(&mut burst, 63));
    assert!(pool.alloc().is_none());
    assert!(!burst.is_full());
    let mut more = Burst::new();
    assert!(!pool.alloc_bulk(&mut more, 1));
    burst.clear();
    assert!(pool.alloc_bulk(&mut more, 1));
}

#[test]
fn pools_refused_say_why() {
    // So many that even the list of free ones does not fit: fails before it takes what other tests need.
    let too_much = Mempool::new(eal(), "t_huge", 200_000_000, 0, 2048, SocketId::ANY);
    assert!(matches!(too_much, Err(Error::NoMemory { .. })), "{too_much:?}");
    let cache = Mempool::new(eal(), "t_cache", 4095, 513, 2048, SocketId::ANY);
    assert!(matches!(cache, Err(Error::TooLarge { limit: 512, .. })));
    let _first = pool("t_twice");
    let twice = Mempool::new(eal(), "t_twice", 63, 0, 2048, SocketId::ANY).unwrap_err();
    assert!(twice.to_string().contains("file exists"), "{twice}");
}

#[test]
fn a_packet_moves_within_its_buffer_and_not_beyond() {
    let pool = pool("t_range");
    let mut mbuf = pool.alloc().unwrap();
    assert!(mbuf.is_empty() && !mbuf.is_multi_segment());
    assert_eq!(mbuf.rss_hash(), None);
    assert_eq!((mbuf.ip_checksum(), mbuf.l4_checksum()), (RxChecksum::Unknown, RxChecksum::Unknown));
    assert_eq!(mbuf.vlan_stripped(), None);
    mbuf.extend(100).unwrap().fill(7);
    let (buffer, offset, length) = mbuf.buffer_mut();
    assert_eq!((buffer.len(), offset, length), (2048 + usize::from(HEADROOM), HEADROOM, 100));
    buffer[124..128].fill(9);
    assert!(mbuf.set_range(124, 104));
    assert_eq!((mbuf.len(), &mbuf.data()[..6]), (104, &[9, 9, 9, 9, 7, 7][..]));
    assert!(!mbuf.set_range(2000, 177) && mbuf.set_range(2000, 176));
    assert!(!mbuf.set_range(u16::MAX, u16::MAX));
    assert!(mbuf.extend(1).is_none());
    assert_eq!(mbuf.len(), 176);
    mbuf.set_tag(0xdead_beef);
    mbuf.set_port(9);
    assert_eq!((mbuf.tag(), mbuf.port()), (0xdead_beef, 9));
    mbuf.prefetch();
}

#[test]
fn what_is_sent_on_a_loop_comes_back_in_order() {
    let pool = pool("t_loop");
    let (port, mut rx, mut tx) = started(&vdev::ring("loop").unwrap(), &pool);
    let before = pool.in_use();
    let mut burst = Burst::new();
    for number in 0..32 {
        burst.push(numbered(&pool, number)).unwrap();
    }
    assert_eq!((tx.transmit(&mut burst), burst.len()), (32, 0));
    assert_eq!((rx.receive(&mut burst), numbers(&burst)), (32, (0..32).collect()));
    assert_eq!(rx.receive(&mut burst), 0);
    assert_eq!(burst[0].rss_hash(), None);
    burst.clear();
    assert_eq!(pool.in_use(), before);
    assert_eq!((port.driver_name(), port.link_up(), port.rss_active()), ("net_ring", true, false));
    assert_eq!(port.stats().unwrap().ipackets, 32);
    drop((port, rx, tx));
    assert_eq!(pool.available(), pool.size());
}

#[test]
fn a_partial_transmit_leaves_the_rest_with_the_caller() {
    let pool = pool("t_partial");
    let (_port, mut rx, mut tx) = started(&vdev::ring("full").unwrap(), &pool);
    let mut burst = Burst::new();
    let mut sent = 0;
    loop {
        while burst.remaining() > 0 {
            let next = sent + burst.len() as u32;
            burst.push(numbered(&pool, next)).unwrap();
        }
        let taken = tx.transmit(&mut burst) as u32;
        sent += taken;
        if taken < 64 {
            break;
        }
    }
    assert_eq!(numbers(&burst), (sent..sent + burst.len() as u32).collect::<Vec<_>>());
    let mut back = Burst::new();
    let mut received = 0;
    while rx.receive(&mut back) > 0 {
        for mbuf in back.drain() {
            assert_eq!(number(&mbuf), received);
            received += 1;
        }
    }
    assert_eq!(received, sent);
    assert!(tx.transmit(&mut burst) > 0, "room again");
}

#[test]
fn null_takes_all_and_frees_it() {
    let pool = pool("t_null");
    let (_port, mut rx, mut tx) = started(&vdev::null("sink", false).unwrap(), &pool);
    let mut burst = Burst::new();
    assert!(pool.alloc_bulk(&mut burst, 64));
    assert_eq!((tx.transmit(&mut burst), rx.receive(&mut burst)), (64, 0));
    assert_eq!(pool.in_use(), 0);
    let (_source, mut rx, _tx) = started(&vdev::null("source", true).unwrap(), &pool);
    assert_eq!((rx.receive(&mut burst), rx.receive(&mut burst), rx.receive(&mut burst)), (32, 32, 0));
    assert_eq!(burst[63].len(), 64);
}

#[test]
fn a_ring_hands_packets_to_another_thread_and_frees_what_is_left() {
    const COUNT: u32 = 100_000;
    let pool = pool("t_ring");
    let (mut producer, mut consumer) = spsc_ring(eal(), "t_ring", 1000).unwrap();
    let receiver = thread::spawn(move || {
        let _registered = eal().register_thread().unwrap();
        let mut burst = Burst::new();
        let mut expected = 0;
        while expected < COUNT {
            if consumer.dequeue(&mut burst) == 0 {
                thread::yield_now();
            }
            for mbuf in burst.drain() {
                assert_eq!((number(&mbuf), mbuf.tag()), (expected, expected ^ 0x5555));
                expected += 1;
            }
        }
        consumer
    });
    let mut burst = Burst::new();
    let mut next = 0;
    while next < COUNT || !burst.is_empty() {
        while next < COUNT && !burst.is_full() && pool.available() > 0 {
            let mut mbuf = numbered(&pool, next);
            mbuf.set_tag(next ^ 0x5555);
            burst.push(mbuf).unwrap();
            next += 1;
        }
        if producer.enqueue(&mut burst) == 0 {
            thread::yield_now();
        }
    }
    let consumer = receiver.join().unwrap();
    assert_eq!(pool.in_use(), 0);
    assert!(pool.alloc_bulk(&mut burst, 64));
    assert_eq!(producer.enqueue(&mut burst), 64);
    drop((producer, consumer));
    assert_eq!(pool.available(), pool.size());
    spsc_ring(eal(), "t_ring", 1).expect("the name is free again");
}

#[test]
fn bursts_move_what_fits() {
    let pool = pool("t_append");
    let (mut to, mut from) = (Burst::new(), Burst::new());
    for next in 0..40 {
        to.push(numbered(&pool, next)).unwrap();
        from.push(numbered(&pool, 40 + next)).unwrap();
    }
    assert_eq!((to.append(&mut from), from.len()), (24, 16));
    assert_eq!((numbers(&to), numbers(&from)), ((0..64).collect(), (64..80).collect()));
    assert!(to.push(from.pop().unwrap()).is_err());
    drop((to, from));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn port_errors_say_which_and_why() {
    let pool = pool("t_errors");
    let missing = eal().port_by_name("0000:99:00.0").unwrap_err();
    assert_eq!(missing.to_string(), "port 0000:99:00.0: not probed");
    let kernel = vdev::kernel("none", "nosuchif0", 1, 1500).unwrap();
    let no_interface = eal().create_vdev(&kernel.name, &kernel.args).unwrap_err().to_string();
    assert!(
        no_interface.contains("iface=nosuchif0") && no_interface.contains("No such device"),
        "{no_interface}"
    );
    let driver = eal().create_vdev("net_nosuch0", "").unwrap_err();
    assert!(matches!(driver, Error::PortNotProbed { .. }), "{driver}");

    let null = vdev::null("errors", false).unwrap();
    let index = eal().create_vdev(&null.name, &null.args).unwrap();
    let refused = |config: PortConfig| Port::configure(eal(), index, config, &pool).unwrap_err().to_string();
    let queues = refused(PortConfig { rx_queues: 5000, ..PortConfig::default() });
    assert!(queues.ends_with("(net_null): receive queues 5000: 1024 at most"), "{queues}");
}

#[cfg(feature = "pcap")]
#[test]
fn a_missing_capture_is_named() {
    let files = vdev::Pcap { input: &["/nosuch.pcap"], output: None, infinite: false };
    let file = vdev::pcap("none", &files).unwrap();
    let error = eal().create_vdev(&file.name, &file.args).unwrap_err().to_string();
    assert!(error.ends_with("/nosuch.pcap: No such file or directory"), "{error}");
}

#[test]
fn a_device_that_spreads_but_does_not_tell_the_hash_is_not_trusted_with_it() {
    // The null driver keeps key and table as it is told to, and delivers no hash.
    let pool = pool("t_rss");
    let device = Vdev::parse("net_null_rss").unwrap();
    let index = eal().create_vdev(&device.name, &device.args).unwrap();
    let config = PortConfig { rx_queues: 3, rx_desc: 256, tx_desc: 256, ..PortConfig::default() };
    let (port, rx, _tx) = Port::configure(eal(), index, config, &pool).unwrap().start().unwrap();
    assert_eq!((port.info().reta_size, rx.len()), (128, 3));
    assert!(crate::rss::reta_is_programmed(index, 128, 3));
    assert!(!port.rss_active() && !port.rss_hash_valid());
    assert!(matches!(
        Port::configure(eal(), index, PortConfig::default(), &pool),
        Err(Error::PortBusy { .. })
    ));
}

/// pcap file format: header of 24 bytes, then 16 bytes before each packet; little endian.
#[cfg(feature = "pcap")]
#[test]
fn packets_go_from_one_capture_to_another() {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let mut capture = words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, 1]);
    for number in 0..100_u32 {
        capture.extend(words(&[0, 0, 60, 60]));
        capture.extend(number.to_be_bytes());
        capture.extend([0; 56]);
    }
    let directory = std::env::temp_dir().join(format!("sluice-rte-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let (input, output) = (directory.join("in.pcap"), directory.join("out.pcap"));
    std::fs::write(&input, &capture).unwrap();

    let pool = pool("t_pcap");
    let files = vdev::Pcap {
        input: &[input.to_str().unwrap()],
        output: Some(output.to_str().unwrap()),
        infinite: false,
    };
    let (port, mut rx, mut tx) = started(&vdev::pcap("copy", &files).unwrap(), &pool);
    let mut burst = Burst::new();
    let mut count = 0;
    while rx.receive(&mut burst) > 0 {
        count += tx.transmit(&mut burst);
        assert!(burst.is_empty());
    }
    assert_eq!(count, 100);
    drop((port, rx, tx));
    assert_eq!(pool.in_use(), 0);
    let copied = std::fs::read(&output).unwrap();
    let last = copied.len() - 60;
    assert_eq!((copied.len(), &copied[last..last + 4]), (capture.len(), &99_u32.to_be_bytes()[..]));
    std::fs::remove_dir_all(&directory).unwrap();
}
