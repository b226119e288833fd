//! Editors, and what else people do to a document: each save leaves the whole new text, in the file that it should.

use crate::counted::manifests_of;
use crate::walk::{describe, same};
use crate::world::World;

crate::claims! {
    Mount: [
        every_way_to_save_leaves_the_new_text,
        a_lock_file_keeps_the_second_writer_out,
    ],
    MountAlone: [each_save_of_a_document_is_one_version],
    Program("vim"): [
        vim_saves_by_copy_and_by_rename,
        vim_keeps_links_to_what_it_saves,
        vim_recovers_what_a_killed_one_had_not_saved,
        vim_undoes_in_the_next_mount,
    ],
    Program("gio"): [what_is_put_in_the_trash_can_be_taken_out_again],
}

const EDITORS: &str = include_str!("../scripts/editors.py");

/// Remounts, and checks that everything is as it was.
#[track_caller]
fn the_next_mount_is_the_same(world: &World) {
    let before = describe(world.dir());
    world.remount();
    same(&before, &describe(world.dir()));
}

fn every_way_to_save_leaves_the_new_text() {
    let world = World::mounted();
    world.script(EDITORS, &["all"]);
    the_next_mount_is_the_same(&world);
    world.sh(r#"for note in */note; do test "$(head -1 $note)" = "${note%/note}, save 2"; done"#);
}

fn each_save_of_a_document_is_one_version() {
    let world = World::mounted();
    for way in ["truncating", "copy_then_truncate", "rename_then_new", "link_then_rename", "rename_away_and_back"] {
        world.sh("echo before > note");
        world.sync();
        let mut made = (0..5).map(|_| manifests_of(&world, |world| drop(world.script(EDITORS, &["once", way]))));
        assert!(made.any(|made| made == 1), "{way} made more than one version, five times");
    }
}

fn a_lock_file_keeps_the_second_writer_out() {
    let world = World::mounted();
    let open = |who: &str| {
        let said = world.try_sh(&format!(
            "set -o noclobber; echo '{who},host,{who},01.02.2026 03:04,file:///home/{who};' > '.~lock.text.odt#'"
        ));
        said.status.success()
    };
    world.sh("echo first > text.odt");
    assert!(open("ada"));
    assert!(!open("ben"), "the second opened it, too");
    assert!(world.sh("cat '.~lock.text.odt#'").starts_with("ada,host,ada"));
    // As after a crash: the lock is left, and says whose it is.
    the_next_mount_is_the_same(&world);
    assert!(!open("ben"));
    // Many at once: one has it at a time, and none is lost.
    world.python(
        "import os, time\n\
         os.unlink('.~lock.text.odt#')\n\
         children = []\n\
         for who in range(6):\n\
         \x20   if pid := os.fork(): children.append(pid); continue\n\
         \x20   for turn in range(15):\n\
         \x20       while True:\n\
         \x20           try: os.close(os.open('.~lock.text.odt#', os.O_CREAT | os.O_EXCL | os.O_WRONLY)); break\n\
         \x20           except FileExistsError: time.sleep(0.001)\n\
         \x20       text = open('text.odt').read() + f'{who} {turn}\\n'\n\
         \x20       open('new.tmp', 'x').write(text); os.rename('new.tmp', 'text.odt'); os.unlink('.~lock.text.odt#')\n\
         \x20   os._exit(0)\n\
         assert all(os.waitpid(child, 0)[1] == 0 for child in children)\n\
         lines = open('text.odt').read().splitlines()\n\
         assert lines[0] == 'first' and sorted(lines[1:]) == sorted(f'{who} {turn}' for who in range(6) for turn in range(15))\n\
         assert os.listdir() == ['text.odt']",
    );
    the_next_mount_is_the_same(&world);
    assert_eq!(world.sh("wc -l < text.odt"), "91\n");
}

/// A vim without settings, which runs what follows and leaves. Files below /tmp get backups as others do.
const VIM: &str = "vim() { command vim -es -N -u NONE -i NONE --cmd 'set backupskip=' \"$@\"; };";

fn vim_saves_by_copy_and_by_rename() {
    let world = World::mounted();
    world.sh(&format!(
        r#"{VIM}
        for copy in yes no auto; do for backup in "nobackup nowritebackup" "nobackup writebackup" "backup"; do
            mkdir "$copy $backup"; cd "$copy $backup"
            printf 'one\nend\n' > note; chmod 640 note; touch -d 2020-01-02 note; was=$(stat -c %i note)
            vim -c "set backupcopy=$copy $backup fsync" -c '1s/$/ two/' -c w -c '2s/$/ !/' -c wq note
            test "$(cat note)" = $'one two\nend !'; test "$(stat -c %a:%h note)" = 640:1
            test "$(stat -c %Y note)" -gt 1700000000
            # What is written in place stays the file that it was, and what is saved by a rename does not.
            case "$copy $backup" in
                yes*|*nowritebackup) test "$(stat -c %i note)" = "$was" ;;
                no*) test "$(stat -c %i note)" != "$was" ;;
            esac
            if test "$backup" = backup; then
                test "$(ls -A | tr '\n' ' ')" = 'note note~ '; test "$(cat note~)" = $'one two\nend'
            else
                test "$(ls -A)" = note
            fi
            cd ..
        done; done"#
    ));
    the_next_mount_is_the_same(&world);
}

