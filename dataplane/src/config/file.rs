//! The configuration file as it is written: its sections, whose keys stand in the files that check them.

use serde::Deserialize;

use crate::config::director::DirectorSection;
use crate::config::ports::{PortSection, VlanSection};
use crate::config::rows::Section;
use crate::config::services::{BackendSection, ServiceSection};

/// The whole file. An element of a list that is no table at all is `None`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) director: DirectorSection,
    pub(super) ports: Vec<Option<PortSection>>,
    pub(super) services: Vec<Option<ServiceSection>>,
}

/// All sections with their rows, in the order of the file.
pub(super) fn sections() -> Vec<Section> {
    vec![
        DirectorSection::section(),
        PortSection::section(),
        VlanSection::section(),
        ServiceSection::section(),
        BackendSection::section(),
    ]
}
