//! A configuration file: what is accepted can be run, what is refused has a reason and a place. Behind a NUL byte come
//! environment variables, with a NUL between any two.
#![no_main]

use std::sync::Arc;

use dataplane::config::Config;
use dataplane::count::lease::Leases;
use dataplane::control::compile::compile;
use dataplane::testing::model::PORT;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut parts = text.split('\0');
    let text = parts.next().unwrap_or_default();
    let variables: Vec<(&str, &str)> = parts.filter_map(|variable| variable.split_once('=')).collect();
    match Config::from_text("shunt.toml", text, &variables) {
        Ok(mut config) => {
            // The size makes no difference but time.
            config.director.maglev_table_size = config.director.maglev_table_size.min(61);
            let leases = Leases::new(vec![]);
            let model = config.full_model(&leases).expect("what was checked is right");
            assert_eq!(model.services.len(), config.services.len());
            let ports = vec![PORT; config.ports.len()];
            let snapshot = compile(Arc::new(model), |_| None, &ports, 1);
            assert_eq!(snapshot.services.len(), config.services.len());
        }
        Err(error) => {
            assert!(!error.problems.is_empty(), "refused, and nobody knows why");
            for problem in &error.problems {
                assert!(!problem.message.is_empty() && !problem.location.is_empty(), "{problem:?}");
            }
            let _ = error.to_string();
        }
    }
});
