//! From the wire to the wire: two workers with all kinds of services, which change while they forward.
#![no_main]

use std::sync::LazyLock;

use dataplane::testing::choices::Choices;
use dataplane::testing::memory::MemorySource;
use dataplane::testing::scene::Scene;
use dataplane::testing::traffic::Traffic;
use libfuzzer_sys::fuzz_target;

static TRAFFIC: LazyLock<Traffic> = LazyLock::new(Traffic::default);

fuzz_target!(|bytes: &[u8]| Scene::new(MemorySource).run(&TRAFFIC, &mut Choices::new(bytes)));