fn vim_keeps_links_to_what_it_saves() {
    let world = World::mounted();
    world.sh(&format!(
        r#"{VIM}
        mkdir real; echo hard > hard; ln hard twin; echo soft > real/soft; ln -s real/soft soft
        vim -c 'set backupcopy=auto' -c '1s/$/ edited/' -c wq hard; vim -c 'set backupcopy=auto' -c '1s/$/ edited/' -c wq soft
        test hard -ef twin; test -L soft"#
    ));
    the_next_mount_is_the_same(&world);
    assert_eq!(
        world.sh("cat twin real/soft; ls -A . real"),
        "hard edited\nsoft edited\n.:\nhard\nreal\nsoft\ntwin\n\nreal:\nsoft\n"
    );
}

fn vim_recovers_what_a_killed_one_had_not_saved() {
    let world = World::mounted();
    world.sh(&format!(
        r#"{VIM}
        seq 3000 > note
        ! vim -c 'set directory=. updatecount=1' -c '1500s/$/ not saved/' -c preserve -c 'call system("kill -KILL " . getpid())' note
        test -e .note.swp; ! grep -q 'not saved' note"#
    ));
    the_next_mount_is_the_same(&world);
    world.sh(&format!("{VIM} vim -c 'set directory=.' -c 'recover note' -c 'w! recovered' -c 'qa!' || true"));
    assert_eq!(world.sh("sed -n '1499,1501p' recovered; wc -l < recovered"), "1499\n1500 not saved\n1501\n3000\n");
}

fn vim_undoes_in_the_next_mount() {
    let world = World::mounted();
    let vim = format!("{VIM} vim --cmd 'set undofile undodir=.'");
    world.sh(&format!("echo one > note; {vim} -c '1s/one/two/' -c wq note; test -e .note.un~"));
    world.remount();
    world.sh(&format!("test \"$(cat note)\" = two; {vim} -c 'silent undo' -c wq note"));
    world.remount();
    assert_eq!(world.sh("cat note"), "one\n");
}

fn what_is_put_in_the_trash_can_be_taken_out_again() {
    let world = World::mounted();
    world.sh(r#"
        mkdir -p 'a folder/d'; echo deep > 'a folder/d/f'; echo text > note; echo again > again
        cp -a 'a folder' "$OUT/kept"; gio trash 'a folder' note; gio trash again; echo other > again; gio trash again
        test "$(ls)" = ''"#);
    world.remount();
    let trash = world.sh("echo .Trash-*");
    let trash = trash.trim();
    assert_eq!(world.sh(&format!("ls {trash}/files {trash}/info | grep -c .")), "10\n");
    world.sh(&format!(
        r#"cd {trash}; grep -qx 'Path=a%20folder' 'info/a folder.trashinfo'; diff -r 'files/a folder' "$OUT/kept"
        test "$(cat files/again*)" = $'again\nother'; mv files/note ..; rm info/note.trashinfo; test "$(cat ../note)" = text"#
    ));
}
