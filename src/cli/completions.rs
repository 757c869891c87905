//! `tracehop completions` and `tracehop man`: what a package installs beside the program.

use std::io;
use std::io::Write;
use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

/// Prints the script that `shell` completes by.
pub(super) fn completions(mut command: Command, shell: Shell) -> anyhow::Result<ExitCode> {
    // Made in memory: what writes it takes a closed pipe for a bug.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "tracehop", &mut script);
    io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints one page: the program, then each command as a section of it.
pub(super) fn man(command: Command) -> anyhow::Result<ExitCode> {
    let mut page = Vec::new();
    let mut command = command;
    command.build();
    let program = Man::new(command.clone());
    program.render_title(&mut page)?;
    program.render_name_section(&mut page)?;
    program.render_synopsis_section(&mut page)?;
    program.render_description_section(&mut page)?;
    for command in command.get_subcommands() {
        if command.get_name() == "help" {
            continue;
        }
        let mut section = Vec::new();
        let man = Man::new(command.clone());
        man.render_synopsis_section(&mut section)?;
        man.render_description_section(&mut section)?;
        man.render_options_section(&mut section)?;
        man.render_extra_section(&mut section)?;
        let name = command.get_name().to_uppercase();
        writeln!(page, ".SH {name}")?;
        page.extend(as_subsections(&section));
    }
    program.render_extra_section(&mut page)?;
    program.render_version_section(&mut page)?;
    io::stdout().write_all(&page)?;
    Ok(ExitCode::SUCCESS)
}

/// The sections of a page as parts of one.
fn as_subsections(section: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(section)
        .lines()
        .flat_map(|line| match line.strip_prefix(".SH ") {
            Some(title) => [".SS ", title, "\n"],
            None => ["", line, "\n"],
        })
        .collect::<String>()
        .into_bytes()
}

pub(super) const COMPLETIONS_ABOUT: &str = "\
Print a script that completes this command line in a shell.

    tracehop completions bash > /etc/bash_completion.d/tracehop
    tracehop completions zsh > \"${fpath[1]}/_tracehop\"
    tracehop completions fish > ~/.config/fish/completions/tracehop.fish";

pub(super) const MAN_ABOUT: &str = "\
Print the manual page, in roff.

    tracehop man | man -l -
    tracehop man > /usr/local/share/man/man1/tracehop.1";
