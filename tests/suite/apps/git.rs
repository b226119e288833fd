//! git: it trusts link counts, inode numbers, times, renames and locks, and has a check of its own for all content.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::apps::crash_amid;
use crate::world::World;

crate::claims! {
    Mount: [
        git_works_through_a_repository_s_life,
        git_clones_by_hard_links,
        git_packs_what_it_has_and_loses_nothing,
        git_adds_and_removes_worktrees,
        git_stashes_and_rebases,
        git_switches_between_branches_of_many_files_and_sees_no_change,
        git_finds_nothing_to_look_at_again_after_a_remount,
        a_git_that_is_ended_takes_its_lock_with_it,
        commits_at_once_leave_a_sound_repository,
        git_finds_a_repository_that_was_after_a_crash_of_the_node,
    ],
}

/// What git has: every file, read into an index that knows nothing, since the other is what git trusts in place of
/// reading; every ref, commit and object; what is not committed; and its own check of it all.
const ALL: &str = r#"
    GIT_INDEX_FILE="$OUT/fresh" git add -A; GIT_INDEX_FILE="$OUT/fresh" git write-tree; rm "$OUT/fresh"
    git for-each-ref
    git rev-list --all --objects | git cat-file --batch | sha256sum
    git fsck --full --strict 2>&1
    git stash list
    git status --porcelain
    git diff-files
"#;

/// A live mount, and a git that knows who commits.
#[track_caller]
fn mounted() -> World {
    let world = World::mounted();
    let config = "[user]\nname = Ada\nemail = ada@example.org\n[init]\ndefaultBranch = main\n[safe]\ndirectory = *\n\
                  [advice]\ndetachedHead = false\n[gc]\nauto = 0\n";
    fs::write(world.outside(".gitconfig"), config).unwrap();
    world
}

/// Remounts, and checks that a repository has all that it had.
#[track_caller]
fn the_next_mount_has_all_of(world: &World, repository: &str) -> String {
    let tell = format!("cd {repository}; {ALL}");
    let before = world.sh(&tell);
    world.remount();
    assert_eq!(world.sh(&tell), before);
    before
}

