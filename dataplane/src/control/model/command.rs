//! Commands, as operators write them: words set off by blanks.

/// The words of a command, or the reason why they are none. There is no shell: quotes keep words together, and nothing else is special.
pub fn command(text: &str) -> Result<Vec<String>, String> {
    let words = shlex::split(text).ok_or("A quote is not closed, or a \\ stands at the end")?;
    match words.first() {
        Some(program) if program.starts_with('/') => Ok(words),
        Some(program) => Err(format!("\"{program}\" is not where a program is: begin it with the path, from / on")),
        None => Err(format!("\"{text}\" is no command: write the path of a program, and its arguments")),
    }
}
