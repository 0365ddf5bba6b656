//! Generates the bindings to the installed libdpdk, compiles the shim and names the libraries to link.
//!
//! Linking is static, with whole archives and an explicit list of drivers: a driver registers itself in a constructor,
//! which the linker leaves out of an archive that nothing refers to ("failed to parse device" at run time), and the
//! shared DPDK loads all 128 drivers of the distribution at every start.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

/// Libraries and buses that everything needs.
const LIBRARIES: &[&str] = &[
    "rte_kvargs",
    "rte_telemetry",
    "rte_eal",
    "rte_ring",
    "rte_rcu",
    "rte_mempool",
    "rte_mbuf",
    "rte_net",
    "rte_meter",
    "rte_ethdev",
    "rte_pci",
    "rte_timer",
    "rte_hash",
    "rte_cryptodev",
    "rte_security",
    "rte_dmadev",
    "rte_gso",
    "rte_vhost",
    "rte_bus_pci",
    "rte_bus_vdev",
    "rte_common_iavf",
    "rte_mempool_ring",
];

/// Libraries that came after 22.11; linked where they are.
const NEWER_LIBRARIES: &[&str] = &["rte_log", "rte_argparse"];

/// Poll-mode drivers carried in every build. `e1000` has igb in it.
const DRIVERS: &[&str] = &[
    "af_packet",
    "af_xdp",
    "tap",
    "memif",
    "ring",
    "null",
    "virtio",
    "vhost",
    "e1000",
    "igc",
    "ixgbe",
    "i40e",
    "ice",
    "iavf",
    "ena",
    "vmxnet3",
    "bnxt",
];

/// System libraries that the above refer to.
const SYSTEM: &[&str] = &["bsd", "numa", "xdp", "bpf", "elf", "z", "jansson", "fdt", "m", "dl"];

/// Functions called by `sluice-rte`; the static inlines among DPDK's are in shim.c instead.
const FUNCTIONS: &[&str] = &[
    "sluice_.*",
    "rte_eal_init",
    "rte_strerror",
    "rte_version",
    "rte_get_tsc_hz",
    "rte_thread_register",
    "rte_thread_unregister",
    "rte_log_set_global_level",
    "rte_vdev_init",
    "rte_vdev_uninit",
    "rte_pktmbuf_pool_init",
    "rte_pktmbuf_init",
    "rte_pktmbuf_free_bulk",
    "rte_mbuf_best_mempool_ops",
    "rte_mempool_create_empty",
    "rte_mempool_set_ops_byname",
    "rte_mempool_populate_default",
    "rte_mempool_obj_iter",
    "rte_mempool_free",
    "rte_mempool_avail_count",
    "rte_mempool_in_use_count",
    "rte_ring_create",
    "rte_ring_free",
    "rte_ring_get_size",
    "rte_eth_dev_get_port_by_name",
    "rte_eth_dev_info_get",
    "rte_eth_dev_configure",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_rx_queue_setup",
    "rte_eth_tx_queue_setup",
    "rte_eth_dev_start",
    "rte_eth_dev_stop",
    "rte_eth_dev_close",
    "rte_eth_dev_socket_id",
    "rte_eth_dev_set_mtu",
    "rte_eth_dev_get_mtu",
    "rte_eth_dev_rss_hash_conf_get",
    "rte_eth_dev_rss_reta_update",
    "rte_eth_dev_rss_reta_query",
    "rte_eth_promiscuous_enable",
    "rte_eth_allmulticast_enable",
    "rte_eth_macaddr_get",
    "rte_eth_stats_get",
];

/// Constants wanted, by name.
const CONSTANTS: &[&str] = &[
    "SLUICE_.*",
    "RTE_MAX_ETHPORTS",
    "RTE_ETH_RETA_GROUP_SIZE",
    "RTE_PKTMBUF_HEADROOM",
    "RTE_MEMPOOL_CACHE_MAX_SIZE",
    "RTE_MP_MAX_FD_NUM",
    "RTE_MEMPOOL_F_NO_IOVA_CONTIG",
    "RTE_LOG_.*",
    "RING_F_S[PC]_.*",
    "SOCKET_ID_ANY",
];

/// Types whose layout Rust cannot express (packed within aligned), or that nothing here looks into. `rte_mbuf` is among
/// them because its unnamed unions changed between 22.11 and 24.11: its fields are reached by offset (wrapper.h).
const OPAQUE: &[&str] = &[
    "rte_mbuf",
    "rte_mempool",
    "rte_ring",
    "rte_device",
    "rte_arp_hdr",
    "rte_arp_ipv4",
    "rte_l2tpv2_combined_msg_hdr",
    "rte_gtp_psc_generic_hdr",
];

fn main() {
    for file in ["build.rs", "wrapper.h", "shim.c"] {
        println!("cargo::rerun-if-changed={file}");
    }
    for variable in ["PKG_CONFIG", "PKG_CONFIG_PATH", "LIBCLANG_PATH", "OBJCOPY"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let cflags = pkg_config(&["--cflags", "libdpdk"]);
    let libdir = pkg_config(&["--variable=libdir", "libdpdk"]).concat();
    let out =
        PathBuf::from(env::var("OUT_DIR").unwrap_or_else(|_| fail("OUT_DIR is not set: run by cargo only")));

    compile_shim(&cflags);
    generate_bindings(&cflags, &out.join("bindings.rs"));
    link(Path::new(&libdir), &out);
}

/// What pkg-config says, word by word. The words of `--cflags` must reach the compilers unchanged (`-include
/// rte_config.h -march=corei7`), which the crate pkg-config does not do.
fn pkg_config(arguments: &[&str]) -> Vec<String> {
    let program = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".to_owned());
    let output = Command::new(&program).args(arguments).output();
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect()
        }
        Ok(_) => fail("libdpdk was not found by pkg-config; on Debian and Ubuntu: apt install libdpdk-dev"),
        Err(error) => {
            fail(&format!("cannot run {program}: {error}; on Debian and Ubuntu: apt install pkg-config"))
        }
    }
}