fn git_works_through_a_repository_s_life() {
    let world = mounted();
    world.sh(r#"
        git init -q repo; cd repo
        for i in $(seq 60); do echo $i > file$i; done; git add .; git commit -qm one; test -z "$(git status --porcelain)"
        echo more >> file1; git mv file2 renamed; git commit -qam two
        git checkout -q -b side HEAD~1; echo side > side; git add side; git commit -qm side
        git checkout -q main; git merge -q side -m merged; test -z "$(git status --porcelain)"
    "#);
    the_next_mount_has_all_of(&world, "repo");
    assert_eq!(world.sh("cd repo; git log --oneline | wc -l; cat file1 renamed side"), "4\n1\nmore\n2\nside\n");
}

fn git_clones_by_hard_links() {
    let world = mounted();
    world.sh(r#"
        git init -q repo; cd repo
        head -c 200000 /dev/urandom > data; git add .; git commit -qm packed; git repack -q
        for i in $(seq 30); do echo $i > file$i; done; git add .; git commit -qm loose
        cd ..; git clone -q --local repo clone; cmp repo/data clone/data
    "#);
    let same = r#"
        cd repo/.git/objects
        find . -type f | while read -r name; do
            test "$name" -ef "../../../clone/.git/objects/$name"
            stat -c '%h %i %n' "$name"
        done | sort -k 3"#;
    let objects = world.sh(same);
    assert!(objects.lines().count() > 30 && objects.lines().all(|line| line.starts_with("2 ")), "{objects}");
    world.remount();
    assert_eq!(world.sh(same), objects);
    world.sh("rm -rf repo");
    the_next_mount_has_all_of(&world, "clone");
    let alone = world.sh("cd clone/.git/objects; find . -type f -exec stat -c '%h %i %n' {} + | sort -k 3");
    assert_eq!(alone, objects.lines().map(|line| format!("1{}\n", &line[1..])).collect::<String>());
    world.jaxfs(&["verify"]).ok();
}

fn git_packs_what_it_has_and_loses_nothing() {
    let world = mounted();
    world.sh(r#"
        git init -q repo; cd repo
        for n in $(seq 12); do
            for i in $(seq 12); do seq $n $((n * i * 9)) > file$i; done
            head -c $((n * 7000)) /dev/urandom > data; git add .; git commit -qm $n; git tag -a -m $n tag$n; git branch branch$n
        done
        git checkout -q -b gone; echo gone > gone; git add .; git commit -qm gone; git checkout -q main; git branch -qD gone
    "#);
    let objects = "cd repo; git rev-list --all --objects | git cat-file --batch | sha256sum";
    let before = world.sh(objects);
    world.sh(r#"
        cd repo; git reflog expire --expire=now --all; git gc -q --aggressive --prune=now; git pack-refs --all
        test -z "$(find .git/refs -type f)"; test -z "$(find .git/objects -type f -path './??/*')"
        test "$(ls .git/objects/pack/*.pack | wc -l)" = 1; test "$(grep -c refs/ .git/packed-refs)" = 25
    "#);
    assert_eq!(world.sh(objects), before);
    the_next_mount_has_all_of(&world, "repo");
    // Refs that are written over a packed one, and removed from among them.
    world.sh(r#"
        cd repo; git branch -qD branch3; git tag -d tag4 > /dev/null; git update-ref refs/heads/branch5 main
        echo more > file1; git commit -qam more; git repack -qad; git gc -q --prune=now
    "#);
    the_next_mount_has_all_of(&world, "repo");
    world.sh(r#"
        cd repo; ! git rev-parse -q --verify branch3; ! git rev-parse -q --verify tag4
        test "$(git rev-parse branch5)" = "$(git rev-parse main~1)"; git clone -q . ../clone; cmp ../clone/data data
    "#);
}

fn git_adds_and_removes_worktrees() {
    let world = mounted();
    world.sh(r#"
        git init -q repo; cd repo
        for i in $(seq 40); do echo $i > file$i; done; git add .; git commit -qm one
        git worktree add -q -b side ../side; git worktree add -q --detach ../third; git worktree lock ../third
        cd ../side; echo side > file7; git rm -q file8; git commit -qam side; echo open > new
    "#);
    the_next_mount_has_all_of(&world, "repo");
    assert_eq!(the_next_mount_has_all_of(&world, "side").matches("?? new\n").count(), 1);
    world.sh(r#"
        cd repo; test "$(git worktree list | wc -l)" = 3; cd ../third; git merge -q side; test "$(cat file7)" = side
        cd ../repo; ! git worktree remove ../side 2> /dev/null; ! git worktree remove ../third 2> /dev/null
        git worktree unlock ../third; git worktree remove ../third; git worktree move ../side ../moved
        rm -rf ../moved; git worktree prune; git merge -q side
    "#);
    the_next_mount_has_all_of(&world, "repo");
    assert_eq!(world.sh("ls; test ! -e repo/.git/worktrees; cat repo/file7"), "repo\nside\n");
}

fn git_stashes_and_rebases() {
    let world = mounted();
    world.sh(r#"
        git init -q repo; cd repo
        seq 50 > numbers; echo a > a; git add .; git commit -qm base
        git checkout -q -b topic; for n in 10 20 30; do sed -i "${n}s/.*/topic $n/" numbers; git commit -qam "topic $n"; done
        git checkout -q main; sed -i '20s/.*/main 20/' numbers; git mv a b; git commit -qam main; git checkout -q topic
        sed -i '45s/.*/stashed/' numbers; echo untracked > untracked; mkdir d; echo deep > d/deep; git stash push -qu
        test ! -e untracked; test ! -e d; test -z "$(git status --porcelain)"
        ! git rebase -q main > /dev/null 2>&1; grep -q '<<<<<<<' numbers
    "#);
    // The next mount goes on amid the conflict.
    world.remount();
    world.sh(r#"
        cd repo; test -d .git/rebase-merge; git checkout -q --theirs numbers; git add numbers
        GIT_EDITOR=true git rebase --continue > /dev/null 2>&1; git stash pop -q
        git commit -qam popped; GIT_SEQUENCE_EDITOR="sed -i '1!s/^pick/squash/'" GIT_EDITOR=true git rebase -qi HEAD~2
    "#);
    the_next_mount_has_all_of(&world, "repo");
    let said = world.sh("cd repo; sed -n '10p;20p;30p;45p' numbers; cat b untracked d/deep; git log --format=%s");
    assert_eq!(
        said,
        "topic 10\ntopic 20\ntopic 30\nstashed\na\nuntracked\ndeep\ntopic 30\ntopic 20\ntopic 10\nmain\nbase\n"
    );
}

fn git_switches_between_branches_of_many_files_and_sees_no_change() {
    let world = mounted();
    world.script(
        "import os\n\
         os.mkdir('repo')\n\
         for at in range(600):\n\
         \x20   os.makedirs(f'repo/d{at % 20}', exist_ok=True)\n\
         \x20   open(f'repo/d{at % 20}/f{at}', 'w').write(f'{at}\\n' * (at % 50))",
        &[],
    );
    world.sh(r#"
        cd repo; git init -q; git add .; git commit -qm one; git checkout -q -b side
        rm -r d1; echo file > d1; rm d2/*; ln -s d3 d2/link; chmod 755 d3/*; for f in d4/* d5/*; do echo side >> $f; done
        git mv d6 d7/below; for f in d8/*; do rm $f; mkdir $f; echo deep > $f/deep; done; mkfifo d9/ignored; echo ignored > .gitignore
        git add -A; git commit -qm side
    "#);
    let look = r#"test -z "$(git status --porcelain)"; git diff-files --exit-code; GIT_INDEX_FILE="$OUT/fresh" git add -A
                  test "$(GIT_INDEX_FILE="$OUT/fresh" git write-tree)" = "$(git rev-parse HEAD^{tree})"; rm "$OUT/fresh""#;
    world.sh(&format!(
        "cd repo; for round in 1 2 3 4; do for to in main side; do git checkout -q $to; {look}; done; done"
    ));
    the_next_mount_has_all_of(&world, "repo");
    world.sh(&format!("cd repo; for to in main side main; do git checkout -q $to; {look}; done"));
    world.remount();
    world
        .sh(&format!("cd repo; {look}; git switch -q side; {look}; git reset -q --hard main; {look}; git clean -qfdx"));
    assert_eq!(
        world.sh("cd repo; git ls-files | wc -l; find . -path ./.git -prune -o -type f -print | wc -l"),
        "600\n600\n"
    );
}

fn git_finds_nothing_to_look_at_again_after_a_remount() {
    let world = mounted();
    // Files older than the index, or else git reads them again for fear of a change within the index's second.
    world.sh(r#"
        git init -q repo; cd repo; git config core.checkStat default; git config core.trustctime true
        mkdir d; for i in $(seq 200); do echo $i > d/f$i; done; ln -s d l; chmod 755 d/f7; ln d/f8 d/f8b
        find . -path ./.git -prune -o -exec touch -h -d '2020-01-02 03:04:05.678901234' {} +
        git add .; git commit -qm one; git status > /dev/null
    "#);
    let index = |world: &World| {
        let meta = fs::metadata(world.at("repo/.git/index")).unwrap();
        let bytes = fs::read(world.at("repo/.git/index")).unwrap();
        (meta.ino(), meta.mtime(), meta.mtime_nsec(), bytes)
    };
    let before = index(&world);
    for _ in 0..2 {
        world.remount();
        assert_eq!(world.sh("cd repo; git diff-files; git status --porcelain"), "");
        assert!(index(&world) == before, "git wrote its index again");
    }
    world.sh("cd repo; git checkout; test -z \"$(git status --porcelain)\"");
    // It would have seen a change that left time and size as they were.
    // By the second of ctime, which is all that this git compares, so that another one has to have begun.
    world.sh("cd repo; until test $(date +%s) -gt $(stat -c %Z d/f100); do sleep 0.05; done; \
         printf 2 | dd of=d/f100 conv=notrunc status=none; touch -d '2020-01-02 03:04:05.678901234' d/f100");
    world.remount();
    assert_eq!(world.sh("cd repo; git status --porcelain"), " M d/f100\n");
}

fn a_git_that_is_ended_takes_its_lock_with_it() {
    let world = mounted();
    world.sh(r#"
        git init -q repo; cd repo; echo 1 > a; git add .; git commit -qm one; echo 2 > a
        # The editor finds git holding the lock, and ends it.
        ! GIT_EDITOR='test -e .git/index.lock && touch "$OUT/held"; kill -TERM $PPID; sleep 9 #' git commit -qa 2> /dev/null
        test -e "$OUT/held"; test ! -e .git/index.lock; git commit -qam two
        # One that nobody holds any more keeps git out until it is removed, in the next mount too.
        echo 3 > a; touch .git/index.lock
    "#);
    world.remount();
    let said = world.try_sh("cd repo; git commit -qam three");
    assert!(!said.status.success() && said.err.contains("index.lock': File exists"), "{}", said.err);
    world.sh("cd repo; rm .git/index.lock; git commit -qam three");
    the_next_mount_has_all_of(&world, "repo");
    assert_eq!(world.sh("cd repo; git log --format=%s; cat a"), "three\ntwo\none\n3\n");
}

fn commits_at_once_leave_a_sound_repository() {
    let world = mounted();
    world.sh(r#"
        git init -q repo; cd repo; git commit -q --allow-empty -m base
        for who in 1 2 3 4; do git worktree add -q -b side$who ../side$who; done
        workers=
        for who in 1 2 3 4; do
            (cd ../side$who; for n in $(seq 12); do echo $who $n > file$n; git add .; git commit -qm $n; git tag $who-$n; done) &
            workers+=" $!"
        done
        for one in $workers; do wait $one; done
        git merge -q side1
    "#);
    the_next_mount_has_all_of(&world, "repo");
    assert_eq!(
        world.sh("cd repo; git tag | wc -l; git log --oneline side3 | wc -l; cat ../side4/file12"),
        "48\n13\n4 12\n"
    );
}

/// It does not wait for all of its writes, but what is left is a moment that was: whole, if not the last.
fn git_finds_a_repository_that_was_after_a_crash_of_the_node() {
    let world = mounted();
    world.sh("git init -q repo; cd repo; echo 0 > n; git add .; git commit -qm 0");
    world.sync();
    let work = r#"
        cd repo; n=$(git log --format=%s -1)
        while n=$((n + 1)); do
            echo $n > n; seq $n > file$((n % 7)); git add .; git commit -qm $n; git tag tag$n; echo $n >> "$OUT/promised"
            test $((n % 9)) != 0 || git gc -q
        done"#;
    for promises in [5, 12, 25] {
        let first = world.sh("git -C repo log --format=%s -1").trim().parse::<u32>().unwrap();
        crash_amid(&world, world.command("bash").args(["-euc", work]), promises);
        // A git that was ended with its node had no chance to take its locks away.
        world.sh("cd repo; find .git -name '*.lock' -delete; rm -f .git/gc.pid; git fsck --full --strict 2>&1; git reset -q --hard");
        let last = world
            .sh("cd repo; test \"$(cat n)\" = \"$(git log --format=%s -1)\"; cat n")
            .trim()
            .parse::<u32>()
            .unwrap();
        assert!(last >= first, "{last} after {first}");
        let commits =
            world.sh("git -C repo log --format=%s").lines().map(|n| n.parse::<u32>().unwrap()).collect::<Vec<_>>();
        assert!(commits.into_iter().eq((0..=last).rev()), "a commit is missing");
    }
    the_next_mount_has_all_of(&world, "repo");
    world.jaxfs(&["verify"]).ok();
}
