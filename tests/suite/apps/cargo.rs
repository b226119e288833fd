//! cargo: what it builds runs, and what is fresh is told from what is not by times that the next mount has to keep.

use std::path::Path;

use crate::world::{World, run};

crate::claims! {
    Mount: [a_crate_is_built_run_and_built_again_after_an_edit],
}

/// Runs the cargo that builds these tests, in the mount, without what it was told about them.
#[track_caller]
fn cargo(world: &World, args: &[&str]) -> (String, String) {
    let mut command = world.command(env!("CARGO"));
    for (name, _) in std::env::vars_os() {
        let shown = name.to_string_lossy();
        if shown.starts_with("CARGO") || shown.starts_with("RUST") || shown == "LD_LIBRARY_PATH" {
            command.env_remove(&name);
        }
    }
    let rustc = Path::new(env!("CARGO")).with_file_name("rustc");
    if rustc.is_file() {
        command.env("RUSTC", rustc);
    }
    let said = run(command.args(args).arg("--offline").current_dir(world.at("app")));
    let err = said.err.clone();
    (said.ok(), err)
}

fn a_crate_is_built_run_and_built_again_after_an_edit() {
    let world = World::mounted();
    world.sh(
        r#"
        mkdir -p app/src app/part/src; cd app
        printf '[workspace]\nmembers = ["part"]\n[package]\nname = "app"\nversion = "0.1.0"\nedition = "2021"\nbuild = "build.rs"\n[dependencies]\npart = { path = "part" }\n' > Cargo.toml
        printf '[package]\nname = "part"\nversion = "0.1.0"\nedition = "2021"\n' > part/Cargo.toml
        echo 'pub fn name() -> &'"'"'static str { "first" }' > part/src/lib.rs
        echo 'fn main() { println!("cargo:rerun-if-changed=word"); println!("cargo:rustc-env=WORD={}", std::fs::read_to_string("word").unwrap().trim()); }' > build.rs
        echo one > word; echo 'fn main() { println!("{} {}", part::name(), env!("WORD")); }' > src/main.rs"#,
    );
    cargo(&world, &["build"]);
    assert_eq!(cargo(&world, &["run"]).0, "first one\n");
    let nothing_is_built = || {
        let (out, err) = cargo(&world, &["run"]);
        assert!(!err.contains("Compiling"), "{err}");
        out
    };
    assert_eq!(nothing_is_built(), "first one\n");
    world.remount();
    assert_eq!(nothing_is_built(), "first one\n");
    // cargo puts what it built in its place by a hard link.
    world.sh("cd app/target/debug; test -n \"$(find deps -samefile app)\"; test \"$(./app)\" = 'first one'");
    world.sh("sed -i s/first/second/ app/part/src/lib.rs");
    let (out, err) = cargo(&world, &["run"]);
    assert!(out == "second one\n" && err.matches("Compiling").count() == 2, "{out}{err}");
    world.remount();
    world.sh("echo two > app/word");
    let (out, err) = cargo(&world, &["run"]);
    assert!(out == "second two\n" && err.matches("Compiling").count() == 1, "{out}{err}");
    world.remount();
    assert_eq!(nothing_is_built(), "second two\n");
    cargo(&world, &["clean"]);
    assert_eq!(world.sh("ls app"), "Cargo.lock\nCargo.toml\nbuild.rs\npart\nsrc\nword\n");
}
