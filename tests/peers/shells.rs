//! The shells and the man programs that read what paidup prints of itself.

use std::fs;
use std::process::Command;

use crate::tools;

fn printed(words: &[&str]) -> String {
    let mut paidup = Command::new(env!("CARGO_BIN_EXE_paidup"));
    let output = paidup.args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What the program says on both outputs; it must end well.
fn said(program: &str, words: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(words);
    let output = tools::run(command, "");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    assert!(output.status.success(), "{program}: {text}");
    text
}

#[test]
fn each_shell_completes_the_words_of_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let file = |shell: &str| {
        let path = folder.path().join(shell);
        fs::write(&path, printed(&["completions", shell])).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let bash = format!(
        ". {}; tell() {{ COMP_WORDS=(\"$@\") COMP_CWORD=$(($#-1)); _paidup; echo ${{COMPREPLY[*]}}; }}
         tell paidup orders ''; tell paidup events list --o; tell paidup orders list --status par; tell paidup notify st",
        file("bash")
    );
    let expected = "list show follow export\n--order\npartially_refunded\nstatus\n";
    assert_eq!(said("bash", &["-c", &bash]), expected);

    let fish = |line: &str| {
        let script = format!("source {}; complete -C '{line}'", file("fish"));
        let found = said("fish", &["--no-config", "-c", &script]);
        let words = found
            .lines()
            .map(|line| line.split('\t').next().unwrap().to_owned());
        words.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(fish("paidup orders "), "export follow list show");
    assert_eq!(fish("paidup events list --o"), "--order");
    assert_eq!(
        fish("paidup orders list --status par"),
        "partially_refunded"
    );

    // zsh completes only where somebody types, so here it reads and defines the function.
    let zsh = format!(
        "autoload -Uz compinit; compinit -u -d {0}/dump; source {1}; whence -w _paidup; echo $_comps[paidup]",
        folder.path().display(),
        file("zsh")
    );
    assert_eq!(
        said("zsh", &["-f", "-c", &zsh]),
        "_paidup: function\n_paidup\n"
    );
}

#[test]
fn the_manual_page_is_without_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("paidup.1");
    fs::write(&path, printed(&["man"])).unwrap();
    let path = path.to_str().unwrap();
    assert_eq!(said("mandoc", &["-T", "lint", "-W", "warning", path]), "");
    let page = said("sh", &["-c", &format!("mandoc -T ascii {path} | col -b")]);
    for expected in [
        "NAME",
        "SEE WHAT WAS PAID",
        "paidup orders show ID",
        "--status STATUS",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
}
