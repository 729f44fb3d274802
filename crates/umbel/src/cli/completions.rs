//! `umbel completions`.

use std::process::ExitCode;

use clap::{Args, CommandFactory as _, ValueEnum};
use clap_complete::Shell;

use super::outcome::{exit_code, print};
use super::{Cli, help};

/// The flags of `umbel completions`.
#[derive(Debug, Args)]
#[command(after_help = help::COMPLETIONS)]
pub(super) struct Completions {
    /// The shell that shall know the command line
    shell: KnownShell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KnownShell {
    Bash,
    Zsh,
    Fish,
}

/// Prints the script.
pub(super) fn run(flags: &Completions) -> ExitCode {
    exit_code(print(&script(flags.shell)))
}

fn script(shell: KnownShell) -> String {
    let shell = match shell {
        KnownShell::Bash => Shell::Bash,
        KnownShell::Zsh => Shell::Zsh,
        KnownShell::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "umbel", &mut script);
    String::from_utf8(script).expect("names and help are UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_learns_the_commands_and_their_flags() {
        for &shell in KnownShell::value_variants() {
            let script = script(shell);
            for word in [
                "publish",
                "subscribe",
                "health",
                "check-config",
                "redis-library",
                "timeout-seconds",
            ] {
                assert!(script.contains(word), "{shell:?} doesn't know {word}");
            }
        }
    }
}