fn compile_shim(cflags: &[String]) {
    let mut build = cc::Build::new();
    build.file("shim.c").warnings(true).extra_warnings(true).flag("-Wno-unused-parameter").opt_level(3);
    for flag in cflags {
        build.flag(flag);
    }
    if let Err(error) = build.try_compile("sluice_dpdk_shim") {
        fail(&format!("the shim over DPDK's inline functions does not compile: {error}"));
    }
}

fn generate_bindings(cflags: &[String], to: &Path) {
    if !libclang_loads() {
        fail("libclang was not found, which bindgen needs; on Debian and Ubuntu: apt install libclang-dev");
    }
    let mut builder = bindgen::Builder::default()
        .header("wrapper.h")
        .clang_args(cflags)
        .use_core()
        .generate_comments(false)
        .derive_default(true)
        .layout_tests(false)
        .prepend_enum_name(false)
        .merge_extern_blocks(true)
        .allowlist_type("sluice_mbuf_layout")
        .allowlist_type("rte_pktmbuf_pool_private")
        .blocklist_type("rte_mbuf__bindgen_.*");
    for name in FUNCTIONS {
        builder = builder.allowlist_function(name);
    }
    for name in CONSTANTS {
        builder = builder.allowlist_var(name);
    }
    for name in OPAQUE {
        builder = builder.opaque_type(name);
    }
    match builder.generate() {
        Ok(bindings) => {
            bindings.write_to_file(to).unwrap_or_else(|error| fail(&format!("cannot write {to:?}: {error}")))
        }
        Err(error) => fail(&format!("bindgen cannot read DPDK's headers: {error}")),
    }
}

/// bindgen panics in the depths where libclang is missing; a look beforehand gives a sentence instead.
fn libclang_loads() -> bool {
    std::panic::catch_unwind(bindgen::clang_version).is_ok()
}

fn link(libdir: &Path, out: &Path) {
    println!("cargo::rustc-link-search=native={}", libdir.display());
    println!("cargo::rustc-link-search=native={}", out.display());
    let pcap = env::var_os("CARGO_FEATURE_PCAP").is_some();
    let mlx5 = env::var_os("CARGO_FEATURE_MLX5").is_some();

    let mut archives: Vec<String> = DRIVERS.iter().map(|driver| format!("rte_net_{driver}")).collect();
    let mut system: Vec<&str> = SYSTEM.to_vec();
    if pcap {
        archives.push("rte_net_pcap".to_owned());
        system.push("pcap");
    }
    if mlx5 {
        archives.extend(["rte_bus_auxiliary", "rte_common_mlx5", "rte_net_mlx5"].map(str::to_owned));
        system.extend(["mlx5", "ibverbs"]);
    }
    archives.extend(LIBRARIES.iter().map(|&library| library.to_owned()));
    for archive in &archives {
        if !has_archive(libdir, archive) {
            fail(&format!(
                "lib{archive}.a is not in {}: this DPDK has no such static library",
                libdir.display()
            ));
        }
    }
    archives.extend(
        NEWER_LIBRARIES
            .iter()
            .filter(|library| has_archive(libdir, library))
            .map(|&library| library.to_owned()),
    );
    for archive in archives {
        let archive = if archive == AF_PACKET { without_defragmentation(libdir, out) } else { archive };
        println!("cargo::rustc-link-lib=static:+whole-archive,-bundle={archive}");
    }
    for library in system {
        println!("cargo::rustc-link-lib=dylib={library}");
    }
}

/// The driver whose copy is linked in place of the original.
const AF_PACKET: &str = "rte_net_af_packet";

/// A copy of the AF_PACKET driver that calls the shim's `sluice_af_packet_setsockopt` where it would call `setsockopt`. The
/// driver always sets `PACKET_FANOUT_FLAG_DEFRAG`, so that the kernel puts fragments together before they are seen.
fn without_defragmentation(libdir: &Path, out: &Path) -> String {
    let name = "sluice_net_af_packet";
    let (from, to) = (libdir.join(format!("lib{AF_PACKET}.a")), out.join(format!("lib{name}.a")));
    let objcopy = env::var("OBJCOPY").unwrap_or_else(|_| "objcopy".to_owned());
    let renamed = Command::new(&objcopy)
        .arg("--redefine-sym=setsockopt=sluice_af_packet_setsockopt")
        .args([&from, &to])
        .status();
    match renamed {
        Ok(status) if status.success() => name.to_owned(),
        Ok(status) => fail(&format!("{objcopy} could not copy {}: {status}", from.display())),
        Err(error) => {
            fail(&format!("cannot run {objcopy}: {error}; on Debian and Ubuntu: apt install binutils"))
        }
    }
}

fn has_archive(libdir: &Path, library: &str) -> bool {
    libdir.join(format!("lib{library}.a")).exists()
}

/// Ends the build with one readable line.
fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    exit(1)
}
