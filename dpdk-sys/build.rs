//! Finds DPDK with pkg-config, compiles the C shim and generates the bindings.

use std::env;
use std::path::PathBuf;
use std::process::exit;

/// Functions that Shunt calls; the types they need come along by themselves.
const FUNCTIONS: &[&str] = &[
    "rte_dev_probe",
    "rte_dev_remove",
    "rte_eal_cleanup",
    "rte_eal_get_runtime_dir",
    "rte_eal_init",
    "rte_eth_allmulticast_enable",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_dev_callback_register",
    "rte_eth_dev_callback_unregister",
    "rte_eth_dev_close",
    "rte_eth_dev_configure",
    "rte_eth_dev_get_mtu",
    "rte_eth_dev_get_port_by_name",
    "rte_eth_dev_info_get",
    "rte_eth_dev_set_mc_addr_list",
    "rte_eth_dev_set_mtu",
    "rte_eth_dev_socket_id",
    "rte_eth_dev_start",
    "rte_eth_dev_stop",
    "rte_eth_find_next_of",
    "rte_eth_link_get_nowait",
    "rte_eth_macaddr_get",
    "rte_eth_promiscuous_disable",
    "rte_eth_promiscuous_enable",
    "rte_eth_rx_queue_setup",
    "rte_eth_stats_get",
    "rte_eth_tx_queue_setup",
    "rte_get_tsc_hz",
    "rte_mempool_avail_count",
    "rte_mempool_calc_obj_size",
    "rte_mempool_create_empty",
    "rte_mempool_free",
    "rte_mempool_obj_iter",
    "rte_mempool_populate_default",
    "rte_mempool_set_ops_byname",
    "rte_pktmbuf_init",
    "rte_pktmbuf_pool_create_by_ops",
    "rte_pktmbuf_pool_init",
    "rte_strerror",
    "rte_thread_register",
    "rte_thread_unregister",
    "rte_version",
    "shunt_.*",
];

/// The shim.
const SOURCES: &[&str] = &["src/shim.c", "src/generator.c", "src/packet.c", "src/interface.c"];

/// Packed *and* aligned in C, which Rust cannot express; Shunt never looks inside.
const OPAQUE: &[&str] = &["rte_arp_.*", "rte_l2tpv2_.*", "rte_gtp_psc_.*"];

fn main() {
    for name in ["wrapper.h", "src/shim.h", "src/generator.h", "src/packet.h", "src/interface.h", "build.rs"]
        .iter()
        .chain(SOURCES)
    {
        println!("cargo:rerun-if-changed={name}");
    }
    let dpdk = match pkg_config::Config::new().atleast_version("22.11").probe("libdpdk") {
        Ok(library) => library,
        Err(error) => {
            eprintln!("DPDK 22.11 or newer is needed (Debian: apt-get install libdpdk-dev): {error}");
            exit(1);
        }
    };
    // pkg-config's own flags (-march=…, -include rte_config.h) are not all kept by the crate's `Library`.
    let cflags = std::process::Command::new(env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into()))
        .args(["--cflags", "libdpdk"])
        .output()
        .expect("pkg-config has just been run");
    let cflags = String::from_utf8(cflags.stdout).expect("compiler flags are text");
    let flags: Vec<&str> = cflags.split_whitespace().collect();

    let mut shim = cc::Build::new();
    shim.files(SOURCES).opt_level(3);
    for flag in &flags {
        shim.flag(flag);
    }
    shim.compile("shunt_shim");
    // The shim must come before DPDK's libraries on the linker's command line.
    for library in &dpdk.libs {
        println!("cargo:rustc-link-lib={library}");
    }

    let mut bindings = bindgen::Builder::default()
        .header("wrapper.h")
        .clang_args(&flags)
        .allowlist_var("SHUNT_.*")
        .allowlist_var("RTE_MEMPOOL_F_NO_SPREAD")
        .allowlist_var("RTE_PKTMBUF_HEADROOM")
        .allowlist_var("RTE_MAX_ETHPORTS")
        .allowlist_type("rte_mbuf|rte_pktmbuf_pool_private|rte_eth_conf|rte_eth_dev_info|rte_eth_stats|rte_eth_link")
        .derive_default(true)
        .generate_comments(false)
        .layout_tests(false)
        .prepend_enum_name(false);
    for function in FUNCTIONS {
        bindings = bindings.allowlist_function(function);
    }
    for kind in OPAQUE {
        bindings = bindings.opaque_type(kind);
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("bindings.rs");
    bindings
        .generate()
        .expect("bindgen reads DPDK's headers (Debian: apt-get install libclang-dev)")
        .write_to_file(out)
        .expect("OUT_DIR is writable");
}
