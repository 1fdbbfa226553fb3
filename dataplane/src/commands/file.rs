//! Whether the programs of commands are there. The model does not look at files, so this stands beside it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use ctl::request::CheckSpec;
use ctl::{CheckType, ServiceId};

use crate::control::model::ModelError;
use crate::control::model::health::{Ask, checked};

/// What is wrong with the programs of the checks that a service is to have.
pub fn problems(checks: Option<&[CheckSpec]>, service: &ServiceId) -> Vec<ModelError> {
    // Whatever else may be looked at for checks of other types is looked at only once.
    let scripts = checks.into_iter().flatten().enumerate().filter(|(_, spec)| spec.kind == CheckType::Script);
    let problem = |(index, spec)| match checked(spec, service).ok()?.ask {
        Ask::Script(command) => {
            let why = runnable(&command).err()?;
            Some(ModelError::Check { index, field: "command", why })
        }
        _ => None,
    };
    scripts.filter_map(problem).collect()
}

/// Says why a command cannot be run, as far as its file tells. Whether the user without privileges may run it shows when it does.
pub fn runnable(command: &[String]) -> Result<(), String> {
    let path = command.first().map(String::as_str).unwrap_or_default();
    let file = fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("There is no file {path}"),
        _ => format!("{path} cannot be looked at: {error}"),
    })?;
    if !file.is_file() {
        return Err(format!("{path} is not a program"));
    }
    if file.permissions().mode() & 0o111 == 0 {
        return Err(format!("{path} is not executable: `chmod +x {path}`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_or_cannot_be_run_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("plain");
        fs::write(&plain, "#!/bin/sh\n").unwrap();
        let [folder, plain] = [folder.path(), &plain].map(|path| path.display().to_string());
        for (path, says) in [
            ("/bin/sh", ""),
            (&plain, "is not executable: `chmod +x"),
            (&folder, "not a program"),
            ("/none", "no file"),
        ] {
            let said = runnable(&[path.to_string()]).err().unwrap_or_default();
            assert!(said.contains(says) && said.is_empty() == says.is_empty(), "{path}: {said}");
        }
        let checks = ["tcp", "script command=/none"].map(|check| check.parse().unwrap());
        let found = problems(Some(&checks), &"192.0.2.1:80".parse().unwrap());
        assert_eq!(found.iter().map(ModelError::field).collect::<Vec<_>>(), ["checks[1].command"]);
    }
}
